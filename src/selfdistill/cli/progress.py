"""Progress of long work: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import InterruptedRunError
from .show import err

if TYPE_CHECKING:
    from ..types import Progress

_SETTLED = 5.0  # seconds of work before the first estimate of the time left
# Seconds between two lines of one label; with these a run of a week writes half a megabyte.
_OFTEN, _SELDOM, _LONG = 10.0, 60.0, 600.0


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show progress. Raises InterruptedRunError for Ctrl-C."""
    try:
        with _bars() if err.is_terminal else nullcontext(_plain_progress()) as progress:
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
        TextColumn("{task.fields[pace].shown}"),  # rich's own rate covers 1,000 rows, which may be one batch
    )
    with Bars(*columns, console=err) as bars:
        ids: dict[str, Any] = {}
        paces: dict[str, _Pace] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in ids:
                paces[label] = _Pace()
                ids[label] = bars.add_task(label, total=total or None, completed=done, pace=paces[label])
            else:
                paces[label].report(done, total)
            bars.update(ids[label], completed=done, total=total or None)

        yield show


def _plain_progress() -> Progress:
    paces: dict[str, _Pace] = {}
    printed: dict[str, float] = {}

    def show(label: str, done: int, total: int) -> None:
        if label not in paces:
            paces[label] = _Pace()
        else:
            paces[label].report(done, total)
        took, left = paces[label].took, paces[label].left
        ended = 0 < total <= done
        if label in printed and not ended and took - printed[label] < (_OFTEN if took < _LONG else _SELDOM):
            return
        printed[label] = took
        rest = f", {left:.0f} s left" if left is not None and not ended else ""
        count = f"{done}/{total}" if total else str(done)
        err.print(
            f"{label}: {count} ({took:.0f} s{rest})" if done or total else f"{label} …", markup=False, soft_wrap=True
        )

    return show
