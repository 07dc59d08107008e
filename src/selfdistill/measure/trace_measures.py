"""What think traces look like per arm and task, apart from the scores: how many answers have a valid trace, how long
traces are, how much they hedge, and how many answers with a valid trace are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from ..generation.resume import sample_id
from ..grading.trace_states import hedging, trace_state
from ..grading.traces import split
from ..store.rows import RowFile
from ..types import Completion, Example
from .comparisons import Pair, compare
from .row_losses import LossPair, compare_losses, mean_loss
from .scores import GradeRow, Rows, keyed, values
from .stats import Values, mean_interval, shared_items

Compared = Sequence[tuple[str, str, bool]]
"""The pairs to compare: arm, against, and whether both are trained."""
MEANS = ("tokens", "hedges")
"""The measures of a valid trace: its length, and its hedging words per 100 words. The other measures are shares:
`valid` of the answers have a valid trace, and `accuracy` is the score on the items whose answers have one."""


def trace_row(reply: Completion) -> list[dict[str, Any]]:
    """The entry in grades.jsonl for the trace of an answer; empty for an error. `tokens` is None if they were not
    counted."""
    state = trace_state(reply)
    if state is None:
        return []
    hedges, words = hedging(split(reply.text).reasoning)
    return [{"state": state, "tokens": reply.thinking_tokens, "hedges": hedges, "words": words}]


def with_traces(
    graded: Iterable[GradeRow], items: Iterable[Example], answers: RowFile, samples: int = 1
) -> Iterator[GradeRow]:
    """The rows with what each answer's trace looks like, in `traces`; `items` are theirs, in the same order."""
    for row, item in zip(graded, items, strict=True):
        saved = (answers.get(sample_id(item.id, sample)) for sample in range(samples))
        yield {**row, "traces": [trace for each in saved if each for trace in trace_row(Completion.from_json(each))]}


def trace_results(
    tasks: Mapping[str, Rows], compared: Compared, margin: float, given: Collection[str] = ()
) -> dict[str, Any]:
    """`tasks`: for each task and arm the number of answers in each state, and each measure with its 95 % interval.
    `comparisons`: for each measure the paired comparisons; a drop by `margin` or more of a share is ruled out by the
    word "kept". `given` are the arms that are checkpoints. Lengths and hedging are compared on the items whose
    answers have a valid trace in both arms."""
    found: list[dict[str, Any]] = []
    for task, rows in tasks.items():
        arms = {arm: runs for arm, runs in rows.items() if all("traces" in row for run in runs for row in run)}
        if arms:
            found.append({"task": task, "arms": {arm: _of_arm(runs) for arm, runs in arms.items()}})
    comparisons: dict[str, list[dict[str, Any]]] = {}
    for name, read in (("valid", valid), ("accuracy", accuracy)):
        pairs = [Pair(*each, given=each[1] in given) for each in _pairs(tasks, compared, read)]
        comparisons[name] = [row.to_json() for row in compare(pairs, margin)]
    for name in MEANS:
        comparisons[name] = [row for task in tasks for row in _compare_means(task, tasks[task], compared, given, name)]
    return {"tasks": found, "comparisons": comparisons}


def _of_arm(runs: Sequence[Sequence[GradeRow]]) -> dict[str, Any]:
    traces = [trace for run in runs for row in run for trace in row["traces"]]
    counts = Counter(trace["state"] for trace in traces)
    row: dict[str, Any] = {"n": len(traces), "states": dict(counts)}
    row |= {"valid": _share([valid(run) for run in runs]), "accuracy": _share([accuracy(run) for run in runs])}
    return row | {name: _mean([_means(run, name) for run in runs]) for name in MEANS}


def _share(runs: Sequence[Values]) -> dict[str, Any]:
    keys = shared_items(runs)
    if not keys:
        return {"n": 0, "value": None, "low": None, "high": None}
    low, high, _ = mean_interval(runs)
    value = fmean(run[key] for run in runs for key in keys)
    return {"n": len(keys), "value": value, "low": min(low, value), "high": max(high, value)}


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scale = _scale(runs)
    row = mean_loss([_scaled(run, 1 / scale) for run in runs])
    return {
        "n": row["n"],
        **{name: None if row[name] is None else row[name] * scale for name in ("value", "low", "high")},
    }


def _compare_means(
    task: str, rows: Rows, compared: Compared, given: Collection[str], name: str
) -> Iterator[dict[str, Any]]:
    measured = {
        arm: [_means(run, name) for run in runs]
        for arm, runs in rows.items()
        if all("traces" in row for run in runs for row in run)
    }
    scale = _scale([run for runs in measured.values() for run in runs])
    scaled = {arm: [_scaled(run, 1 / scale) for run in runs] for arm, runs in measured.items()}
    pairs = [
        LossPair(arm, other, scaled[arm], scaled[other], trained, arm in given)
        for arm, other, trained in compared
        if arm in scaled and other in scaled
    ]
    for row in compare_losses(pairs):
        sizes = {key: row[key] * scale for key in ("difference", "low", "high")}
        yield {"task": task, **{key: value for key, value in row.items() if key != "tokens"}, **sizes}


def _scale(runs: Iterable[Mapping[str, Any]]) -> float:
    """The mean of all values: the prior of the spread between runs is a share of it."""
    found = [row["nll"] for run in runs for row in run.values()]
    return (fmean(found) if found else 0.0) or 1.0


def _scaled(run: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {key: {**row, "nll": row["nll"] * factor} for key, row in run.items()}


def _pairs(
    tasks: Mapping[str, Rows], compared: Compared, read: Callable[[Sequence[GradeRow]], Values]
) -> Iterator[tuple[str, str, str, list[Values], list[Values], bool]]:
    for task, rows in tasks.items():
        for arm, other, trained in compared:
            if arm in rows and other in rows:
                sides = [[read(run) for run in rows[name]] for name in (arm, other)]
                yield task, arm, other, sides[0], sides[1], trained


# ---- the measures of one run, by the keys of `scores.keyed`


def valid(graded: Iterable[GradeRow]) -> Values:
    """The share of an item's answers that have a valid trace. Errors are left out."""
    return {key: fmean(trace["state"] == "valid" for trace in row["traces"]) for key, row in _keyed(graded)}


def accuracy(graded: Sequence[GradeRow]) -> Values:
    """The values of the items whose answers all have a valid trace."""
    scored = values(graded)
    return {key: scored[key] for key, share in valid(graded).items() if share == 1 and key in scored}


def _means(graded: Iterable[GradeRow], name: str) -> dict[str, Any]:
    """A measure of the valid traces of each item's answers, in the form of `row_losses.Losses`."""
    found = {}
    for (item, place), row in _keyed(graded):
        own = [each for each in (_measured(trace, name) for trace in row["traces"]) if each is not None]
        if own:
            found[f"{item} {place}"] = {"nll": fmean(own), "tokens": 1}
    return found


def _measured(trace: Mapping[str, Any], name: str) -> float | None:
    if trace["state"] != "valid":
        return None
    if name == "tokens":
        return None if trace["tokens"] is None else float(trace["tokens"])
    return 100 * trace["hedges"] / trace["words"] if trace["words"] else None


def _keyed(graded: Iterable[GradeRow]) -> Iterator[tuple[tuple[str, int], GradeRow]]:
    """The rows with traces, by the keys of `scores.keyed`."""
    return ((key, row) for key, row in keyed(graded, lambda row: row["id"]) if row.get("traces"))
