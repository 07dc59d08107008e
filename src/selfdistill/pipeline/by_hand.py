"""Rows that a person decided about: how a mark changes the response that an arm trains on.

Marks are about the recipe's rewrites, so they hold for each arm that trains on them. `good` accepts the rewrite, as if
its grade had been a pass; `original` and `edit` decide the response, whatever else the arm could choose. Marks are
applied here alone; the page of the rewrites, the card and exports read the result (`store.marks.marked_rewrites`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ..errors import StageError
from ..recipe import ArmConfig
from ..store.experiment import Experiment
from ..store.marks import MARKS, HandMark, marks_counts
from ..types import Completion, Grade, Rewrite
from ..types.wording import counted
from .context import Context
from .rewrite import AnswerSet, answer_sets
from .verify import untrainable_by_hand

AnswerRow = dict[str, Any]
"""A row of rewrites.jsonl. `source` says which answer it is; `original` if it failed."""

REASONS = {"good": "accepted by hand", "original": "original chosen by hand", "edit": "edited by hand"}


def marks_for(context: Context, arm: ArmConfig) -> Mapping[str, HandMark]:
    """The marks that hold for an arm: all or none."""
    return context.marks if context.marks and respects_marks(context, arm) else {}


def respects_marks(context: Context, arm: ArmConfig) -> bool:
    """Whether an arm trains on the recipe's rewrites."""
    return any(map(_is_marked, answer_sets(context, arm)))


def _is_marked(answers: AnswerSet) -> bool:
    return answers.name == ""


class ByHand:
    """The marks at work on the rows of an arm's answer sets. `counts` are the rows that were decided, by decision."""

    def __init__(self, experiment: Experiment, context: Context, arm: ArmConfig) -> None:
        self.marks, self.counts = marks_for(context, arm), Counter[str]()
        self._file, self._context = experiment.path(MARKS), context
        self._place = next((n for n, each in enumerate(answer_sets(context, arm)) if _is_marked(each)), 0)

    @cached_property
    def _fault(self) -> Callable[[Rewrite], str | None]:
        return untrainable_by_hand(self._context)

    def accept(self, rows: Sequence[AnswerRow]) -> list[AnswerRow]:
        """The rows of one example, with its rewrite accepted if it is marked good. Raises StageError if the rewrite
        can't be trained on."""
        row, mark = rows[self._place], self.marks.get(rows[0]["id"])
        if mark is None or mark.choice != "good" or row["source"] != "original":
            return [*rows]
        accepted = self._by_mark(Rewrite.from_json(row), mark)
        return [*rows[: self._place], {**accepted.to_json(), "source": "rewrite"}, *rows[self._place + 1 :]]

    def decide(self, row: AnswerRow) -> AnswerRow:
        """The response to train on, from the one that the arm chose. Raises StageError if an edit can't be trained
        on."""
        if not self.marks:
            return row
        mark = self.marks.get(row["id"])
        row = {**row, "mark": mark.choice if mark else None}
        if mark is None:
            return row
        self.counts[mark.choice] += 1
        if mark.choice == "good":  # accepted before the arm chose
            return row
        marked = self._by_mark(Rewrite.from_json(row), mark).to_json()
        return {**row, **marked} if mark.choice == "original" else {**marked, "source": "edit", "mark": "edit"}

    def _by_mark(self, rewrite: Rewrite, mark: HandMark) -> Rewrite:
        rewrite = by_mark(rewrite, mark)
        if rewrite.grade.passed and (fault := self._fault(rewrite)):
            raise StageError(
                f"{self._file} marks the row {rewrite.example.id} as {mark.choice}, but the text can't be trained on: "
                f"{fault}. Append a line that marks the row as original, edit or none, and run the command again."
            )
        return rewrite

    @property
    def sentence(self) -> str:
        """For example "3 rows by hand: 2 originals, 1 edit"."""
        unused = len(self.marks) - self.counts.total()
        rest = f"; {counted(unused, 'mark')} of rows that the data does not hold" if unused else ""
        return (marks_counts(self.counts) if self.counts else "No row by hand") + rest


def by_mark(rewrite: Rewrite, mark: HandMark) -> Rewrite:
    """The rewrite as a mark wants it, graded by hand; one that passed and is marked good stays as it is. A think trace
    is dropped: nobody has checked it, or it led to another answer."""
    if mark.choice == "original":
        return replace(rewrite, grade=Grade("fail", REASONS["original"]))
    if mark.choice == "good" and rewrite.grade.passed:
        return rewrite
    edited = Completion(rewrite.completion.id, mark.text, "stop") if mark.choice == "edit" else None
    completion = edited or replace(rewrite.completion, reasoning="")
    return Rewrite(rewrite.example, completion, Grade("pass", REASONS[mark.choice]))


def mark_fault(context: Context, rewrite: Rewrite, mark: HandMark) -> str | None:
    """Why a rewrite can't be marked so, None if it can."""
    if mark.choice in ("original", "none"):
        return None
    return untrainable_by_hand(context)(by_mark(rewrite, mark))
