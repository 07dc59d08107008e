"""log.txt of an experiment: the lines that the command prints, and the warnings of libraries, with the time of each.

Every command that works in the directory appends to it. It is for people: no command reads it, and nothing depends on
it. What a library prints on its own, such as a bar, is not in it.
"""

from __future__ import annotations

import datetime
import io
import logging
import sys
import traceback
import warnings
from pathlib import Path
from threading import RLock
from typing import Any, TextIO

from rich.console import Console

from .. import __version__
from ..errors import InterruptedRunError
from .arguments import typed_command
from .show import err, out, visible

_WIDTH = 160  # columns of a table


class LogFile:
    """Lines wait until `begun` exists, so that a command that refuses to start leaves nothing behind."""

    def __init__(self, path: Path, begun: Path) -> None:
        self._path, self._begun = path, begun
        self._lock = RLock()
        self._file: TextIO | None = None
        self._waiting: list[str] = []
        self._failed = False

    @property
    def directory(self) -> Path:
        return self._path.parent

    @property
    def has_begun(self) -> bool:
        return self._begun.exists()

    def render(self, *objects: Any, **options: Any) -> None:
        """Writes what a console prints, without colours."""
        text = io.StringIO()
        Console(file=text, width=_WIDTH, highlight=False, color_system=None).print(*objects, **options)
        self.write(text.getvalue())

    def write(self, text: str) -> None:
        """Writes the lines of a text, each with the time."""
        time = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        lines = [f"{time} {visible(line.rstrip())}\n" for line in text.splitlines() if line.strip()]
        with self._lock:
            self._waiting += lines
            try:
                if self._file is None and self.has_begun:
                    self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
                if self._file is not None:
                    waiting, self._waiting = self._waiting, []
                    self._file.writelines(waiting)
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        with self._lock:
            try:
                if self._file is not None:
                    self._file.close()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        """A disk that is full stops the run at the next result that can't be written, not for a line of the log."""
        if not self._failed:
            self._failed = True
            sys.stderr.write(f"{self._path} can't be written ({error.strerror}); the run goes on without it.\n")


class _Warnings:
    """Copies warnings to the log: of `logging`, whatever handlers a library has, and of the module `warnings`."""

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._make, self._show = logging.getLogRecordFactory(), warnings.showwarning
        logging.setLogRecordFactory(self._record)
        warnings.showwarning = self._warning

    def restore(self) -> None:
        logging.setLogRecordFactory(self._make)
        warnings.showwarning = self._show

    def _record(self, *args: Any, **options: Any) -> logging.LogRecord:
        record = self._make(*args, **options)
        if isinstance(record.levelno, int) and record.levelno >= logging.WARNING:  # None in an empty record
            try:
                said = record.getMessage()
            except (TypeError, ValueError):  # the library's arguments don't fit its message
                said = str(record.msg)
            self._log.write(f"{record.levelname} {record.name}: {said}")
        return record

    def _warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        self._log.write(f"{category.__name__} {Path(filename).name}:{lineno}: {message}")
        self._show(message, category, filename, lineno, file, line)


_opened: list[tuple[LogFile, _Warnings]] = []


def log_to(directory: Path, begun: str = "manifest.json") -> None:
    """Log to `directory`/log.txt from now on, until `end_log`. The file is not made before `begun` is in the
    directory."""
    end_log()
    log = LogFile(directory / "log.txt", directory / begun)
    log.write(f"selfdistill {__version__}: {typed_command()}")
    out.copy = err.copy = log.render
    _opened.append((log, _Warnings(log)))


def interrupted() -> InterruptedRunError:
    """What the user stopped: where the finished work is, and the command that goes on with it. A command without a
    directory has saved nothing, and neither has one that was stopped before its work began."""
    if _opened and _opened[-1][0].has_begun:
        kept = f"Finished work is kept in {_opened[-1][0].directory}."
        return InterruptedRunError(kept, f"To continue: {typed_command()}")
    return InterruptedRunError("This command has saved nothing.", f"To run it again: {typed_command()}")


def end_log(error: BaseException | None = None) -> None:
    """Ends the log if there is one, with the traceback of an error that nobody expected."""
    out.copy = err.copy = None
    while _opened:
        log, watched = _opened.pop()
        watched.restore()
        if error is not None:
            log.write("".join(traceback.format_exception(error)))
        log.close()
