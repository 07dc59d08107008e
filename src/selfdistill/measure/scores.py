"""Answer, grade, summarise. Answers are on file, so grading again needs no model."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar, get_args

from ..generation.resume import LazyBackend, complete, sample_id
from ..grading.endings import Ending, ending
from ..grading.traces import answer_of
from ..recipe import Sampling
from ..store.rows import RowFile
from ..tasks import Task
from ..types import Completion, Example, Grade, Prompt, Report, Score
from .stats import RunSpread, Values, mean_interval, pass_at_k, shared_items

T = TypeVar("T")
Bucket = Literal["passed", "failed", "tied", "unjudged", "truncated", "unanswered", "errors"]
NO_ANSWER = "no answer on file"
JUDGED = ("passed", "failed", "tied", "truncated", "unanswered")
GradeRow = dict[str, Any]
"""A line of grades.jsonl: an item's id, bucket and grade, how each of its answers ends, and for a model that thinks
what each think trace looks like."""
Rows = Mapping[str, Sequence[Sequence[GradeRow]]]
"""The graded rows of a task: arm → one entry per training run."""


def answer(
    task: Task,
    items: Sequence[Example],
    backend: LazyBackend,
    sampling: Sampling,
    rows: RowFile,
    progress: Report,
    samples: int = 1,
) -> int:
    """Append the arm's missing answers to `rows`, up to `samples` answers per item. Returns the number of transient
    failures. Equal items are asked once, and an item uses the same random numbers in every arm."""
    different = {item.id: item for item in items}
    asked = [
        Prompt(sample_id(item.id, sample), messages)
        for item in different.values()
        for messages in [task.ask(item)]
        for sample in range(samples)
    ]
    return complete(asked, len(asked), backend, sampling, rows, progress)


def grade(
    task: Task, items: Iterable[Example], rows: RowFile | Mapping[str, dict[str, Any]], samples: int = 1, k: int = 1
) -> Iterator[GradeRow]:
    """One row per item, by the answers on file or those in `rows`, as JSON by their id. With several samples the
    item's value is the unbiased pass@k of the judged samples."""
    saved = ((item, [rows.get(sample_id(item.id, sample)) for sample in range(samples)]) for item in items)
    if "sandbox" in task.needs:
        yield from _several_at_once(lambda job: _grade_item(task, job[0], job[1], k), saved)
    else:
        yield from (_grade_item(task, item, answers, k) for item, answers in saved)


def _grade_item(task: Task, item: Example, answers: Sequence[dict[str, Any] | None], k: int) -> GradeRow:
    graded = [_grade_answer(task, item, row) for row in answers]
    ends = [end for row in graded for end in row["ends"]]
    if len(graded) == 1:
        return graded[0]
    judged = [row for row in graded if row["bucket"] in JUDGED]
    if len(judged) < k:
        return next({**row, "ends": ends} for row in graded if row["bucket"] not in JUDGED)
    passed = sum(row["bucket"] == "passed" for row in judged)
    value = pass_at_k(len(judged), passed, k)
    enough = value >= 0.5
    unanswered = sum(row["bucket"] == "unanswered" for row in judged)
    found = f"{passed}/{len(judged)}" + (f", {unanswered} without an answer" if unanswered else "")
    grade = Grade("pass" if enough else "fail", "samples pass", f"pass@{k}", found, value)
    row = grade_row(item.id, "passed" if enough else _not_passed(judged), grade, ends)
    return {**row, "unanswered": unanswered} if unanswered else row


def _not_passed(judged: Sequence[GradeRow]) -> Bucket:
    """The bucket of an item whose samples do not pass: failed unless all were truncated or unanswered."""
    buckets = {row["bucket"] for row in judged}
    if buckets == {"unanswered"}:
        return "unanswered"
    return "truncated" if buckets <= {"unanswered", "truncated"} else "failed"


def _grade_answer(task: Task, item: Example, saved: dict[str, Any] | None) -> GradeRow:
    completion = Completion.from_json(saved) if saved else Completion.failed(item.id, NO_ANSWER)
    if completion.finish == "error":
        grade = Grade("unjudged", f"backend error: {completion.error}")
    else:
        text = answer_of(completion)
        grade = no_final_answer() if text is None else task.grade(item, text)
        if not (grade.passed and grade.checked) and not _comparable(task, item):
            # No answer to this item could pass, so none may fail: the items of all arms stay the same.
            grade = Grade("unjudged", "nothing to compare in the reference", found=grade.found)
    return grade_row(item.id, bucket(completion, grade), grade, [ending(completion)])


def _comparable(task: Task, item: Example) -> bool:
    """Whether a grader has something to compare an answer with. Programs are: they run the item's own tests."""
    return "sandbox" in task.needs or task.grade(item, item.reference).checked


def no_final_answer() -> Grade:
    """The grade of a reply that ends inside its think trace. Such a reply never passes, even in a task that passes
    refusals."""
    return Grade("fail", "no answer: the reply ends inside its think trace")


def grade_row(item_id: str, where: Bucket, grade: Grade, ends: Sequence[Ending]) -> GradeRow:
    return {"id": item_id, "bucket": where, "grade": grade.to_json(), "ends": [*ends]}


def bucket(completion: Completion, grade: Grade) -> Bucket:
    """The bucket of an item; each item has exactly one. A value over one half passes, one half is a tie. An answer that
    was cut off is passed if its text passes (for example a refusal), else truncated. A reply that ends inside its think
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
    return "truncated" if completion.cut_off else "failed"


IN_ALL_RUNS = "share of items judged in every run"
SAMPLES_UNANSWERED = "samples without an answer"


def summarise(task: Task, runs: Sequence[Iterable[GradeRow]], spread: RunSpread | None = None) -> Score:
    """An arm's score on a task over one or several runs. Items that were not judged are left out. `spread`, between the
    runs, is pooled over the arm's tasks; by default it is estimated from this task alone."""
    by_run = [list(run) for run in runs]
    rows = [row for run in by_run for row in run]
    buckets: Counter[Bucket] = Counter(row["bucket"] for row in rows)
    reasons = Counter(row["grade"]["reason"] for row in rows if row["bucket"] != "passed")
    unanswered = sum(row.get("unanswered", 0) for row in rows)
    valued = [values(run) for run in by_run]
    value = low = high = None
    interval = "none"
    if judged := shared_items(valued):
        value = sum(sum(run[key] for key in judged) / len(judged) for run in valued) / len(valued)
        low, high, interval = mean_interval(valued, spread)
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
            **(task.judge.details(rows) if task.judge else {}),
            **({IN_ALL_RUNS: len(judged) / max(1, *map(len, by_run))} if len(by_run) > 1 else {}),
            **({SAMPLES_UNANSWERED: unanswered} if unanswered else {}),
        },
    )


def errors_fail(rows: Iterable[GradeRow]) -> list[GradeRow]:
    """The rows of a model that is tested against another: a request that its engine refused for good, such as a prompt
    that is too long for it, counts as a wrong answer."""
    return [
        {**row, "bucket": "failed", "grade": {**row["grade"], "outcome": "fail"}} if row["bucket"] == "errors" else row
        for row in rows
    ]


def values(graded: Iterable[Mapping[str, Any]]) -> Values:
    """The value in [0, 1] of each judged item, by the keys of `keyed`."""
    found: dict[tuple[str, int], float] = {}
    for key, row in keyed(graded, lambda row: row["id"]):
        if row["bucket"] in JUDGED:
            value = row["grade"].get("value")
            found[key] = float(row["bucket"] == "passed") if value is None else value
    return found


def keyed(rows: Iterable[T], id_of: Callable[[T], str]) -> Iterator[tuple[tuple[str, int], T]]:
    """Each row with its id and the number of earlier rows of the same id."""
    seen: Counter[str] = Counter()
    for row in rows:
        name = id_of(row)
        yield (name, seen[name]), row
        seen[name] += 1


def _several_at_once(work: Callable[[Any], GradeRow], items: Iterable[Any]) -> Iterator[GradeRow]:
    """`work` on each item with one thread per core. Yields in order and starts only a few items ahead."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started: deque[Future[GradeRow]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                started.append(pool.submit(work, item))
                if len(started) > 4 * workers:
                    yield started.popleft().result()
            while started:
                yield started.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # the caller may stop early
