"""How a probe's items are drawn, and how a skill becomes a task.

Each level (easy, medium, hard) has 640 different items: 40 by which the level is chosen, and 600 that are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random
from typing import Any

from ...data import OnBad
from ...errors import RecipeError
from ...recipe import DataConfig
from ...recipe.suites import AUTO, STEPS, SUITES
from ...types import Conversation, Grade, Message, Messages
from .. import Task

CHOOSING, REPORTED = 40, 600
_MOST_MISSES = 5_000
# The parts of a level. If something was chosen on a suite, `first` is for choosing and `second` for reporting.
_PARTS = {
    "": slice(CHOOSING, None),
    "choosing": slice(0, CHOOSING),
    "first": slice(CHOOSING, CHOOSING + REPORTED // 2),
    "second": slice(CHOOSING + REPORTED // 2, None),
}


@dataclass(frozen=True)
class ProbeItem:
    """One item: the turns before the answer, a right answer, three wrong answers, and the values that the grader reads.
    `kind` is the sort of item within its skill."""

    kind: str
    prompt: Messages
    gold: str
    wrong: tuple[str, str, str]
    wanted: Mapping[str, Any] = field(default_factory=dict)

    def conversation(self, step: str) -> Conversation:
        extra = {"kind": self.kind, "step": step, **self.wanted}
        return Conversation((*self.prompt, Message("assistant", self.gold)), extra)


Make = Callable[[Random, str], ProbeItem]


def ask(text: str) -> Messages:
    """A prompt of one user turn."""
    return (Message("user", text),)


@lru_cache(maxsize=64)
def draw_items(name: str, make: Make, step: str, count: int = CHOOSING + REPORTED) -> tuple[ProbeItem, ...]:
    """The first `count` items of a level of the task `name`, each prompt once. The same version of the suite draws the
    same items on every machine. Raises ValueError if the skill has too few different prompts."""
    found: dict[Messages, ProbeItem] = {}
    number = 0
    while len(found) < count:
        # A seed that is a text is hashed by SHA-512, so every process draws the same numbers.
        item = make(Random(f"{name}/{SUITES['probes'].version}/{step}/{number}"), step)
        found.setdefault(item.prompt, item)
        number += 1
        if number > len(found) + _MOST_MISSES:
            raise ValueError(f"{name} has only {len(found)} different prompts at the level {step}")
    return tuple(found.values())


def probe(skill: str, label: str, make: Make, grade: Callable[..., Grade], **settings: Any) -> Task:
    """The task `probe-SKILL`, whose items `make` draws. Its split is a level, or `auto`: then the seed's score chooses
    the level. After a dot a split may name a part of the level: choosing, first or second."""
    name = f"probe-{skill}"
    return Task(
        name=name,
        skill=label,
        grade=grade,
        load=partial(_load, name, make),
        test=DataConfig(path=name, split=AUTO),
        steps=STEPS,
        version=SUITES["probes"].version,
        **settings,
    )


def _load(name: str, make: Make, source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The items of a split; those of `auto` are the medium ones until the level is chosen. None of them is bad."""
    step, _, part = source.split.partition(".")
    step = "medium" if step == AUTO else step
    if source.path != name:
        raise RecipeError(f"The task '{name}' makes its own items; leave out its path.")
    if step not in STEPS or part not in _PARTS:
        raise RecipeError(
            f"The task '{name}' has no split '{source.split}'; choose {AUTO}, {', '.join(STEPS)}, or a part of one, "
            "such as medium.first or medium.second."
        )
    count = CHOOSING if part == "choosing" else CHOOSING + REPORTED
    for item in draw_items(name, make, step, count)[_PARTS[part]]:
        yield item.conversation(step)
