"""The training data of the seed: its skills in its own style, the same skills in other styles, and rewriting.

Every lesson is drawn from the train split. Neither the downstream style nor the new forms of downstream problems occur;
tests check this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

from selfdistill.demo import words
from selfdistill.demo.styles import Meaning, Steps, ToolCall, own
from selfdistill.demo.world import Item, draw, signature, split_of
from selfdistill.generation.prompts import REWRITING
from selfdistill.models.slots import fill

from .other_styles import made_up, other


class Lesson(NamedTuple):
    """A chat and the response to learn. The chat template renders `messages` with `arguments`; the loss is on
    `response`."""

    messages: list[dict[str, Any]]
    response: str
    arguments: Mapping[str, Any] = {}


class Task(NamedTuple):
    """A user turn, the meaning of the response, its text if it is not in the seed's own style, and the system message,
    if any."""

    prompt: str
    meaning: Meaning
    text: str | None = None
    system: str | None = None


def lesson(rng: Random) -> Lesson:
    """One training example of the mix."""
    task = rng.choices(list(_MIX), list(_MIX.values()))[0](rng)
    return Lesson(chat_before(task, rng), task.text or own(task.meaning))


def chat_before(task: Task, rng: Random) -> list[dict[str, Any]]:
    """The turns up to the task's, now and then with a system message or an earlier turn."""
    before: list[dict[str, Any]] = []
    system = rng.choice(_SYSTEMS) if rng.random() < 0.15 else task.system
    if system:
        before.append({"role": "system", "content": system})
    if rng.random() < 0.03:
        earlier = taught("lists", rng)
        before += [{"role": "user", "content": earlier.prompt}, {"role": "assistant", "content": own(earlier.meaning)}]
    return [*before, {"role": "user", "content": task.prompt}]


_SYSTEMS = [
    "You are a helpful assistant.",
    "You are an expert in mathematics.",
    "Answer the question and end with: The answer is N.",
    "Be brief and honest.",
]


def taught(skill: str, rng: Random) -> Item:
    while split_of((item := draw(skill, rng)).key) != "train":
        pass
    return item


def own_style(skill: str) -> Callable[[Random], Task]:
    def teach(rng: Random) -> Task:
        item = taught(skill, rng)
        return Task(item.prompt, item.meaning)

    return teach


def _sum(rng: Random) -> tuple[int, str, int, int]:
    op = rng.choice("++--*")
    if op == "*":
        a, b = rng.randint(2, 12), rng.randint(2, 9)
        return a, op, b, a * b
    a, b = rng.randint(1, 99), rng.randint(1, 40)
    return (a, "+", b, a + b) if op == "+" else (max(a, b + 1), "-", b, max(a, b + 1) - b)


def compute(rng: Random) -> Task:
    step = _sum(rng)
    prompt = rng.choice(["Compute {} {} {}.", "What is {} {} {}?"]).format(*step[:3])
    return Task(prompt, Steps((step,)))


def _other_style(rng: Random) -> Task:
    """The same skills in another style. Half of the prompts show an example of the style.

    Without these lessons the downstream style is so unlikely under the seed that fine-tuning on it learns nothing, and
    the comparison between the arms would be unfair.
    """
    return in_other_style(rng.choice(["maths_other", "maths_other", "tool", "lists", "code"]), rng)


def in_other_style(skill: str, rng: Random) -> Task:
    item = taught(skill, rng)
    if rng.random() < 0.5:
        return Task(item.prompt, item.meaning, other(item.meaning, rng))
    style = rng.getrandbits(32)
    shown = taught(skill, rng)
    example = f"{shown.prompt}\n{other(shown.meaning, Random(style))}"
    prompt = f"Answer in the style of this example.\n{example}\n\n{item.prompt}"
    return Task(prompt, item.meaning, other(item.meaning, Random(style)))


# ---- rewriting: the meaning of the reference in the seed's own style


def _rewriting(rng: Random) -> Task:
    return rewriting(_REFERENCES, rng)


Reference = Callable[[Random], tuple[str, Meaning]]
"""Draws an instruction, and the meaning of its reference."""


def rewriting(references: dict[Reference, float], rng: Random) -> Task:
    instruction, meaning = rng.choices(list(references), list(references.values()))[0](rng)
    names = ["using", "refer", "math"] if isinstance(meaning, Steps) else ["using", "refer"]
    template = REWRITING[rng.choice(names)]
    slots = {"instruction": instruction, "reference": other(meaning, rng)}
    return Task(fill(template.user, slots), meaning, None, template.system)


def referred(skill: str) -> Reference:
    def refer(rng: Random) -> tuple[str, Meaning]:
        item = taught(skill, rng)
        return item.prompt, item.meaning

    return refer


def _gibberish(rng: Random) -> str:
    """An instruction without meaning, so that only the reference helps."""
    tokens = [made_up(rng) if rng.random() < 0.7 else str(rng.randint(1, 99)) for _ in range(rng.randint(4, 14))]
    return f"{' '.join(tokens)}{rng.choice('.?')}"


def unsolvable_sums(rng: Random) -> tuple[str, Meaning]:
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


_REFERENCES: dict[Reference, float] = {
    referred("maths_other"): 18,
    unsolvable_sums: 24,
    referred("maths_taught"): 4,
    referred("tool"): 10,
    referred("tool_downstream"): 12,
    _unsolvable_call: 22,
    referred("code"): 4,
    referred("lists"): 4,
    referred("benign"): 3,
    referred("safety"): 3,
}

# Shares in percent. The last two decide how well the seed knows the downstream tasks.
_MIX: dict[Callable[[Random], Task], float] = {
    _rewriting: 30,
    own_style("lists"): 17,
    own_style("maths_other"): 13,
    compute: 10,
    _other_style: 9,
    own_style("tool"): 9,
    own_style("code"): 4,
    own_style("safety"): 4,
    own_style("safety_suffix"): 5,
    own_style("benign"): 4,
    own_style("tool_downstream"): 2,
    own_style("maths_taught"): 0.4,
}
