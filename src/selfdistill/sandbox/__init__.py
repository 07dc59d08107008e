"""Runs an untrusted Python program in a process that can reach nothing. docs/sandbox.md says what is covered.

`open_runner` gives a `Run`, which takes a program's text and says whether it ran to its end. Bubblewrap gives it an
empty root with the interpreter and a small /tmp (https://github.com/containers/bubblewrap), `filter.py` takes system
calls away, and `child.py` sets limits and runs the program.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ..errors import SelfDistillError
from .filter import system_call_filter

Name = Literal["bubblewrap", "none"]

_CHILD = Path(__file__).with_name("child.py")
_REASON = re.compile(r"[A-Za-z ]{1,60}")
_LOOK = 0.05  # seconds between looks at a silent child
_PAUSES = (0.5, 2.0, 5.0)  # seconds, before a program whose sandbox didn't start is tried again
_BINDABLE = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. `cpu` and `wall` are seconds, `memory` (address space), `disk` (/tmp, and a file's
    size) and `printed` are bytes, and `kept` is how much of what it prints comes back. Wall time is the looser of the
    two, so that a busy machine fails no program. There is one process, of up to `threads` threads."""

    cpu: int = 5
    wall: float = 20.0
    memory: int = 1 << 29
    disk: int = 1 << 24
    threads: int = 32
    printed: int = 1 << 23
    kept: int = 4000


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: `ok` where it ran to its end, else with a reason that can be counted, such as "timeout" or
    "raised AssertionError". `started` is False where the sandbox itself failed, which says nothing of the program."""

    ok: bool
    reason: str
    output: str
    started: bool = True


Run = Callable[[str], Ran]


def open_runner(name: Name, limits: Limits | None = None) -> Run:
    """A function that runs programs, from several threads at once if need be. `none` runs them as plain child processes
    with the same limits, where they can read and write what the user can. Raises SelfDistillError where bubblewrap is
    not installed, and `check_sandbox` where it does not work."""
    return functools.partial(_started, run=_runner(name, limits or Limits()))


def _started(program: str, run: Run) -> Ran:
    """What `run` says; asked again a few times where the sandbox failed, as when memory or processes run short."""
    for pause in _PAUSES:
        ran = run(program)
        if ran.started:
            return ran
        time.sleep(pause)
    return run(program)


def _runner(name: Name, limits: Limits) -> Run:
    if name == "none":
        return functools.partial(_run_plain, limits=limits)
    filter_program = system_call_filter()
    if filter_program is None:
        raise SelfDistillError(
            f"The sandbox is made for Linux on x86_64 and aarch64, not {platform.system()} on {platform.machine()}; "
            "leave tasks that run programs out, or, where the machine may be harmed, write `sandbox: none`."
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SelfDistillError(f"Bubblewrap is not installed, and programs that a model wrote run in it; {_ADVICE}")
    command = [bwrap, *_arguments(limits)]
    return functools.partial(_run_wrapped, command=command, filter_program=filter_program, limits=limits)


def check_sandbox(name: Name) -> None:
    """Runs a trivial program. Raises SelfDistillError, with the next step, where that fails."""
    ran = _runner(name, Limits())("assert 1 + 1 == 2")
    if not ran.ok:
        said = f": {ran.output.strip().splitlines()[-1]}" if ran.output.strip() else ""
        raise SelfDistillError(
            f"A trivial program does not run in the sandbox '{name}' ({ran.reason}{said}); {_ADVICE}"
        )


_ADVICE = (
    "install it (`apt install bubblewrap` or `dnf install bubblewrap`, 0.7 or later) and allow unprivileged user "
    "namespaces (in Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`; docs/sandbox.md has "
    "more), leave such tasks out, or, where the machine may be harmed, write `sandbox: none`."
)


def _run_wrapped(program: str, command: list[str], filter_program: bytes, limits: Limits) -> Ran:
    reading, writing = os.pipe()
    try:
        os.write(writing, filter_program)
        os.close(writing)
        whole = [*command, "--seccomp", str(reading), *_interpreter(limits)]
        return _run(whole, program, limits, keep_open=(reading,))
    finally:
        os.close(reading)


def _run_plain(program: str, limits: Limits) -> Ran:
    with tempfile.TemporaryDirectory(prefix="selfdistill-", ignore_cleanup_errors=True) as folder:
        return _run(_interpreter(limits), program, limits, folder=folder)


def _interpreter(limits: Limits) -> list[str]:
    """Without site-packages and environment. `-I` would also ignore the fixed hash seed."""
    numbers = (limits.cpu, limits.memory, limits.disk, limits.threads)
    return [_executable(), "-S", "-s", "-P", "-B", "-c", _child_source(), *map(str, numbers)]


@functools.cache
def _child_source() -> str:
    return _CHILD.read_text(encoding="utf-8")


def _executable() -> str:
    """The interpreter behind the virtual environment's."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _arguments(limits: Limits) -> list[str]:
    """Bubblewrap's. Neither /proc nor /etc nor a home is there, and all but /tmp is read-only."""
    found = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"]
    bound: list[str] = []
    library = f"{sys.base_prefix}/lib"
    stdlib = sysconfig.get_path("stdlib")
    for path in (*_BINDABLE, library, stdlib):
        if path in _BINDABLE and os.path.islink(path):
            found += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path) and not any(path == other or path.startswith(f"{other}/") for other in bound):
            found += ["--ro-bind", path, path]
            bound.append(path)
    found += ["--ro-bind", _executable(), _executable()]
    for packages in (f"{stdlib}/site-packages", f"{stdlib}/dist-packages", "/usr/lib/python3/dist-packages"):
        if os.path.isdir(packages):  # installed packages are no part of the interpreter
            found += ["--tmpfs", packages, "--remount-ro", packages]
    found += ["--dev-bind", "/dev/null", "/dev/null", "--ro-bind", "/dev/urandom", "/dev/urandom"]
    return [*found, "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]


def _run(
    command: list[str], program: str, limits: Limits, folder: str | None = None, keep_open: tuple[int, ...] = ()
) -> Ran:
    """The child reads the program's length, the program, and after that a secret, which it writes back at the end."""
    secret = secrets.token_hex(16).encode()
    source = program.encode("utf-8", "surrogatepass")
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            pass_fds=keep_open,
            start_new_session=True,
        )
    except OSError as error:
        return Ran(False, f"sandbox failed: {error.strerror}", "", started=False)
    with process:
        exchange = _Exchange(process, b"%016d" % len(source) + source + secret, limits)
        exchange.run()
    return _read(exchange, process.returncode, secret)


class _Exchange:
    """Gives the child its input and takes what it prints, keeping little, until it ends or passes a limit; then kills
    whatever is left of it."""

    def __init__(self, process: subprocess.Popen[bytes], text: bytes, limits: Limits) -> None:
        self.process, self.text, self.limits = process, memoryview(text), limits
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
            # The group has its leader's number, which stays taken while any of it lives. What is in bubblewrap's own
            # namespace dies with it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _talk(self) -> float:
        """Gives the seconds of the wall time that are left. Of those in which this process stood still (stopped, or a
        machine asleep) few count, as the child may have ended long ago, or stood still too."""
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
                # Whether the child ended is asked first: then all that it wrote is in the pipes. Where a process that
                # it left behind holds these, they stay silent, or it writes on till the time is up.
                ended = self.process.poll() is not None
                if left <= 0 and not ended:
                    self.stopped = "timeout"
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
    """What the exit status says, where the child wrote nothing: bubblewrap adds 128 to a signal's number."""
    number = -returncode if returncode < 0 else returncode - 128
    if number == signal.SIGXCPU:
        return "cpu time"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit {returncode} before its end"
