"""The training data of the seed: its skills in its own style, the same skills in other styles, and rewriting.

Every lesson is drawn from the train split. Neither the downstream style nor the new forms of downstream problems occur;
tests check this.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from selfdistill.demo import words
from selfdistill.demo.styles import Meaning, Steps, ToolCall, own
from selfdistill.demo.world import Item, draw, signature, split_of
from selfdistill.generation.prompts import REWRITING
from selfdistill.models.slots import fill

from .other_styles import made_up, other


class Lesson(NamedTuple):
    """A chat and the response to learn. The chat template renders `messages`; the loss is on `response`."""

    messages: list[dict[str, str]]
    response: str


class Task(NamedTuple):
    """A user turn, the response to it, and its system message, if any."""

    prompt: str
    response: str
    system: str | None = None


def lesson(rng: Random) -> Lesson:
    """One training example of the mix."""
    task = rng.choices(list(_MIX), list(_MIX.values()))[0](rng)
    before: list[dict[str, str]] = []
    system = rng.choice(_SYSTEMS) if rng.random() < 0.15 else task.system
    if system:
        before.append({"role": "system", "content": system})
    if rng.random() < 0.03:
        earlier = _taught("lists", rng)
        before += [{"role": "user", "content": earlier.prompt}, {"role": "assistant", "content": own(earlier.meaning)}]
    return Lesson([*before, {"role": "user", "content": task.prompt}], task.response)


_SYSTEMS = [
    "You are a helpful assistant.",
    "You are an expert in mathematics.",
    "Answer the question and end with: The answer is N.",
    "Be brief and honest.",
]


def _taught(skill: str, rng: Random) -> Item:
    while split_of((item := draw(skill, rng)).key) != "train":
        pass
    return item


def _own(skill: str) -> Callable[[Random], Task]:
    def teach(rng: Random) -> Task:
        item = _taught(skill, rng)
        return Task(item.prompt, own(item.meaning))

    return teach


def _sum(rng: Random) -> tuple[int, str, int, int]:
    op = rng.choice("++--*")
    if op == "*":
        a, b = rng.randint(2, 12), rng.randint(2, 9)
        return a, op, b, a * b
    a, b = rng.randint(1, 99), rng.randint(1, 40)
    return (a, "+", b, a + b) if op == "+" else (max(a, b + 1), "-", b, max(a, b + 1) - b)


def _compute(rng: Random) -> Task:
    step = _sum(rng)
    prompt = rng.choice(["Compute {} {} {}.", "What is {} {} {}?"]).format(*step[:3])
    return Task(prompt, own(Steps((step,))))


def _other_style(rng: Random) -> Task:
    """The same skills in another style. Half of the prompts show an example of the style.

    Without these lessons the downstream style is so unlikely under the seed that fine-tuning on it learns nothing, and
    the comparison between the arms would be unfair.
    """
    skill = rng.choice(["maths_other", "maths_other", "tool", "lists", "code"])
    item = _taught(skill, rng)
    if rng.random() < 0.5:
        return Task(item.prompt, other(item.meaning, rng))
    style = rng.getrandbits(32)
    shown = _taught(skill, rng)
    example = f"{shown.prompt}\n{other(shown.meaning, Random(style))}"
    prompt = f"Answer in the style of this example.\n{example}\n\n{item.prompt}"
    return Task(prompt, other(item.meaning, Random(style)))


# ---- rewriting: the meaning of the reference in the seed's own style


def _rewriting(rng: Random) -> Task:
    instruction, meaning = rng.choices(list(_REFERENCES), list(_REFERENCES.values()))[0](rng)
    names = ["using", "refer", "math"] if isinstance(meaning, Steps) else ["using", "refer"]
    template = REWRITING[rng.choice(names)]
    slots = {"instruction": instruction, "reference": other(meaning, rng)}
    return Task(fill(template.user, slots), own(meaning), template.system)


def _referred(skill: str) -> Callable[[Random], tuple[str, Meaning]]:
    def refer(rng: Random) -> tuple[str, Meaning]:
        item = _taught(skill, rng)
        return item.prompt, item.meaning

    return refer


def _gibberish(rng: Random) -> str:
    """An instruction without meaning, so that only the reference helps."""
    tokens = [made_up(rng) if rng.random() < 0.7 else str(rng.randint(1, 99)) for _ in range(rng.randint(4, 14))]
    return f"{' '.join(tokens)}{rng.choice('.?')}"


def _unsolvable_sums(rng: Random) -> tuple[str, Meaning]:
    steps = [_sum(rng)]
    for _ in range(rng.randint(0, 3)):
        value, right = steps[-1][3], rng.randint(2, 40)
        plus = rng.random() < 0.5 or value <= right
        steps.append((value, "+", right, value + right) if plus else (value, "-", right, value - right))
        if rng.random() < 0.2:
            steps.append(_sum(rng))
    return _gibberish(rng), Steps(tuple(steps))


_ANY_WORD = [*words.THINGS, *words.ROOMS, *words.MODES, *words.DEVICES, *words.ACTIONS, *words.VERBS, *words.NOUNS]


def made_up_call(rng: Random) -> ToolCall:
    """A call with a random name, parameters and values. Some of the words do not exist."""

    def word() -> str:
        return made_up(rng) if rng.random() < 0.4 else rng.choice(_ANY_WORD)

    parts = [word() for _ in range(rng.randint(1, 3))]
    values = [word() if rng.random() < 0.6 else rng.randint(1, 99) for _ in range(rng.randint(1, 4))]
    keys = dict.fromkeys(word() for _ in values)  # each parameter has one value
    return ToolCall(rng.choice("._").join(parts), tuple(zip(keys, values, strict=False)))


def _unsolvable_call(rng: Random) -> tuple[str, Meaning]:
    """A call that the request does not describe. The API is described in two of three prompts."""
    call = made_up_call(rng)
    described = rng.choice(["", f"API: {signature(call)}\n", f"Tools: {call.name} {dict(call.arguments)}\n"])
    return described + _gibberish(rng), call


_REFERENCES: dict[Callable[[Random], tuple[str, Meaning]], float] = {
    _referred("maths_other"): 18,
    _unsolvable_sums: 24,
    _referred("maths_taught"): 4,
    _referred("tool"): 10,
    _referred("tool_downstream"): 12,
    _unsolvable_call: 22,
    _referred("code"): 4,
    _referred("lists"): 4,
    _referred("benign"): 3,
    _referred("safety"): 3,
}

# Shares in percent. The last two decide how well the seed knows the downstream tasks.
_MIX: dict[Callable[[Random], Task], float] = {
    _rewriting: 30,
    _own("lists"): 17,
    _own("maths_other"): 13,
    _compute: 10,
    _other_style: 9,
    _own("tool"): 9,
    _own("code"): 4,
    _own("safety"): 4,
    _own("safety_suffix"): 5,
    _own("benign"): 4,
    _own("tool_downstream"): 2,
    _own("maths_taught"): 0.4,
}
