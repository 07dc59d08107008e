"""Sentences about probes: the level of difficulty of each, and those that are uninformative for the seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..types.wording import per_cent
from .findings import JsonRow

_WHY = {
    "floor": "a loss can hardly show",
    "ceiling": "only a large loss can show",
}


def probe_notes(tasks: Sequence[JsonRow], gate: bool = False) -> Iterator[str]:
    """The levels that the seed's score chose, and the probes whose seed is at floor or ceiling at their level. A gate
    has its own rule for these."""
    chosen: dict[str, list[str]] = {}
    for task in tasks:
        if task.get("step_scores"):
            chosen.setdefault(task["step"], []).append(task["task"])
    if chosen:
        parts = "; ".join(f"{step}: {', '.join(names)}" for step, names in chosen.items())
        yield f"Levels of the probes, chosen by the seed's score on items that are not reported: {parts}."
    for bound, why in () if gate else _WHY.items():
        if names := [_with_score(task) for task in tasks if task.get("uninformative") == bound]:
            where = f"the seed is at the {bound} at the level that fits it best, where {why}"
            yield f"Uninformative, as {where}: {', '.join(names)}."


def _with_score(task: JsonRow) -> str:
    """The task, its level, and the score of the seed, which is the arm that chose the level."""
    value = task["seed_score"]
    return f"{task['task']} ({task['step']}, {per_cent(value)})"
