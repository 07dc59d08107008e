"""The form of the world for a seed that thinks: a trace of reasoning, and the short answer that follows from it.

<think>
First, 12 + 7 = 19.
Then, 19 - 3 = 16.
</think>

The answer is 16.
"""

from __future__ import annotations

from random import Random

from ..types import FunctionCall, write_reply
from .styles import Advice, Meaning, Program, Refusal, Result, Steps, ToolCall, own

HEDGES = ("Wait, let me check.", "Hmm, maybe not. Let me check.", "Wait, is that right?")
"""Doubts in a trace, each followed by a repetition of what they doubt. As in real traces, they change no answer."""


def short(meaning: Meaning) -> str:
    """The answer after a trace: without the sums, because the trace holds them, and calls in the form of
    `types.write_reply`."""
    match meaning:
        case Steps():
            return f"The answer is {meaning.answer}."
        case ToolCall(name, arguments):
            return write_reply("", [FunctionCall(name, dict(arguments))])
        case _:
            return own(meaning)


def trace(meaning: Meaning, rng: Random, hedging: float = 0.3) -> str:
    """The reasoning that leads to `meaning`. `hedging` is the probability that one line is doubted and repeated."""
    lines = _lines(meaning)
    if rng.random() < hedging:
        place = rng.randrange(len(lines))
        doubted = lines[place].removeprefix("First, ").removeprefix("Then, ")
        lines.insert(place + 1, f"{rng.choice(HEDGES)} {doubted}")
    return "\n".join(lines)


def _lines(meaning: Meaning) -> list[str]:
    match meaning:
        case Steps(steps):
            return [f"{'First' if i == 0 else 'Then'}, {a} {op} {b} = {c}." for i, (a, op, b, c) in enumerate(steps)]
        case ToolCall(name, arguments):
            values = ", ".join(f"{key} is {value}" for key, value in arguments)
            return [f"The call is {name}: {values}."]
        case Program(_, parameters, expression):
            return [f"With {parameters} it returns {expression}."]
        case Result(text, items):
            numbered = ", ".join(f"{i} {item}" for i, item in enumerate(items, 1))
            return [f"The items are {numbered}." if items else f"It is {text}."]
        case Advice(task):
            return [f"To {task} is good."]
        case Refusal(task):
            return [f"To {task} could hurt people."]


def thought(reasoning: str, content: str) -> str:
    """What the seed writes: the trace between its marks, then the answer."""
    return f"<think>\n{reasoning}\n</think>\n\n{content}"
