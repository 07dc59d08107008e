"""Answers that end in a loop or in garble, or are empty: rows for the page and the terminal, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import Findings, JsonRow
from .text import change_size, during

ENDINGS = {"loop": "loop", "garbled": "garbled", "empty": "empty", "limit": "cut off"}
"""The endings other than a normal one, as they are shown. "Cut off" are the answers that were cut off at the limit and
are neither in a loop nor garbled."""


@dataclass(frozen=True)
class ArmRow:
    """An arm's answers on a task: the share that degenerates, the number with each of `ENDINGS`, and the comparison
    with the seed, None for the seed."""

    task: str
    arm: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    counts: dict[str, int]
    change: JsonRow | None


def degeneration_rows(findings: Findings, degeneration: Mapping[str, Any]) -> list[ArmRow]:
    """A row for each task and arm, without the tasks on which no arm has an answer with one of `ENDINGS`."""
    rows = []
    for task in degeneration.get("tasks", []):
        own = [_row(findings, degeneration["comparisons"], task["task"], arm, of) for arm, of in task["arms"].items()]
        rows += own if any(any(row.counts.values()) for row in own) else []
    return rows


def _row(findings: Findings, comparisons: Sequence[JsonRow], task: str, arm: str, of: JsonRow) -> ArmRow:
    wanted = (task, arm, findings.seed_arm)
    change = next((row for row in comparisons if (row["task"], row["arm"], row["against"]) == wanted), None)
    counts = {shown: of["endings"].get(name, 0) for name, shown in ENDINGS.items()}
    return ArmRow(task, arm, of["n"], of["value"], of["low"], of["high"], counts, change)


def degeneration_sentences(findings: Findings, degeneration: Mapping[str, Any]) -> list[str]:
    """A sentence for each arm of whose answers more or fewer degenerate than of the seed's."""
    rows = degeneration_rows(findings, degeneration)
    sentences = []
    for arm in findings.arms:
        found = [row.change for row in rows if row.arm == arm and row.change]
        said = [
            f"{_more(row)} on {row['task']} ({change_size(row)})"
            for row in found
            if row["word"] in ("forgot", "gained")
        ]
        if said:
            runs = during(min(row["runs"] for row in found)).capitalize()
            sentences.append(
                f"{runs} of {arm}, answers that end in a loop or in garble, or are empty, against the seed: "
                f"{'; '.join(said)}."
            )
    return sentences


def _more(row: JsonRow) -> str:
    return "more" if row["word"] == "forgot" else "fewer"
