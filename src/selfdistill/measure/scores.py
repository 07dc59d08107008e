"""Answer, grade, summarise. Answers are on file, so that grading again needs no model."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, get_args

from ..generation.resume import LazyBackend, complete, sample_id
from ..grading.traces import answer_of
from ..recipe import Sampling
from ..store.rows import RowFile
from ..tasks import Task
from ..types import Completion, Example, Grade, Prompt, Score
from .stats import RunSpread, Values, mean_interval, pass_at_k

Bucket = Literal["passed", "failed", "tied", "unjudged", "truncated", "unanswered", "errors"]
JUDGED = ("passed", "failed", "tied", "truncated", "unanswered")
Row = dict[str, Any]
"""Of one item: its id, bucket and grade."""


def answer(
    task: Task,
    items: Sequence[Example],
    backend: LazyBackend,
    sampling: Sampling,
    rows: RowFile,
    progress: Callable[[int, int], None],
    samples: int = 1,
) -> int:
    """Appends to `rows` the arm's `samples` answers to each item that aren't there yet; gives the number of transient
    failures. Items that are the same are asked once, and an item draws the same random numbers in every arm."""
    different = {item.id: item for item in items}
    asked = [
        Prompt(sample_id(item.id, sample), messages)
        for item in different.values()
        for messages in [task.ask(item)]
        for sample in range(samples)
    ]
    return complete(asked, len(asked), backend, sampling, rows, progress)


def grade(task: Task, items: Iterable[Example], rows: RowFile, samples: int = 1, k: int = 1) -> Iterator[Row]:
    """A row for each item. With several samples its value is the unbiased pass@k of those that could be judged."""
    saved = ((item, [rows.get(sample_id(item.id, sample)) for sample in range(samples)]) for item in items)
    if "sandbox" in task.needs:
        yield from _several_at_once(lambda job: _grade_item(task, job[0], job[1], k), saved)
    else:
        yield from (_grade_item(task, item, answers, k) for item, answers in saved)


def _grade_item(task: Task, item: Example, answers: Sequence[Row | None], k: int) -> Row:
    graded = [_grade_answer(task, item, row) for row in answers]
    if len(graded) == 1:
        return graded[0]
    judged = [row for row in graded if row["bucket"] in JUDGED]
    if len(judged) < k:
        return next(row for row in graded if row["bucket"] not in JUDGED)
    passed = sum(row["bucket"] == "passed" for row in judged)
    value = pass_at_k(len(judged), passed, k)
    enough = value >= 0.5
    unanswered = sum(row["bucket"] == "unanswered" for row in judged)
    found = f"{passed}/{len(judged)}" + (f", {unanswered} without an answer" if unanswered else "")
    grade = Grade("pass" if enough else "fail", "samples pass", f"pass@{k}", found, value)
    row = row_of(item.id, "passed" if enough else _not_passed(judged), grade)
    return {**row, "unanswered": unanswered} if unanswered else row


def _not_passed(judged: Sequence[Row]) -> Bucket:
    """The bucket of an item whose samples don't pass: that of the samples if all were cut off, or have no answer."""
    buckets = {row["bucket"] for row in judged}
    if buckets == {"unanswered"}:
        return "unanswered"
    return "truncated" if buckets <= {"unanswered", "truncated"} else "failed"


def _grade_answer(task: Task, item: Example, saved: Row | None) -> Row:
    completion = Completion.from_json(saved) if saved else no_answer(item.id)
    if completion.finish == "error":
        grade = Grade("unjudged", f"backend error: {completion.error}")
    else:
        text = answer_of(completion)
        grade = no_answer_yet() if text is None else task.grade(item, text)
    return row_of(item.id, bucket(completion, grade), grade)


def no_answer(item_id: str) -> Completion:
    return Completion(item_id, "", "error", error="no answer on file")


def no_answer_yet() -> Grade:
    """The grade on a reply that ends inside its think trace. It is neither right nor a refusal: it never passes."""
    return Grade("fail", "no answer: the reply ends inside its think trace")


def row_of(item_id: str, where: Bucket, grade: Grade) -> Row:
    return {"id": item_id, "bucket": where, "grade": grade.to_json()}


def bucket(completion: Completion, grade: Grade) -> Bucket:
    """Every item is in exactly one. A graded value over one half passes, one half is a tie. An answer that was cut off
    counts as passed where what there is passes (a refusal, say), else as truncated. A reply that ends inside its think
    trace is unanswered."""
    if completion.finish == "error":
        return "errors"
    if grade.outcome == "unjudged":
        return "unjudged"
    if answer_of(completion) is None:
        return "unanswered"
    if grade.value == 0.5:
        return "tied"
    if grade.passed if grade.value is None else grade.value > 0.5:
        return "passed"
    return "truncated" if completion.finish == "length" else "failed"


IN_ALL_RUNS = "share of items judged in every run"
SAMPLES_UNANSWERED = "samples without an answer"


def summarise(task: Task, runs: Sequence[Iterable[Row]], spread: RunSpread | None = None) -> Score:
    """An arm's score on a task, over one run of it or several. Items that couldn't be judged count neither for nor
    against. `spread` between the runs is pooled over the arm's tasks; by default this task alone tells it."""
    buckets: Counter[Bucket] = Counter()
    reasons: Counter[str] = Counter()
    rows = [list(run) for run in runs]
    for row in (row for run in rows for row in run):
        buckets[row["bucket"]] += 1
        if row["bucket"] != "passed":
            reasons[row["grade"]["reason"]] += 1
    unanswered = sum(row.get("unanswered", 0) for run in rows for row in run)
    valued = [values(run) for run in rows]
    shared = [{key: run[key] for key in run if all(key in other for other in valued)} for run in valued]
    value = low = high = None
    interval = "none"
    if shared and shared[0]:
        value = sum(sum(run.values()) / len(run) for run in shared) / len(shared)
        low, high, interval = mean_interval(shared, spread)
        low, high = min(low, value), max(high, value)
    return Score(
        task=task.name,
        metric=task.metric,
        value=value,
        low=low,
        high=high,
        interval=interval,
        n=buckets.total(),
        **{name: buckets[name] for name in get_args(Bucket)},
        reasons=dict(reasons.most_common()),
        details={
            **(task.judge.details([row for run in rows for row in run]) if task.judge else {}),
            **({IN_ALL_RUNS: len(shared[0]) / max(1, *map(len, rows))} if len(rows) > 1 else {}),
            **({SAMPLES_UNANSWERED: unanswered} if unanswered else {}),
        },
    )


def values(graded: Iterable[Mapping[str, Any]]) -> Values:
    """Of the items that could be judged, the value in [0, 1], by id and occurrence."""
    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], float] = {}
    for row in graded:
        if row["bucket"] in JUDGED:
            value = row["grade"].get("value")
            found[row["id"], seen[row["id"]]] = float(row["bucket"] == "passed") if value is None else value
        seen[row["id"]] += 1
    return found


def _several_at_once(work: Callable[[Any], Row], items: Iterable[Any]) -> Iterator[Row]:
    """`work` on each item, in their order, on all cores; a few are begun ahead of the one that is given out."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    begun: deque[Future[Row]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > 4 * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # what nobody waits for any more isn't begun
