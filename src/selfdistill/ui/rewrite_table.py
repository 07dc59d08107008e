"""The rewrites of an experiment, as they arrive and afterwards, and the marks that a person gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from ..errors import ExperimentError
from ..pipeline.by_hand import mark_fault, respects_marks
from ..pipeline.context import Context
from ..pipeline.data import train_examples
from ..pipeline.rewrite import AnswerSet, rewrites
from ..pipeline.verify import graded
from ..reports.kept import UNCHECKED
from ..store.marks import HandMark, append_mark, marks_counts
from ..store.rows import RowFile, parse_line
from ..types import Rewrite
from .bench import Bench

Shown = Literal["all", "accepted", "rejected", "marked"]
ROWS = 20
MOST = 20_000
"""Rows that the table holds. A larger experiment shows its first ones."""


@dataclass(frozen=True)
class TableRow:
    """A rewrite with its place in the data, and the mark that a person gave it."""

    number: int
    rewrite: Rewrite
    mark: HandMark | None

    @property
    def outcome(self) -> str:
        grade = self.rewrite.grade
        return "rejected" if not grade.passed else "accepted" if grade.checked else UNCHECKED

    @property
    def trained(self) -> str:
        """What the row trains on, in words."""
        if self.mark is None or self.mark.choice == "good":
            return "the rewrite" if self.rewrite.grade.passed or self.mark else "the original"
        return "the original" if self.mark.choice == "original" else "the edit"


@dataclass(frozen=True)
class TablePage:
    """One page of the table: `counts` by filter, over all rows; `by_hand` is the sentence about the marks."""

    rows: list[TableRow]
    shown: Shown
    number: int
    pages: int
    counts: Mapping[str, int]
    by_hand: str
    closed: str | None


class RewriteTable:
    """The rewrites of a workbench's experiment. What was read before is kept."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._lock = bench, RLock()
        self._read: tuple[Any, list[Rewrite]] = None, []
        self._arrived: tuple[Any, dict[str, Rewrite]] = None, {}

    def page(self, shown: Shown = "all", number: int = 1) -> TablePage:
        """The page `number` of the rows that `shown` selects. Raises SelfDistillError."""
        context = self._bench.context()
        every = [TableRow(n, each, context.marks.get(each.example.id)) for n, each in enumerate(self._rows(context), 1)]
        selected = {
            "all": every,
            "accepted": [row for row in every if row.rewrite.grade.passed],
            "rejected": [row for row in every if not row.rewrite.grade.passed],
            "marked": [row for row in every if row.mark],
        }
        rows = selected[shown]
        pages = max(-(-len(rows) // ROWS), 1)
        number = min(max(number, 1), pages)
        marks: Counter[str] = Counter(row.mark.choice for row in selected["marked"] if row.mark)
        return TablePage(
            rows=rows[(number - 1) * ROWS : number * ROWS],
            shown=shown,
            number=number,
            pages=pages,
            counts={name: len(found) for name, found in selected.items()},
            by_hand=marks_counts(marks) if marks else "",
            closed=self.closed(context),
        )

    def mark(self, row_id: str, mark: HandMark) -> TableRow:
        """Marks a row. Returns it as it is now. Raises ExperimentError if the row can't be marked so."""
        context = self._bench.context()
        if reason := self.closed(context):
            raise ExperimentError(reason)
        found = next(((n, row) for n, row in enumerate(self._rows(context), 1) if row.example.id == row_id), None)
        if found is None:
            raise ExperimentError(f"There is no rewrite with the id {row_id}.")
        number, rewrite = found
        if mark.choice == "edit" and not mark.text.strip():
            raise ExperimentError("The edit is empty; write the response to train on.")
        if fault := mark_fault(context, rewrite, mark):
            raise ExperimentError(f"This text can't be trained on: {fault}. Use the original, or an edit.")
        append_mark(self._bench.directory, row_id, mark)
        return TableRow(number, rewrite, None if mark.choice == "none" else mark)

    def closed(self, context: Context) -> str | None:
        """Why rows can't be marked any more, None if they can."""
        stages = self._bench.manifest["stages"]
        using = [run.name for run in context.runs.values() if respects_marks(context, run.config)]
        trained = [run for run in using if f"train/{run}" in stages]
        if trained:
            return (
                f"{', '.join(trained)} {'was' if len(trained) == 1 else 'were'} trained with the rows as they are, "
                "so a mark would need another training. Go on in a new directory: the answers of the seed "
                "model and the marks are taken over."
            )
        if self._bench.is_running and "finished" in stages.get("verify", {}):
            return "The run has read the marks and goes on to the training. Stop it to mark more rows."
        return None

    # ---- reading

    def _rows(self, context: Context) -> list[Rewrite]:
        """The verified rewrites; before that those that have arrived, graded here."""
        with self._lock:
            answers = rewrites(context)
            record = self._bench.manifest["stages"].get(answers.verifying.name, {})
            path = self._bench.directory / answers.verifying.output
            if "finished" in record and path.is_file():
                state = path.stat().st_mtime_ns, path.stat().st_size
                if self._read[0] != state:
                    self._read = state, list(islice(_read(path), MOST))
                return self._read[1]
            return self._arriving(context, answers)

    def _arriving(self, context: Context, answers: AnswerSet) -> list[Rewrite]:
        path = self._bench.directory / answers.generating.output
        if not path.is_file() or not self._bench.has_begun:
            return []
        if self._arrived[0] != answers.generating.fingerprint:
            self._arrived = answers.generating.fingerprint, {}
        known = self._arrived[1]
        with RowFile(path, reading=True) as rows:
            if len(rows) > len(known):
                first = {example.id: example for example in train_examples(self._bench.experiment())}
                new = [
                    example
                    for example in islice(first.values(), MOST)
                    if example.id not in known and answers.rewriter.prompt(example).id in rows
                ]
                known |= {each.example.id: each for each in graded(answers.rewriter, context, answers.model, new, rows)}
        return [*known.values()]


def _read(path: Path) -> Iterator[Rewrite]:
    with path.open("rb") as file:
        for line in file:
            yield Rewrite.from_json(parse_line(line))
