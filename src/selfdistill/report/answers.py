"""The answers browser: what the seed and each run answered to each item, side by side, in one static file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ..evaluate import sample_id
from ..grading.traces import split
from ..rows import parse_line
from ..types import Example, Verdict
from .findings import Findings
from .html import embed_json, render
from .saved import Saved, read_lines
from .svg import arm_slots, marker_icon
from .text import BUCKETS, MAX_TEXT, cut, shorten, visible

MAX_ITEMS = 1_000  # of a task
MAX_BYTES = 30_000_000  # of a page: no more than a browser opens at ease
_MAX_SAMPLES = 10  # shown of an item
_MAX_REASON = 160
_FILES = ("answers.jsonl", "verdicts.jsonl")
_RIGHT_OR_WRONG = {"passed": "right", "failed": "wrong", "truncated": "wrong", "unanswered": "wrong", "tied": "tied"}

_Key = tuple[str, int]  # an item may be there more than once: its id, and how many of it came before
_Row = dict[str, Any]


class Rows:
    """Where the rows of a JSONL file are, by id and occurrence. `parse` raises on what is no such row; these lines are
    counted as `damaged`. A file that isn't there has no rows."""

    def __init__(self, path: Path, parse: Callable[[_Row], Any]) -> None:
        self.path, self.damaged = path, 0
        self._parse = parse
        self._offsets: dict[_Key, int] = {}
        seen: Counter[str] = Counter()
        for _, offset, _, row in read_lines(path) if path.is_file() else ():
            try:
                parse(row or {})
                name = str(row["id"]) if row else ""
            except (KeyError, TypeError, ValueError, AttributeError):
                self.damaged += 1
                continue
            self._offsets[name, seen[name]] = offset
            seen[name] += 1

    def __contains__(self, key: _Key) -> bool:
        return key in self._offsets

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._offsets)

    def get(self, key: _Key) -> Any:
        """The parsed row, or None."""
        if key not in self._offsets:
            return None
        with self.path.open("rb") as file:
            file.seek(self._offsets[key])
            return self._parse(parse_line(file.readline()))


@dataclass(frozen=True)
class TaskFiles:
    """A task's rows on disk. `runs` are the folders of the arms' runs by the names shown, the seed first; `base` is the
    task whose answers are graded, another one than `name` where a judge grades them."""

    directory: Path
    name: str
    base: str
    runs: dict[str, Path]

    @property
    def size(self) -> int:
        folders = [run / "evaluate" / name for run in self.runs.values() for name in {self.name, self.base}]
        return sum(path.stat().st_size for folder in folders for path in folder.glob("*.jsonl"))

    def items(self) -> Rows:
        paths = [self.directory / "items" / f"{name}.jsonl" for name in (self.name, self.base)]
        return Rows(next(filter(Path.is_file, paths), paths[0]), Example.from_json)

    def verdicts(self) -> dict[str, Rows]:
        return {run: Rows(path / "evaluate" / self.name / "verdicts.jsonl", _graded) for run, path in self.runs.items()}

    def answers(self) -> dict[str, Rows]:
        paths = {run: path / "evaluate" / self.base / "answers.jsonl" for run, path in self.runs.items()}
        return {run: Rows(path, _said) for run, path in paths.items()}


def answered_tasks(directory: Path, verdict: _Row) -> list[TaskFiles]:
    """The tasks that some run has answered, in the verdict's order, then those that it doesn't name (yet)."""
    findings = Findings.of(verdict)
    order = {arm: place for place, arm in enumerate([findings.seed_arm, *findings.arms])}
    runs: dict[str, Path] = {visible(path.name): path for path in directory.glob("arms/*") if path.is_dir()}
    arms = sorted(runs, key=lambda run: (order.get(_arm(run), len(order)), run))
    base = {task["task"]: str(task.get("answers_of") or task["task"]) for task in findings.tasks}
    found = {visible(path.parent.name) for path in directory.glob("arms/*/evaluate/*/*") if path.name in _FILES}
    tasks = []
    for name in [*(name for name in base if name in found), *sorted(found - set(base))]:
        wanted = [path / file for path in {Path(name), Path(base.get(name, name))} for file in _FILES]
        there = [arm for arm in arms if any((runs[arm] / "evaluate" / path).is_file() for path in wanted)]
        tasks.append(TaskFiles(directory, name, base.get(name, name), {arm: runs[arm] for arm in there}))
    return tasks


def answers_page(tasks: list[TaskFiles], saved: Saved, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> str:
    """The page's HTML. Of a task with more than `max_items` items it holds a sample that depends on the items' ids
    alone and takes those first on which the runs differ; no more than `max_bytes` of rows in all."""
    findings = Findings.of(saved.verdict)
    shown: dict[str, _Row] = {}
    for number, task in enumerate(sorted(tasks, key=lambda task: (task.size, task.name))):
        share = max_bytes // (len(tasks) - number)  # what small tasks leave, large ones may use
        shown[task.name] = _task(task, max_items, share)
        max_bytes -= sum(map(_bytes, shown[task.name]["rows"]))
    runs = list(dict.fromkeys(run for task in tasks for run in task.runs))
    twins = [(pair["arm"], pair["against"]) for pair in findings.pairs()]
    data = {
        "seed": findings.seed_arm,
        "runs": runs,
        "buckets": BUCKETS,
        "kinds": [_RIGHT_OR_WRONG.get(bucket) for bucket in BUCKETS],
        "pairs": [(run, run.replace(arm, twin, 1)) for arm, twin in twins for run in runs if _arm(run) == arm],
        "tasks": [shown[task.name] for task in tasks],
    }
    return render(
        "answers.html.jinja",
        styles=("base.css", "browser.css", "answers.css"),
        scripts=("browser.js", "answers.js"),
        data=data,
        name=saved.name,
        icons=[marker_icon(slot) for slot in arm_slots(runs, findings.seed_arm).values()],
        max_text=MAX_TEXT,
    )


def _task(task: TaskFiles, max_items: int, max_bytes: int) -> _Row:
    """What the page shows of a task. `patterns` count all of its items: a digit for each run, the place in BUCKETS of
    what became of its answer, or a minus where there is no verdict."""
    items, verdicts, answers = task.items(), task.verdicts(), task.answers()
    keys = dict.fromkeys([*items, *(key for rows in verdicts.values() for key in rows)])
    keys = keys or dict.fromkeys(key for rows in answers.values() for key in rows)
    patterns = {key: "".join(_digit(rows.get(key)) for rows in verdicts.values()) for key in keys}
    places = {key: place for place, key in enumerate(keys, 1)}
    rows: list[_Row] = []
    for key in sorted(keys, key=lambda key: _rank(key, patterns[key]))[:max_items]:
        row = {"row": places[key], "id": cut(key[0]), "pattern": patterns[key], **_item(items.get(key))}
        row["answers"] = [_answer(verdicts[run].get(key), answers[run], key[0]) for run in task.runs]
        max_bytes -= _bytes(row)
        if max_bytes < 0:
            break
        rows.append(row)
    return {
        "name": task.name,
        "runs": list(task.runs),
        "items": len(keys),
        "damaged": sum(rows.damaged for rows in (items, *verdicts.values(), *answers.values())),
        "patterns": dict(Counter(patterns.values()).most_common()),
        "rows": sorted(rows, key=lambda row: row["row"]),
    }


def _rank(key: _Key, pattern: str) -> tuple[bool, bytes]:
    """Items on which the runs differ come first; within each kind it is a draw."""
    kinds = {_RIGHT_OR_WRONG.get(BUCKETS[int(digit)]) for digit in pattern if digit != "-"} - {None}
    return len(kinds) < 2, hashlib.blake2b(repr(key).encode(), digest_size=8).digest()


def _item(item: Example | None) -> _Row:
    if item is None:
        return {"prompt": [], "reference": None}
    prompt = [[cut(message.role), cut(message.content)] for message in item.prompt]
    return {"prompt": prompt, "reference": cut(item.reference)}


def _answer(graded: tuple[int, Verdict] | None, answers: Rows, item_id: str) -> _Row:
    """A run's verdict on an item, and its answers: one, or those of the samples that were drawn."""
    places = [(sample_id(item_id, sample), 0) for sample in range(_MAX_SAMPLES)]
    row: _Row = {
        "texts": [answers.get(place) for place in places if place in answers],
        "more": sum(1 for _ in takewhile(lambda n: (sample_id(item_id, n), 0) in answers, count(_MAX_SAMPLES))),
    }
    if graded:
        verdict = graded[1]
        row |= {"reason": shorten(visible(str(verdict.reason)), _MAX_REASON), "value": verdict.value}
        row |= {"expected": cut(verdict.expected), "found": cut(verdict.found)}
    return row


def _graded(row: _Row) -> tuple[int, Verdict]:
    """The place of a verdict's bucket in BUCKETS, and the verdict. Raises where the row is no verdict's."""
    return BUCKETS.index(row["bucket"]), Verdict.from_json(row["verdict"])


def _said(row: _Row) -> tuple[str | None, ...]:
    """Answer (None if the reply ends inside its think trace), finish and error of a reply, and its think trace if it
    has one; of a choice by likelihood all that could be chosen. Raises where the row is no answer's."""
    reply = split(row["text"])
    text = reply.answer
    if choices := row.get("choices"):
        likelihoods = zip(choices, row["log_likelihoods"], strict=True)
        text = "\n".join(f"{'▸' if choice == text else ' '} {choice}  ({value:.2f})" for choice, value in likelihoods)
    said = cut(text), cut(row.get("finish", "stop")), cut(row.get("error"))
    return (*said, cut(reply.reasoning)) if reply.reasoning else said


def _arm(run: str) -> str:
    """The arm of a run: an arm that is trained with several seeds has the runs arm@seed."""
    return run.partition("@")[0]


def _digit(graded: tuple[int, Verdict] | None) -> str:
    return str(graded[0]) if graded else "-"


def _bytes(row: _Row) -> int:
    return len(embed_json(row).encode())
