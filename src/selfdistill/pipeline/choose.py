"""Which of the seed's several answers to an example is trained on: the first that passes, or the likeliest.

What is read and written are rows of rewrites.jsonl; `source` in them says which answer it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import ExperimentError
from ..measure.gap import responses
from ..store.rows import RowFile
from ..types import Example, Rewrite

Row = dict[str, Any]


def beside(files: Sequence[RowFile], ids: Iterable[str]) -> Iterator[list[Row]]:
    """The rows of each example, one a file. Raises ExperimentError where a file lacks one."""
    for example_id in ids:
        rows = []
        for file in files:
            row = file.get(example_id)
            if row is None:
                raise ExperimentError(f"{file.path} lacks the row {example_id}; delete it and run again.")
            rows.append(row)
        yield rows


def cascade(rows: Sequence[Row]) -> Row:
    """The first whose answer passed; where none did, the last, and so the original (arXiv 2509.15157)."""
    return next((row for row in rows if row["source"] != "original"), rows[-1])


def best(rows: Sequence[Row], scores: RowFile, model: str) -> Row:
    """Of the answers that passed the one with the least mean nats a token in `scores`, which it gets as `nll`, with its
    `sample`. The first drawn wins a tie; one that could not be scored comes last."""
    passed = [(sample, row) for sample, row in enumerate(rows) if row["source"] != "original"]
    if len(passed) < 2:
        return {**passed[0][1], "sample": passed[0][0]} if passed else rows[0]
    scored = [(_nll(row, scores, model), sample, row) for sample, row in passed]
    nll, sample, row = min(scored, key=lambda found: (math.inf if found[0] is None else found[0], found[1]))
    return {**row, "sample": sample, "nll": nll}


def _nll(row: Row, scores: RowFile, model: str) -> float | None:
    score = scores.get(_answer(row, model).id)
    nll: float | None = score["nll"] if score else None
    return nll


def to_score(rows: Sequence[Row], model: str) -> list[Example]:
    """The answers among which `best` chooses, under the ids that the scores have in the gap's file too."""
    passed = [row for row in rows if row["source"] != "original"]
    return [_answer(row, model) for row in passed] if len(passed) > 1 else []


def _answer(row: Row, model: str) -> Example:
    return responses(Rewrite.from_json(row), model)[-1]
