"""One process of the sandbox: its input, its time, and how it ended."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

_REASON = re.compile(r"[A-Za-z ]{1,60}")
_LOOK = 0.05  # seconds between looks at a silent child


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one program. `cpu` and `wall` are seconds; `memory` (address space), `disk` (/tmp, and the size of
    a file), `printed` (output) and `kept` (the part of the output that is returned) are bytes. `wall` is looser than
    `cpu`, so that no program fails because the machine is busy. The program is one process with up to `threads`
    threads."""

    cpu: int = 5
    wall: float = 20.0
    memory: int = 1 << 29
    disk: int = 1 << 24
    threads: int = 32
    printed: int = 1 << 23
    kept: int = 4000


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: `ok` if it ran to its end, else with a reason that can be counted, such as "timeout" or
    "raised AssertionError". If the sandbox itself failed, `started` is False, and the result says nothing about the
    program."""

    ok: bool
    reason: str
    output: str
    started: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """The role of one of two joined processes, "serve" or "test", and its ends of the pipes between them; `over` is
    set on cancellation."""

    task: str
    pipes: tuple[int, int]
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def words(self) -> list[str]:
        return [self.task, *map(str, self.pipes)]


def run_process(
    command: list[str],
    program: str,
    limits: Limits,
    part: Part | None,
    folder: str | None = None,
    keep_open: Sequence[int] = (),
) -> Ran:
    """Run a program in a child process. The child reads the program's length, the program, and then a secret, which it
    writes back at the end. This process closes the child's ends of the pipes once the child has inherited them, so that
    the other process notices when the child ends."""
    secret = secrets.token_hex(16).encode()
    source = program.encode("utf-8", "surrogatepass")
    pipes = part.pipes if part else ()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            pass_fds=(*keep_open, *pipes),
            start_new_session=True,
        )
    except OSError as error:
        return Ran(False, f"sandbox failed: {error.strerror}", "", started=False)
    finally:
        for descriptor in pipes:
            os.close(descriptor)
    with process:
        over = part.over if part else threading.Event()
        exchange = _Exchange(process, b"%016d" % len(source) + source + secret, limits, over)
        exchange.run()
    return _read(exchange, process.returncode, secret)


class _Exchange:
    """Writes the child's input and reads its output, of which `Limits.kept` bytes are kept, until the child ends or
    exceeds a limit. Then kills the processes that are left."""

    def __init__(self, process: subprocess.Popen[bytes], text: bytes, limits: Limits, over: threading.Event) -> None:
        self.process, self.text, self.limits, self.over = process, memoryview(text), limits, over
        self.output, self.control = bytearray(), bytearray()
        self.printed = 0
        self.stopped: str | None = None

    def run(self) -> None:
        try:
            left = self._talk()
            if self.stopped is None:
                self.process.wait(left)
        except subprocess.TimeoutExpired:
            self.stopped = "timeout"
        finally:
            # The group's id is the child's pid, which is not reused while a process of the group lives. Processes in
            # bubblewrap's own namespace end with bubblewrap.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _talk(self) -> float:
        """Returns the seconds of wall time that are left. If this process was suspended (stopped, or the machine
        slept), only a small part of that time counts, since the child may have been suspended too, or ended long
        ago."""
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        os.set_blocking(stdin.fileno(), False)
        left, looked = self.limits.wall, time.monotonic()
        with selectors.DefaultSelector() as waiting:
            waiting.register(stdin, selectors.EVENT_WRITE, lambda: self._write(stdin))
            waiting.register(stdout, selectors.EVENT_READ, lambda: self._take(stdout, self.output))
            waiting.register(stderr, selectors.EVENT_READ, lambda: self._take(stderr, self.control))
            while waiting.get_map() and self.stopped is None:
                # The child's end is checked before the pipes are read: after its end, all its output is in the pipes.
                # If a process that it left behind keeps the pipes open, they stay silent, or that process writes until
                # time runs out.
                ended = self.process.poll() is not None
                if left <= 0 and not ended:
                    self.stopped = "timeout"
                elif self.over.is_set():
                    self.stopped = "stopped"
                ready = waiting.select(0 if ended else _LOOK)
                for key, _ in ready:
                    if not key.data():
                        waiting.unregister(key.fileobj)
                left, looked = left - min(time.monotonic() - looked, 10 * _LOOK), time.monotonic()
                if ended and (not ready or left <= 0):
                    break
        return max(0.0, left)

    def _write(self, pipe: IO[bytes]) -> bool:
        try:
            self.text = self.text[os.write(pipe.fileno(), self.text[:65536]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return len(self.text) > 0

    def _take(self, pipe: IO[bytes], kept: bytearray) -> bool:
        chunk = os.read(pipe.fileno(), 65536)
        kept += chunk[: max(0, self.limits.kept - len(kept))]
        self.printed += len(chunk)
        if self.printed > self.limits.printed:
            self.stopped = "prints too much"
        return bool(chunk)


def _read(exchange: _Exchange, returncode: int, secret: bytes) -> Ran:
    output = exchange.output.decode("utf-8", "replace")
    said, ready, report = exchange.control.partition(b"ready\n")
    if not ready:
        why = exchange.stopped or f"exit {returncode}"
        return Ran(False, f"sandbox failed: {why}", said.decode("utf-8", "replace"), started=False)
    if exchange.stopped:
        return Ran(False, exchange.stopped, output)
    if report == b"end " + secret + b"\n":
        return Ran(True, "ran to its end", output)
    reason = report.decode("utf-8", "replace").strip()
    return Ran(False, reason if _REASON.fullmatch(reason) else _end(returncode), output)


def _end(returncode: int) -> str:
    """The reason from the exit status, if the child wrote no reason. Bubblewrap adds 128 to the number of a signal."""
    number = -returncode if returncode < 0 else returncode - 128
    if number == signal.SIGXCPU:
        return "cpu time"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit {returncode} before its end"
