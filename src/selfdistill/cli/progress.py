"""Progress of long work: finished stages are plain lines; the active stage is shown below them on a terminal, and has a
line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING

from ..types import WHOLE
from .log_file import interrupted
from .show import err

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

_SETTLED = 5.0  # seconds of work before the first estimate of the time left
# Seconds between two lines of one stage, and after `_LONG` seconds. With these a run of a week writes half a megabyte.
_OFTEN, _SELDOM, _LONG = 10.0, 60.0, 600.0
_BAR = 24  # characters
_SOON, _MINUTE = 10.0, 60.0  # a time left below `_SOON` is "less than a minute"


@contextmanager
def show_progress() -> Iterator[Display]:
    """Show progress. Raises InterruptedRunError for Ctrl-C."""
    shown = Display(lines=not err.is_terminal)
    try:
        with _live(shown) if err.is_terminal else _repeating(shown):
            try:
                yield shown
            finally:
                shown.end()
    except KeyboardInterrupt:
        raise interrupted() from None


class _Pace:
    """Average speed since the second report of a label. The first report comes before the model is loaded, and counts
    the items that an earlier run finished."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._looked = self._due = 0.0  # when the rate was last measured, and seconds between two measurements
        self.rate = 0.0  # items per second
        self._rest: tuple[float, float] | None = None  # when the last report came, and seconds left then

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._looked = (now, done), now
            return
        since, before = self._first
        # An engine returns a batch of answers at once. The rows between the first of one batch and the first of another
        # are the rows computed in the time between them, so later rows of a batch are not measured.
        if now - self._looked >= 1 and done > before:
            self._looked, self._due, self.rate = now, now - self._looked, (done - before) / (now - since)
        if total and self.rate and now - since >= _SETTLED:
            self._rest = now, (total - done) / self.rate

    @property
    def took(self) -> float:
        """Seconds since the first report."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float | None:
        """Seconds to the end. It falls until the next report is due, and then waits for it. None if there is no
        estimate yet, and if the last minute has lasted longer than a minute."""
        if self._rest is None:
            return None
        reported, rest = self._rest
        waited = time.monotonic() - reported
        left = max(rest - min(waited, self._due), 0.0)
        return None if left < _SOON and waited - self._due >= _MINUTE else left


def _said_left(seconds: float, number: str) -> str:
    """The time left in words; `number` is how it is written unless the end is near."""
    return f"{number} left" if seconds >= _SOON else "less than a minute left"


class _Active:
    """The work of one label: the last report, the pace, and the step of the run. The part of the label before a comma
    names the stage."""

    def __init__(self, label: str, step: str = "") -> None:
        self.label, self.stage, self.step = label, label.partition(",")[0], step
        self.pace, self.reported = _Pace(), False
        self.done, self.total, self.note = 0, 0, ""
        self.printed = 0  # how many items were done in its last line

    def report(self, done: int, total: int, note: str) -> None:
        if self.reported and not note:
            self.pace.report(done, total)
        self.done, self.total, self.note, self.reported = done, total, note, True

    @property
    def finished(self) -> bool:
        return 0 < self.total <= self.done

    def line(self) -> str:
        count = "" if not self.done else f"{self.done}/{self.total}" if self.total else str(self.done)
        said = ", ".join(filter(None, (count, "" if self.finished else self.note)))
        left = self.pace.left
        rest = f", {_said_left(left, f'{left:.0f} s')}" if left is not None and not self.finished else ""
        return f"{self.label}{': ' if said else ''}{said} ({self.pace.took:.0f} s{rest})"


class Display:
    """A `Progress` that prints a line for each finished stage; with `lines` also lines of the active stage. Drawn by
    rich, it is the live area: the active stage and the whole. `worked`: something was reported."""

    def __init__(self, lines: bool) -> None:
        self._lock = RLock()  # a signal's handler may interrupt a line
        self._lines = lines
        self._active: _Active | None = None
        self._ended = ""  # the label that ended last
        self._printed: dict[str, float] = {}  # when each stage had its last line
        self._whole: tuple[int, int] | None = None  # finished and all steps of the run
        self._after: float | None = None  # seconds that the steps after the active one will take
        self.worked = False

    def __call__(self, label: str, done: int, total: int, note: str = "", /) -> None:
        with self._lock:
            if label == WHOLE:
                self._whole, self._after = (done, total), float(note) if note else None
                return
            self.worked = True
            if self._active is None and label == self._ended and 0 < total <= done:
                return  # the end is reported twice
            if self._active is None or self._active.label != label:
                whole = self._whole
                following = _Active(label, f"[{min(whole[0] + 1, whole[1])}/{whole[1]}] " if whole else "")
                self._leave(following.stage)
                self._active = following
            self._active.report(done, total, note)
            if self._active.finished:
                self.end()
            elif self._lines:
                self.repeat()

    def repeat(self) -> None:
        """Print a line of the active stage if it had none for long."""
        with self._lock:
            if self._active is not None:
                took = self._active.pace.took
                if min(self._since(self._active), took) >= (_OFTEN if took < _LONG else _SELDOM):
                    self._print(self._active)

    def end(self) -> None:
        """Print the active stage as a line, as it has ended."""
        self._leave("")

    def _leave(self, following: str) -> None:
        """Ends the active label, before one of the stage `following`. The labels of a stage share a line if they take
        a few seconds."""
        with self._lock:
            left, self._active = self._active, None
            if left is None or (left.stage == following and not left.finished):
                return
            self._ended = left.label
            if self._since(left) >= _OFTEN or (left.label == left.stage and left.done != left.printed):
                self._print(left)

    def _since(self, active: _Active) -> float:
        """Seconds since the last line of the stage."""
        return time.monotonic() - self._printed.get(active.stage, -inf)

    def _print(self, active: _Active) -> None:
        self._printed[active.stage], active.printed = time.monotonic(), active.done
        err.print(active.step + active.line(), markup=False, soft_wrap=True)

    # ---- the live area

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        active, whole = self._active, self._whole  # without the lock: rich draws while a line is printed
        if active is not None:
            yield self._bar(active, options.max_width)
        if whole is not None:
            step = f"step {min(whole[0] + 1, whole[1])} of {whole[1]}"
            yield Text(step + self._about(active), "dim", no_wrap=True, overflow="ellipsis")

    def _bar(self, active: _Active, width: int) -> Text:
        """The active stage in one line. Only a note and the end of a long label are cut in a narrow terminal."""
        from rich.text import Text

        pace, left = active.pace, active.pace.left
        count = f"{active.done}/{active.total} " if active.total else f"{active.done} " if active.done else ""
        speed = f" {pace.rate:.1f}/s" if pace.rate else ""
        speed += f", {_said_left(left, str(timedelta(seconds=round(left))))}" if speed and left is not None else ""
        said = f"{count}{timedelta(seconds=int(pace.took))}{speed}"
        room = min(_BAR, width - len(active.label) - len(said) - 2)
        bar = Text()
        if active.total and room >= 8:
            filled = min(active.done / active.total, 1) * room
            bar = Text.assemble(("━" * int(filled), "cyan"), ("━" * (room - int(filled)), "bright_black"), " ")
        label = active.label[: max(8, width - len(said) - 1)]
        note = f"{', ' if speed else ' '}{active.note}" if active.note else ""
        return Text.assemble(f"{label} ", bar, said, note, no_wrap=True, overflow="ellipsis")

    def _about(self, active: _Active | None) -> str:
        """The time left of the whole: of the active stage by its pace, and of the steps after it."""
        after, own = self._after, 0.0 if active is None else active.pace.left
        if after is None or own is None:
            return ""
        minutes = round((own + after) / 60)
        if minutes >= 60:
            return f", about {minutes // 60} h {minutes % 60} min left"
        return f", about {minutes} min left" if minutes else ", less than a minute left"


@contextmanager
def _live(shown: Display) -> Iterator[None]:
    """A live area of two lines below the finished stages."""
    from rich.live import Live

    with Live(get_renderable=lambda: shown, console=err, refresh_per_second=4, transient=True):
        yield


@contextmanager
def _repeating(shown: Display) -> Iterator[None]:
    """Lines of the active stage; a thread prints them, also while nothing is reported."""
    over = Event()

    def repeat() -> None:
        while not over.wait(1.0):
            shown.repeat()

    Thread(target=repeat, daemon=True, name="progress").start()
    try:
        yield
    finally:
        over.set()
