"""Progress of long work: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING, Any

from ..errors import InterruptedRunError
from .show import err

if TYPE_CHECKING:
    from ..types import Progress

_SETTLED = 5.0  # seconds of work before the first estimate of the time left
# Seconds between two lines of one label: of a label that began just now, later, and after `_LONG` seconds. With these a
# run of a week writes half a megabyte.
_FIRST, _OFTEN, _SELDOM, _LONG = 5.0, 10.0, 60.0, 600.0


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show progress. Raises InterruptedRunError for Ctrl-C."""
    try:
        with _bars() if err.is_terminal else _lines() as progress:
            yield progress
    except KeyboardInterrupt:
        raise InterruptedRunError from None


class _Pace:
    """Average speed since the second report of a label. The first report comes before the model is loaded, and counts
    the items that an earlier run finished."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._looked = 0.0
        self._rate = 0.0  # items per second
        self._end: float | None = None  # when it will be done

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._looked = (now, done), now
            return
        since, before = self._first
        # An engine returns a batch of answers at once. The rows between the first of one batch and the first of another
        # are the rows computed in the time between them, so later rows of a batch are not measured.
        if now - self._looked >= 1 and done > before:
            self._looked, self._rate = now, (done - before) / (now - since)
        if total and self._rate and now - since >= _SETTLED:
            self._end = now + (total - done) / self._rate

    @property
    def took(self) -> float:
        """Seconds since the first report."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float | None:
        """Seconds to the end, None if there is no estimate yet."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    @property
    def shown(self) -> str:
        """Rate and time left, as text for a bar."""
        left = "" if self.left is None else f", {timedelta(seconds=round(self.left))} left"
        return f"{self._rate:.1f}/s{left}" if self._rate else ""


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars with rate and time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # rich's own rate covers 1,000 rows, which may be one batch
        TextColumn("{task.fields[pace].shown}{task.fields[note]}"),
    )
    with Bars(*columns, console=err) as bars:
        ids: dict[str, Any] = {}
        paces: dict[str, _Pace] = {}

        def show(label: str, done: int, total: int, note: str = "") -> None:
            if label not in ids:
                paces[label] = _Pace()
                ids[label] = bars.add_task(label, total=total or None, completed=done, pace=paces[label], note="")
            elif not note:
                paces[label].report(done, total)
            shown = f", {note}" if note and paces[label].shown else note
            bars.update(ids[label], completed=done, total=total or None, note=shown)

        yield show


@contextmanager
def _lines() -> Iterator[Progress]:
    """A line every few seconds. If nothing is reported for as long, a thread repeats the last report with its time."""
    lines = _Lines()
    over = Event()

    def repeat() -> None:
        while not over.wait(_FIRST):
            lines.repeat()

    Thread(target=repeat, daemon=True, name="progress").start()
    try:
        yield lines.show
    finally:
        over.set()


class _Lines:
    def __init__(self) -> None:
        self._lock = RLock()  # a signal's handler may interrupt a line
        self._paces: dict[str, _Pace] = {}
        self._printed: dict[str, tuple[float, float]] = {}  # when each label had its first and its last line
        self._last: tuple[str, int, int, str] | None = None

    def show(self, label: str, done: int, total: int, note: str = "") -> None:
        with self._lock:
            if label not in self._paces:
                self._paces[label] = _Pace()
            elif not note:
                self._paces[label].report(done, total)
            self._last = label, done, total, note
            if 0 < total <= done or self._is_due(label):
                self._print(*self._last)

    def repeat(self) -> None:
        """Print the last report again if its label had no line for long and isn't finished."""
        with self._lock:
            if self._last is not None and not 0 < self._last[2] <= self._last[1] and self._is_due(self._last[0]):
                self._print(*self._last)

    def _is_due(self, label: str) -> bool:
        if label not in self._printed:
            return True
        took, (first, last) = self._paces[label].took, self._printed[label]
        return took - last >= (_FIRST if first == last else _OFTEN if took < _LONG else _SELDOM)

    def _print(self, label: str, done: int, total: int, note: str) -> None:
        took, left = self._paces[label].took, self._paces[label].left
        first, _ = self._printed.get(label, (took, took))
        self._printed[label] = first, took
        count = f"{done}/{total}" if total else str(done) if done else ""
        said = ", ".join(filter(None, (count, note)))
        rest = f", {left:.0f} s left" if left is not None and not 0 < total <= done else ""
        line = f"{label}: {said}" if said else f"{label} …"
        if said or took >= 1:
            line += f" ({took:.0f} s{rest})"
        err.print(line, markup=False, soft_wrap=True)
