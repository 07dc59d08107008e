"""Files of `alpaca_eval` (https://github.com/tatsu-lab/alpaca_eval): published annotations read, our answers written
as an outputs.json that it can judge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan, sqrt
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..grading.traces import split
from ..store.rows import RowFile, write_json
from ..types import Completion, Example


@dataclass(frozen=True, slots=True)
class WinRate:
    """`percent` of the comparisons that the model (output_2) won against the baseline (output_1), a draw as half a win,
    and its standard error in points; wins + losses + draws = n. `unjudged` comparisons are in none of them."""

    percent: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    n: int
    unjudged: int


def published_rates(path: Path | str) -> WinRate:
    """The win rate in an annotations.json as the leaderboard has it: the mean of `preference` - 1.

    `preference` is 1 where the baseline won, 2 where the model won, 0 or 1.5 for a draw, something between 1 and 2
    where the annotator is weighted (AlpacaEval 2), null or NaN where it gave none. The standard error is that of the
    mean, NaN for one comparison. Raises DataError.
    """
    path = Path(path)
    judged: list[float] = []
    unjudged = 0
    for index, row in enumerate(_rows(path)):
        preference = _preference(path, index, row)
        if preference is None:
            unjudged += 1
        else:
            judged.append(0.5 if preference == 0 else preference - 1)
    n = len(judged)
    if n == 0:
        raise DataError(f"{path} holds no comparison that was judged; check that it is an annotations.json.")
    mean = sum(judged) / n
    variance = sum((won - mean) ** 2 for won in judged) / (n - 1) if n > 1 else nan
    return WinRate(
        percent=100 * mean,
        standard_error=100 * sqrt(variance / n),
        wins=sum(won > 0.5 for won in judged),
        losses=sum(won < 0.5 for won in judged),
        draws=sum(won == 0.5 for won in judged),
        n=n,
        unjudged=unjudged,
    )


def _rows(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check the file.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); check that it is an annotations.json.") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds no list of comparisons; check that it is an annotations.json.")
    return rows


def _preference(path: Path, index: int, row: Any) -> float | None:
    if not isinstance(row, dict) or "preference" not in row:
        raise DataError(f"{path} index {index}: `preference` is missing; check that it is an annotations.json.")
    preference = row["preference"]
    if preference is None or preference != preference:
        return None
    is_number = isinstance(preference, int | float) and not isinstance(preference, bool)
    if is_number and (preference == 0 or 1 <= preference <= 2):
        return float(preference)
    raise DataError(
        f"{path} index {index}: `preference` is {preference!r}, neither 0, null nor between 1 and 2; mend it."
    )


def write_outputs(path: Path, items: Iterable[Example], answers: RowFile, generator: str) -> tuple[int, int]:
    """Writes the answers on file as an outputs.json, a row for each of `items` in their order under the name
    `generator`. Think traces are left out; a reply that ends inside its trace is an empty output, which loses. Returns
    how many were written, and how many were left out because the engine failed."""
    written: list[dict[str, str]] = []
    left_out = 0
    for item in items:
        row = answers.get(item.id)
        completion = Completion.from_json(row) if row else None
        if completion is None or completion.finish == "error":
            left_out += 1
            continue
        written.append(
            {
                "dataset": str(item.extra.get("dataset", "alpaca_eval")),
                "instruction": item.instruction,
                "output": split(completion.text).answer or "",
                "generator": generator,
            }
        )
    write_json(path, written)
    return len(written), left_out
