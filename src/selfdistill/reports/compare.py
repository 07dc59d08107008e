"""compare.html: the scores of several experiments side by side. A column holds only scores on the same items with
answers that were drawn in the same way."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ExperimentError
from ..store.rows import write_text
from ..types.wording import counted
from .figures import Shown, shown_figure
from .figures.compare_figure import Line, comparison
from .findings import Findings, JsonRow
from .html import render
from .saved import read_experiment, read_lines
from .sentences import headline
from .svg import arm_slots, marker_icon
from .text import LOOKS, WORDS, count, visible

_Cell = tuple[JsonRow, JsonRow | None, bool] | None  # score, change, whether the task is the target
_Items = frozenset[tuple[str, int]]  # each item id with its number of occurrences


@dataclass(frozen=True)
class _Entrant:
    """An experiment; `link` is the path from the page to the experiment's report."""

    name: str
    link: str
    verdict: JsonRow
    findings: Findings
    items: dict[str, _Items | None]  # by task; None if the items are not on file


@dataclass(frozen=True)
class _Column:
    """A task with one set of items, asked in one way, and the experiments that did so."""

    task: str
    metric: str
    items: _Items | None
    asked: JsonRow
    entrants: list[str]


def write_comparison(directories: Sequence[Path], path: Path) -> list[str]:
    """Writes the page to `path`, and returns a sentence for each task that could not be compared. Reads verdict.json
    and items/ of each experiment. Raises ExperimentError if a directory is not an experiment, is damaged or is named
    twice."""
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise ExperimentError("An experiment is named twice; name each directory once.")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = _names([directory.resolve() for directory in directories])
    entrants = [_read(directory, name, path.parent) for directory, name in zip(directories, names, strict=True)]
    columns = _columns(entrants)
    refused = _refused_sentences(columns)
    arms = list(dict.fromkeys(arm for entrant in entrants for arm in entrant.findings.arms))
    seed = entrants[0].findings.seed_arm
    sweeps = [row for entrant in entrants for row in entrant.verdict.get("sweeps", [])]
    slots = arm_slots(arms, seed, sweeps)
    rows = [(entrant, arm, _cells(entrant, arm, columns)) for entrant in entrants for arm in entrant.findings.arms]
    page = render(
        "compare.html.jinja",
        styles=("base.css", "report.css", "compare.css"),
        scripts=("figures.js", "report.js", "tables.js"),
        entrants=entrants,
        headlines={entrant.name: headline(entrant.findings) for entrant in entrants},
        columns=[(column, _label(column, columns)) for column in columns],
        rows=rows,
        figure=_figure(columns, rows, slots),
        icons={arm: marker_icon(slot) for arm, slot in slots.items()},
        words=WORDS,
        looks_of=LOOKS,
        refused=refused,
    )
    write_text(path, page)
    return refused


def _figure(
    columns: Sequence[_Column], rows: Sequence[tuple[_Entrant, str, list[_Cell]]], slots: dict[str, int]
) -> Shown | None:
    panels = [(column.task, _label(column, columns)) for column in columns]
    lines = [Line(entrant.name, arm, [cell[0] if cell else None for cell in cells]) for entrant, arm, cells in rows]
    drawing = comparison(panels, lines, slots)
    return shown_figure("compare", "scores", "Scores of each experiment", drawing) if drawing else None


def _read(directory: Path, name: str, home: Path) -> _Entrant:
    verdict = read_experiment(directory).verdict
    findings = Findings.of(verdict)
    link = quote(os.path.relpath(directory / "report.html", home))
    asked = {visible(path.stem): path for path in directory.glob("items/*.jsonl")}
    items = {task["task"]: _items(asked, task) for task in findings.tasks}
    return _Entrant(name, link, verdict, findings, items)


def _items(asked: dict[str, Path], task: JsonRow) -> _Items | None:
    path = asked.get(task["task"]) or asked.get(task["answers_of"])
    if path is None:
        return None
    return frozenset(Counter(str(row["id"]) for *_, row in read_lines(path) if row and "id" in row).items())


def _names(directories: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many parent folders as needed to make them different."""
    for depth in range(1, max(len(directory.parts) for directory in directories) + 1):
        names = ["/".join(directory.parts[-depth:]) for directory in directories]
        if len(set(names)) == len(names):
            break
    return [visible(name) for name in names]


def _columns(entrants: Sequence[_Entrant]) -> list[_Column]:
    """The columns in the order of their tasks. Items that are not on file get a separate column."""
    columns: dict[Any, _Column] = {}
    for entrant in entrants:
        for task in entrant.findings.tasks:
            items, metric, asked = entrant.items[task["task"]], task["metric"], task["asked"]
            key = (task["task"], metric, entrant.name if items is None else items, json.dumps(asked, sort_keys=True))
            columns.setdefault(key, _Column(task["task"], metric, items, asked, [])).entrants.append(entrant.name)
    order = list(dict.fromkeys(column.task for column in columns.values()))
    return sorted(columns.values(), key=lambda column: order.index(column.task))


def _refused_sentences(columns: Sequence[_Column]) -> list[str]:
    """A sentence for each task that has more than one column."""
    sentences = []
    for task in dict.fromkeys(column.task for column in columns):
        own = [column for column in columns if column.task == task]
        if len(own) > 1:
            said = " and ".join(f"{', '.join(column.entrants)} ({_described(column, own)})" for column in own)
            known = [column.items for column in own if column.items is not None]
            same = len(known) == len(own) and len(set(known)) == 1
            shared = (
                "" if same or len(known) < len(own) else f", {count(len(frozenset.intersection(*known)))} in common"
            )
            how = "asked or scored in different ways in" if same else "different items in"
            sentences.append(f"{task} is not compared in one column: {how} {said}{shared}.")
    return sentences


def _described(column: _Column, own: Sequence[_Column]) -> str:
    """A column's items, and the settings of their answers that differ among `own`."""
    if column.items is None:
        return "not on file"
    differing = [name for name in column.asked if len({json.dumps(other.asked.get(name)) for other in own}) > 1]
    ways = [f"{name} {visible(str(column.asked[name]))}" for name in differing]
    return ", ".join([counted(sum(n for _, n in column.items), "item"), column.metric, *ways])


def _label(column: _Column, columns: Sequence[_Column]) -> str:
    """The experiments of a column, if the task has several columns."""
    alone = sum(other.task == column.task for other in columns) == 1
    return "" if alone else f"as asked by {', '.join(column.entrants)}"


def _cells(entrant: _Entrant, arm: str, columns: Sequence[_Column]) -> list[_Cell]:
    """For each column the arm's score, its change against the seed, and whether the task is the target; None if the
    experiment has no such score."""
    tasks = {task["task"]: task for task in entrant.findings.tasks}
    cells: list[_Cell] = []
    for column in columns:
        task = tasks.get(column.task) if entrant.name in column.entrants else None
        score = task["scores"].get(arm) if task else None
        if task is None or score is None or score["value"] is None:
            cells.append(None)
        else:
            cells.append((score, entrant.findings.change(task, arm), task["role"] == "target"))
    return cells
