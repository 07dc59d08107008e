"""How many of an arm's answers degenerate: they end in a loop or in garble, or are empty. Apart from the scores, since
an answer may be right and loop, and a broken answer refuses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..grading.endings import DEGENERATE
from .comparisons import Comparison
from .scores import GradeRow, Rows, keyed
from .stats import RunSpread, Values, mean_interval, run_spread, shared_items, table_of


def sound(graded: Iterable[GradeRow]) -> Values:
    """Return the share of an item's answers that do not degenerate, by the keys of `scores.keyed`. An item is left out
    if all its answers are errors."""
    found: dict[tuple[str, int], float] = {}
    for key, row in keyed(graded, lambda row: row["id"]):
        ends = [end for end in row["ends"] if end != "error"]
        if ends:
            found[key] = sum(end not in DEGENERATE for end in ends) / len(ends)
    return found


def degeneration(tasks: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Return a row per task: for each arm the share of answers that degenerate with its 95 % interval, and the number
    of answers with each ending. Run-to-run spreads are pooled over the tasks, as for scores."""
    by_arm: dict[str, list[list[Values]]] = {}
    for rows in tasks.values():
        for arm, runs in rows.items():
            by_arm.setdefault(arm, []).append([sound(run) for run in runs])
    spreads = {arm: _spread(values) for arm, values in by_arm.items()}
    return [
        {"task": task, "arms": {arm: _share(runs, spreads[arm]) for arm, runs in rows.items()}}
        for task, rows in tasks.items()
    ]


def _spread(by_task: Sequence[Sequence[Values]]) -> RunSpread | None:
    return run_spread([table_of(runs, shared_items(runs)) for runs in by_task if len(runs) > 1])


def _share(runs: Sequence[Sequence[GradeRow]], spread: RunSpread | None) -> dict[str, Any]:
    values, endings = [sound(run) for run in runs], Counter(end for run in runs for row in run for end in row["ends"])
    row: dict[str, Any] = {"n": endings.total(), "endings": dict(endings), "value": None, "low": None, "high": None}
    if judged := shared_items(values):
        low, high, _ = mean_interval(values, spread)
        value = 1 - sum(sum(run[key] for key in judged) / len(judged) for run in values) / len(values)
        row |= {"value": value, "low": min(1 - high, value), "high": max(1 - low, value)}
    return row


def of_degenerate(row: Comparison) -> Comparison:
    """Return a comparison of sound answers as one of answers that degenerate: a gain in the first is a drop in the
    second. The word stays: "forgot" if more answers degenerate."""
    low, high = -row.high, -row.low
    return replace(row, gained=row.lost, lost=row.gained, difference=-row.difference, low=low, high=high)
