"""Rows as they are, from wherever they lie, streamed: each is a dict, or a `BadRow` that says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DataError
from ..recipe import DataConfig

BATCH = 1000
_LISTED = 10
MAX_ROW = 1 << 26  # characters; a longer row is a broken file, and must not fill the memory


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: where it is, why, and how it begins (up to 2,000 characters)."""

    where: str
    reason: str
    text: str

    @classmethod
    def of(cls, where: str, reason: str, text: str) -> BadRow:
        return cls(where, reason, text[:2000].encode("utf-8", "replace").decode())

    def to_json(self) -> dict[str, str]:
        return {"where": self.where, "reason": self.reason, "text": self.text}


Row = tuple[str, dict[str, Any] | BadRow]
OnBad = Callable[[BadRow], None]
T = TypeVar("T")


def read_rows(config: DataConfig) -> Iterator[Row]:
    """Every row with where it is (file and line, or index), in order. Memory doesn't grow with the number of rows.

    Raises DataError where the source as a whole can't be read.
    """
    from .files import read_file
    from .folders import read_folder, read_hub

    path = Path(config.path).expanduser()
    try:
        if path.is_dir():
            yield from read_folder(path, config)
        elif path.exists():
            yield from read_file(path)
        elif is_hub_name(config.path):
            yield from read_hub(config)
        else:
            raise DataError(f"There is no data file {path}; check data.path, or give a hub name such as org/name.")
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}); check the file and its permissions."
        ) from error


def read_records(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The readable rows with where they are; bad ones as in `good_rows`."""
    return good_rows(read_rows(config), config, on_bad)


def good_rows(
    rows: Iterable[tuple[str, T | BadRow]], config: DataConfig, on_bad: OnBad | None
) -> Iterator[tuple[str, T]]:
    """`rows` without the bad ones: with `on_bad_row: skip` these go to `on_bad`, else the first ten are listed in a
    DataError, which comes after the good rows before the tenth. Without `on_bad` nobody would know of a skipped row,
    so then too. Raises DataError where no good row is left."""
    skip = config.on_bad_row == "skip" and on_bad is not None
    good, bad, listed = 0, 0, list[BadRow]()
    for where, row in rows:
        if not isinstance(row, BadRow):
            good += 1
            yield where, row
            continue
        bad += 1
        if len(listed) < _LISTED:
            listed.append(row)
        if skip and on_bad is not None:
            on_bad(row)
        elif bad == _LISTED:
            break
    if bad and not skip:
        count = "1 row" if bad == 1 else f"{bad} rows" if bad < _LISTED else f"at least {bad} rows"
        raise DataError(
            f"{config.path}: {count} can't be used:\n{_list(listed)}\nFix the file, or set on_bad_row to skip "
            "(in data, in replay, or in the task's entry), which sets such rows aside and counts them."
        )
    if not good and bad:
        raise DataError(
            f"{config.path}: none of its {bad} rows can be used; fix them, or check data.format.\n{_list(listed)}"
        )
    if not good:
        raise DataError(f"{config.path}: it holds no rows; check data.path and data.split.")


def _list(rows: Iterable[BadRow]) -> str:
    return "\n".join(f"  {row.where}: {row.reason}" for row in rows)


def is_hub_name(name: str) -> bool:
    from .files import has_data_suffix

    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not has_data_suffix(name)


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
