"""Rows that can't be used. They stop the run with a list of reasons, or are set aside and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import DataError
from ..recipe import DataConfig
from ..types.wording import counted

_LISTED = 10


class UnusableError(ValueError):
    """The reason why a row can't be used."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: its place, the reason, and its first 2,000 characters."""

    where: str
    reason: str
    text: str

    @classmethod
    def of(cls, where: str, reason: str, text: str) -> BadRow:
        return cls(where, reason, text[:2000].encode("utf-8", "replace").decode())

    def to_json(self) -> dict[str, str]:
        return {"where": self.where, "reason": self.reason, "text": self.text}


PlacedRow = tuple[str, dict[str, Any] | BadRow]
"""The place of a row (file and line, or index), and the row."""
OnBad = Callable[[BadRow], None]
T = TypeVar("T")


def good_rows(
    rows: Iterable[tuple[str, T | BadRow]], config: DataConfig, on_bad: OnBad | None
) -> Iterator[tuple[str, T]]:
    """`rows` without the bad ones.

    With `on_bad_row: skip` each bad row goes to `on_bad`. Otherwise, or without `on_bad` (a skipped row must be
    counted somewhere), a DataError lists the first ten bad rows; it is raised at the tenth bad row or at the end.
    Raises DataError if there is no good row.
    """
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
    reasons = "\n".join(f"  {row.where}: {row.reason}" for row in listed)
    if bad and not skip:
        count = f"{'' if bad < _LISTED else 'at least '}{counted(bad, 'row')}"
        raise DataError(
            f"{config.path}: {count} can't be used:\n{reasons}\nFix the file, or leave these "
            "rows out, counted and set aside, with data.on_bad_row=skip (replayed rows and tasks: `on_bad_row: skip` "
            "in `replay` or the task's entry)."
        )
    if not good and bad:
        raise DataError(f"{config.path}: none of its {bad} rows can be used; fix them or check data.format.\n{reasons}")
    if not good:
        raise DataError(f"{config.path}: it holds no rows; check data.path and data.split.")
