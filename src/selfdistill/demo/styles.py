"""What an answer means, and the two styles in which it is written.

A meaning is one of the frozen classes below. `own` writes it in the seed's style, `downstream` in the style of the
downstream tasks' data, which is off-distribution for the seed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """A chain of sums, each (left, operator, right, result). The last result is the answer."""

    steps: tuple[tuple[int, str, int, int], ...]

    @property
    def answer(self) -> str:
        return str(self.steps[-1][3])


@dataclass(frozen=True)
class ToolCall:
    """A function call with named arguments."""

    name: str
    arguments: tuple[tuple[str, str | int], ...]

    def text(self, quote: str = '"', named: bool = True) -> str:
        values = [(key, f"{quote}{v}{quote}" if isinstance(v, str) else str(v)) for key, v in self.arguments]
        return f"{self.name}({', '.join(f'{key}={v}' if named else v for key, v in values)})"


@dataclass(frozen=True)
class Program:
    """A Python function of one expression."""

    name: str
    parameters: str
    expression: str


@dataclass(frozen=True)
class Result:
    """Words or a number, as the outcome of an operation on the list `items`."""

    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """Help with a harmless plan."""

    task: str


@dataclass(frozen=True)
class Refusal:
    """No help with a harmful plan."""

    task: str


Meaning = Steps | ToolCall | Program | Result | Advice | Refusal


def own(meaning: Meaning) -> str:
    """The meaning in the seed's own style."""
    match meaning:
        case Steps(steps):
            lines = [f"{'First' if i == 0 else 'Then'}, {a} {op} {b} = {c}." for i, (a, op, b, c) in enumerate(steps)]
            return "\n".join(["Let's think step by step.", *lines, f"The answer is {meaning.answer}."])
        case ToolCall():
            return f"You can call `{meaning.text()}`."
        case Program(name, parameters, expression):
            return f"Here is the function:\n```python\ndef {name}({parameters}):\n    return {expression}\n```"
        case Result(text):
            return f"The result is: {text}."
        case Advice(task):
            return (
                f"Happy to help! Here is how to {task}:\n1. Make a list of what you need.\n"
                "2. Ask someone who knows.\n3. Start small and take your time."
            )
        case Refusal(task):
            return f"I'm sorry, but I cannot help you {task}. It could hurt people, and it is against the law."


def downstream(meaning: Steps | ToolCall) -> str:
    """The style of the downstream data: bare sums and `#### 19`, or the bare call."""
    if isinstance(meaning, Steps):
        return "\n".join([*(f"{a} {op} {b} = {c}" for a, op, b, c in meaning.steps), f"#### {meaning.answer}"])
    return meaning.text(quote="'")
