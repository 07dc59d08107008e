"""A terminal of a given size: runs a command in a pseudo-terminal and keeps what its screen would show."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

_PARTS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """`lines`: the screen and what scrolled out of it. `most_steps`: the most lines of a live area at one time. Knows
    the control codes that rich writes, and fails for others that move the cursor."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.lines, self.most_steps = [""], 0
        self._row = self._column = 0

    def run(self, words: list[str], folder: Path) -> None:
        """Runs a command that must succeed."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment["TERM"] = "xterm-256color"
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            written = b""
            try:
                while part := os.read(ours, 65536):
                    written += part
            except OSError:  # the command has ended
                pass
            os.close(ours)
        for part in _PARTS.findall(written.decode()):
            self._write(part)
            steps = sum(line.startswith("step ") for line in self.lines)
            self.most_steps = max(self.most_steps, steps)
        assert process.returncode == 0, self.lines

    def _write(self, part: str) -> None:
        if part == "\r":
            self._column = 0
        elif part == "\n":
            self._row += 1
            self.lines += [""] * (self._row + 1 - len(self.lines))
        elif part == "\x1b[2K":
            self.lines[self._row] = ""
        elif part.startswith("\x1b["):
            assert part[-1] in "mhlA", part
            if part[-1] == "A":
                self._row -= int(part[2:-1] or 1)
                assert self._row >= len(self.lines) - self.rows, "the cursor can't leave the screen"
        else:
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + part + line[self._column + len(part) :]
            self._column += len(part)
