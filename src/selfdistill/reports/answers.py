"""The browser of answers: the answers of the seed and of each run to each item, side by side, in one static file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..generation.resume import sample_id
from ..grading.traces import split
from ..store.rows import parse_line
from ..types import Example, Grade
from ..types.wording import minus
from .findings import Findings, JsonRow
from .forgotten_table import forgotten_rows
from .html import embed_json, render
from .saved import Saved, read_lines
from .svg import arm_slots, marker_icon
from .text import BUCKETS, MAX_TEXT, cut, page_turns, shorten, visible

MAX_ITEMS = 1_000  # per task
MAX_BYTES = 30_000_000  # per page; browsers are slow to open larger pages
_MAX_SAMPLES = 10  # per item
_MAX_REASON = 160
_TOGETHER = 100  # items that are read from each file at a time
_FILES = ("answers.jsonl", "grades.jsonl")
_RIGHT_OR_WRONG = {"passed": "right", "failed": "wrong", "truncated": "wrong", "unanswered": "wrong", "tied": "tied"}

_Key = tuple[str, int]  # an item may occur more than once: its id, and the number of earlier occurrences


class Rows:
    """The rows of a JSONL file by id and occurrence. Only the place of each row and the result of `keep` stay in
    memory.

    Lines on which `parse` raises are counted as `damaged`. A missing file has no rows.
    """

    def __init__(
        self, path: Path, parse: Callable[[JsonRow], Any], keep: Callable[[Any], str] = lambda row: ""
    ) -> None:
        self.path, self.damaged = path, 0
        self._parse = parse
        self._places: dict[_Key, tuple[int, str]] = {}
        seen: Counter[str] = Counter()
        for _, offset, _, row in read_lines(path) if path.is_file() else ():
            try:
                kept = keep(parse(row or {}))
                name = str(row["id"]) if row else ""
            except (KeyError, TypeError, ValueError, AttributeError):
                self.damaged += 1
                continue
            self._places[name, seen[name]] = offset, kept
            seen[name] += 1

    def __contains__(self, key: _Key) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._places)

    def kept(self, key: _Key) -> str | None:
        """The result of `keep` for the row, or None."""
        return self._places[key][1] if key in self._places else None

    def read(self, keys: Iterable[_Key]) -> dict[_Key, Any]:
        """The parsed rows of the keys that the file has."""
        places = sorted((self._places[key][0], key) for key in keys if key in self._places)
        if not places:
            return {}
        rows = {}
        with self.path.open("rb") as file:
            for offset, key in places:
                file.seek(offset)
                rows[key] = self._parse(parse_line(file.readline()))
        return rows


@dataclass(frozen=True)
class TaskFiles:
    """The files of a task. `runs` are the folders of the runs by their shown names, the seed first. `base` is the task
    whose answers are graded; it differs from `name` if a judge grades the answers of another task."""

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

    def grades(self) -> dict[str, Rows]:
        paths = {run: path / "evaluate" / self.name / "grades.jsonl" for run, path in self.runs.items()}
        return {run: Rows(path, _graded, lambda graded: str(graded[0])) for run, path in paths.items()}

    def answers(self) -> dict[str, Rows]:
        paths = {run: path / "evaluate" / self.base / "answers.jsonl" for run, path in self.runs.items()}
        return {run: Rows(path, _said) for run, path in paths.items()}


def answered_tasks(directory: Path, verdict: JsonRow) -> list[TaskFiles]:
    """The tasks with answers: those of the verdict in its order, then the tasks that the verdict does not name yet."""
    findings = Findings.of(verdict)
    order = {arm: place for place, arm in enumerate([findings.seed_arm, *findings.arms])}
    runs: dict[str, Path] = {visible(path.name): path for path in directory.glob("arms/*") if path.is_dir()}
    arms = sorted(runs, key=lambda run: (order.get(_arm(run), len(order)), run))
    base = {task["task"]: task["answers_of"] for task in findings.tasks}
    found = {visible(path.parent.name) for path in directory.glob("arms/*/evaluate/*/*") if path.name in _FILES}
    tasks = []
    for name in [*(name for name in base if name in found), *sorted(found - set(base))]:
        wanted = [path / file for path in {Path(name), Path(base.get(name, name))} for file in _FILES]
        there = [arm for arm in arms if any((runs[arm] / "evaluate" / path).is_file() for path in wanted)]
        tasks.append(TaskFiles(directory, name, base.get(name, name), {arm: runs[arm] for arm in there}))
    return tasks


def answers_page(tasks: list[TaskFiles], saved: Saved, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> str:
    """The HTML of the page, with at most `max_items` items per task and `max_bytes` of rows in all. The sample of a
    larger task depends on the ids of the items alone and starts with the items on which the runs differ."""
    findings = Findings.of(saved.verdict)
    shown: dict[str, JsonRow] = {}
    for number, task in enumerate(sorted(tasks, key=lambda task: (task.size, task.name))):
        share = max_bytes // (len(tasks) - number)  # large tasks may use the share that small tasks leave
        shown[task.name] = _task(task, max_items, share)
        max_bytes -= sum(map(_bytes, shown[task.name]["rows"]))
    runs = list(dict.fromkeys(run for task in tasks for run in task.runs))
    arms = list(dict.fromkeys([*findings.arms, *map(_arm, runs)]))
    slots = arm_slots(arms, findings.seed_arm, saved.verdict.get("sweeps", []))
    pairs = [(pair["arm"], pair["against"]) for pair in findings.pairs()]
    data = {
        "seed": findings.seed_arm,
        "runs": runs,
        "buckets": BUCKETS,
        "kinds": [_RIGHT_OR_WRONG.get(bucket) for bucket in BUCKETS],
        "pairs": [(run, run.replace(arm, other, 1)) for arm, other in pairs for run in runs if _arm(run) == arm],
        "tasks": [shown[task.name] for task in tasks],
        "start": _start(findings, {task.name: list(task.runs) for task in tasks}),
    }
    return render(
        "answers.html.jinja",
        styles=("base.css", "browser.css", "answers.css"),
        scripts=("browser.js", "answers.js"),
        data=data,
        name=saved.name,
        icons=[marker_icon(slots[_arm(run)]) for run in runs],
        max_text=MAX_TEXT,
    )


def _start(findings: Findings, answered: dict[str, list[str]]) -> dict[str, str]:
    """What the page shows first: the items of the largest loss that is shown, of an arm of the headline if these forgot
    something; nothing if no arm forgot a task whose answers are on file."""
    lost = [row for row in forgotten_rows(findings, {}, answered) if row["answers"]]
    leading = [row for row in lost if row["arm"] in findings.headline_arms()]
    worst = min(leading or lost, key=lambda row: row["change"]["difference"], default=None)
    return dict(parse_qsl(worst["answers"])) if worst else {}


def _task(task: TaskFiles, max_items: int, max_bytes: int) -> JsonRow:
    """The part of the page about a task. `patterns` count all items by their outcomes: for each run the place of the
    bucket in BUCKETS as a digit, or a minus without a grade."""
    items, grades, answers = task.items(), task.grades(), task.answers()
    keys = dict.fromkeys([*items, *(key for rows in grades.values() for key in rows)])
    keys = keys or dict.fromkeys(key for rows in answers.values() for key in rows)
    patterns = {key: "".join(rows.kept(key) or "-" for rows in grades.values()) for key in keys}
    places = {key: place for place, key in enumerate(keys, 1)}
    ranked = sorted(keys, key=lambda key: _rank(key, patterns[key]))[:max_items]
    rows: list[JsonRow] = []
    for row in _shown(ranked, items, grades, answers):
        row |= {"row": places[row["key"]], "pattern": patterns[row.pop("key")]}
        max_bytes -= _bytes(row)
        if max_bytes < 0:
            break
        rows.append(row)
    return {
        "name": task.name,
        "runs": list(task.runs),
        "items": len(keys),
        "damaged": sum(rows.damaged for rows in (items, *grades.values(), *answers.values())),
        "patterns": dict(Counter(patterns.values()).most_common()),
        "rows": sorted(rows, key=lambda row: row["row"]),
    }


def _shown(
    keys: Sequence[_Key], items: Rows, grades: Mapping[str, Rows], answers: Mapping[str, Rows]
) -> Iterator[JsonRow]:
    """Each item with the answers of every run. A few items at a time are read from each file."""
    for start in range(0, len(keys), _TOGETHER):
        some = keys[start : start + _TOGETHER]
        asked = items.read(some)
        graded = {run: rows.read(some) for run, rows in grades.items()}
        said = {run: rows.read(chain.from_iterable(_samples(key[0]) for key in some)) for run, rows in answers.items()}
        for key in some:
            own = [_answer(graded[run].get(key), said[run], rows, key[0]) for run, rows in answers.items()]
            yield {"key": key, "id": cut(key[0]), **_item(asked.get(key)), "answers": own}


def _samples(item_id: str) -> list[_Key]:
    return [(sample_id(item_id, sample), 0) for sample in range(_MAX_SAMPLES)]


def _rank(key: _Key, pattern: str) -> tuple[bool, bytes]:
    """Items on which the runs differ come first; the order is random otherwise."""
    kinds = {_RIGHT_OR_WRONG.get(BUCKETS[int(digit)]) for digit in pattern if digit != "-"} - {None}
    return len(kinds) < 2, hashlib.blake2b(repr(key).encode(), digest_size=8).digest()


def _item(item: Example | None) -> JsonRow:
    if item is None:
        return {"prompt": [], "reference": None}
    return {"prompt": page_turns(item.prompt), "reference": cut(item.reference)}


def _answer(graded: tuple[int, Grade] | None, said: Mapping[_Key, Any], answers: Rows, item_id: str) -> JsonRow:
    """A run's grade of an item, and its answer or, with several samples, its answers."""
    row: JsonRow = {
        "texts": [said[place] for place in _samples(item_id) if place in said],
        "more": sum(1 for _ in takewhile(lambda n: (sample_id(item_id, n), 0) in answers, count(_MAX_SAMPLES))),
    }
    if graded:
        grade = graded[1]
        row |= {"reason": shorten(visible(str(grade.reason)), _MAX_REASON), "value": grade.value}
        row |= {"expected": cut(grade.expected), "found": cut(grade.found)}
    return row


def _graded(row: JsonRow) -> tuple[int, Grade]:
    """The place of the bucket in BUCKETS, and the grade. Raises if the row is not a row of grades.jsonl."""
    return BUCKETS.index(row["bucket"]), Grade.from_json(row["grade"])


def _said(row: JsonRow) -> tuple[str | None, ...]:
    """Answer (None if the reply ends inside its think trace), finish and error of a reply, and its think trace if there
    is one. For a choice by likelihood, the answer lists all choices. Raises if the row is not a row of
    answers.jsonl."""
    reply = split(row["text"])
    text = reply.answer
    if choices := row.get("choices"):
        likelihoods = zip(choices, (minus(f"{value:.2f}") for value in row["log_likelihoods"]), strict=True)
        text = "\n".join(f"{'▸' if choice == text else ' '} {choice}  ({value})" for choice, value in likelihoods)
    said = cut(text), cut(row.get("finish", "stop")), cut(row.get("error"))
    return (*said, cut(reply.reasoning)) if reply.reasoning else said


def _arm(run: str) -> str:
    """The arm of a run. An arm that is trained with several seeds has the runs arm@seed."""
    return run.partition("@")[0]


def _bytes(row: JsonRow) -> int:
    return len(embed_json(row).encode())
