"""Files of `alpaca_eval` (https://github.com/tatsu-lab/alpaca_eval): reads published annotations.json files, and writes
our answers as an outputs.json that `alpaca_eval` can judge."""

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

_CHECK = "check that it is an annotations.json"


@dataclass(frozen=True, slots=True)
class WinRate:
    """`percent` of the comparisons that the model won against the baseline (a draw counts as half a win), and its
    standard error in percentage points. wins + losses + draws = n; `unjudged` comparisons are not in n."""

    percent: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    n: int
    unjudged: int


def published_rates(path: Path | str) -> WinRate:
    """The win rate of an annotations.json, computed as on the leaderboard: the mean of `preference` - 1.

    `preference` is 1 if the baseline (output_1) won, 2 if the model (output_2) won, and 0 or 1.5 for a draw. A weighted
    annotator (AlpacaEval 2) writes values between 1 and 2. Null or NaN means no judgement. The standard error is that
    of the mean, NaN for a single comparison. Raises DataError.
    """
    path = Path(path)
    preferences = [_preference(path, index, row) for index, row in enumerate(_rows(path))]
    won = [0.5 if value == 0 else value - 1 for value in preferences if value is not None]
    n = len(won)
    if n == 0:
        raise DataError(f"{path} has no judged comparison; {_CHECK}.")
    mean = sum(won) / n
    variance = sum((value - mean) ** 2 for value in won) / (n - 1) if n > 1 else nan
    return WinRate(
        percent=100 * mean,
        standard_error=100 * sqrt(variance / n),
        wins=sum(value > 0.5 for value in won),
        losses=sum(value < 0.5 for value in won),
        draws=sum(value == 0.5 for value in won),
        n=n,
        unjudged=len(preferences) - n,
    )


def _rows(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check the file and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); {_CHECK}.") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} is not a list of comparisons; {_CHECK}.")
    return rows


def _preference(path: Path, index: int, row: Any) -> float | None:
    if not isinstance(row, dict) or "preference" not in row:
        raise DataError(f"{path} index {index}: `preference` is missing; {_CHECK}.")
    value = row["preference"]
    if value is None or value != value:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or 1 <= value <= 2):
        return float(value)
    raise DataError(
        f"{path} index {index}: `preference` is {value!r}, which is not 0, null or a number from 1 to 2; {_CHECK}."
    )


def write_outputs(path: Path, items: Iterable[Example], answers: RowFile, generator: str) -> tuple[int, int]:
    """Writes the saved answers as an outputs.json, one row per item, in the order of `items`, under the name
    `generator`.

    Think traces are left out. A reply that ends within its trace is an empty output, which loses. Returns the number of
    rows written, and the number of items left out because the engine failed.
    """
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
