"""Long work as it goes: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import InterruptedRunError
from .show import err

if TYPE_CHECKING:
    from ..completions import Progress


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Shows long work, and says what an interruption leaves."""
    try:
        with _bars() if err.is_terminal else nullcontext(_plain_progress()) as progress:
            yield progress
    except KeyboardInterrupt:
        raise InterruptedRunError("Stopped: what was done is kept, and the same command goes on from there.") from None


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars with rate and time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err) as bars:
        ids: dict[str, Any] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in ids:
                ids[label] = bars.add_task(label, total=total or None, rate="")
            bar = bars.tasks[ids[label]]
            rate = f"{bar.speed:.1f}/s" if bar.speed else ""
            bars.update(ids[label], completed=done, total=total or None, rate=rate)

        yield show


def _plain_progress() -> Progress:
    started: dict[str, float] = {}
    told: dict[str, float] = {}

    def show(label: str, done: int, total: int) -> None:
        now = time.monotonic()
        started.setdefault(label, now)
        if done < total and now - told.get(label, -60.0) < 10:
            return
        told[label] = now
        took = now - started[label]
        left = f", {took * (total - done) / done:.0f} s left" if took > 5 and 0 < done < total else ""
        err.print(f"{label}: {done}/{total} ({took:.0f} s{left})" if total else f"{label} …", markup=False)

    return show
