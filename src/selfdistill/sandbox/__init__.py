"""Runs an untrusted Python program in an isolated process. docs/sandbox.md lists the protections.

`open_runner` returns a `Runner`, which takes a program's text and returns how the program ended. Bubblewrap provides an
empty root with the interpreter and a small /tmp (https://github.com/containers/bubblewrap), `filter.py` blocks system
calls, and `child.py` sets limits and runs the program.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from ..errors import SelfDistillError
from .child import NO_ANSWER
from .filter import system_call_filter
from .process import Limits, Part, Ran, run_process

__all__ = ["Limits", "Name", "Ran", "Runner", "check_sandbox", "lazy_runner", "open_runner", "sandbox_works"]

Name = Literal["bubblewrap", "none"]

_CHILD = Path(__file__).with_name("child.py")
_PAUSES = (0.5, 2.0, 5.0)  # seconds, before a program whose sandbox didn't start is tried again
_BINDABLE = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")


class Runner(Protocol):
    def __call__(self, program: str, tests: str | None = None) -> Ran:
        """How the program ended, or with `tests` how the tests ended. The tests run in a second process, where
        `function_of_the_program(name)` returns a function that calls the program's function and returns plain data, so
        that no code of the program decides whether the program passes."""


class _Start(Protocol):
    def __call__(self, program: str, part: Part | None = None) -> Ran: ...


def open_runner(name: Name, limits: Limits | None = None) -> Runner:
    """A thread-safe function that runs programs. `none` runs them as plain child processes with the same limits, which
    have the user's access to files. Raises SelfDistillError if bubblewrap is not installed; `check_sandbox` raises it
    if bubblewrap does not work."""
    return functools.partial(_run_again, start=_starter(name, limits or Limits()))


def lazy_runner(name: Name) -> Runner:
    """A runner that opens the sandbox for its first program, so that it can be created on a machine without a
    sandbox."""
    opened = functools.cache(functools.partial(open_runner, name))
    return lambda program, tests=None: opened()(program, tests)


def _run_again(program: str, tests: str | None = None, *, start: _Start) -> Ran:
    """Runs a program; tries again a few times if the sandbox failed, as when memory or processes run short."""
    for pause in (*_PAUSES, None):
        ran = start(program) if tests is None else _run_apart(program, tests, start)
        if ran.started or pause is None:
            break
        time.sleep(pause)
    return ran


def _run_apart(program: str, tests: str, start: _Start) -> Ran:
    """Connects the process of the program and the process of its tests by two pipes. Returns how the tests ended, or
    how the program ended if it left the tests without an answer."""
    requests, request = os.pipe()
    replies, reply = os.pipe()
    serving, testing = Part("serve", (requests, reply)), Part("test", (request, replies))
    with ThreadPoolExecutor(1) as thread:
        serves = thread.submit(start, program, serving)
        try:
            tested = start(tests, testing)
            if tested.started and tested.reason == NO_ANSWER:
                serves.exception()  # wait, because the reason is how the program ends
        finally:
            serving.over.set()
        served = serves.result()
    if tested.reason != NO_ANSWER:
        return tested
    return replace(served, ok=False, reason=NO_ANSWER if served.ok else served.reason)


def _starter(name: Name, limits: Limits) -> _Start:
    if name == "none":
        return functools.partial(_run_plain, limits=limits)
    filter_program = system_call_filter()
    if filter_program is None:
        raise SelfDistillError(
            f"The sandbox needs Linux on x86_64 or aarch64, not {platform.system()} on {platform.machine()}; leave out "
            "the tasks that run programs, or set `sandbox: none` if damage to this machine is acceptable."
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SelfDistillError(f"Bubblewrap, the sandbox for programs that a model wrote, is not installed; {_ADVICE}")
    command = [bwrap, *_arguments(limits)]
    return functools.partial(_run_wrapped, command=command, filter_program=filter_program, limits=limits)


def check_sandbox(name: Name) -> None:
    """Runs a trivial program. Raises SelfDistillError, with the next step, if the program fails."""
    ran = _starter(name, Limits())("assert 1 + 1 == 2")
    if not ran.ok:
        said = f": {ran.output.strip().splitlines()[-1]}" if ran.output.strip() else ""
        raise SelfDistillError(
            f"A trivial program does not run in the sandbox '{name}' ({ran.reason}{said}); {_ADVICE}"
        )


@functools.cache
def sandbox_works() -> bool:
    """Whether programs that a model wrote can be run here, in bubblewrap."""
    try:
        check_sandbox("bubblewrap")
    except SelfDistillError:
        return False
    return True


_ADVICE = (
    "install bubblewrap 0.7 or later (`apt install bubblewrap`, `dnf install bubblewrap`) and allow unprivileged user "
    "namespaces (in Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`; docs/sandbox.md has "
    "more). Or leave out the tasks that run programs, or set `sandbox: none` if damage to this machine is acceptable."
)


def _run_wrapped(
    program: str, part: Part | None = None, *, command: list[str], filter_program: bytes, limits: Limits
) -> Ran:
    reading, writing = os.pipe()
    try:
        os.write(writing, filter_program)
        os.close(writing)
        whole = [*command, "--seccomp", str(reading), *_interpreter(limits, part)]
        return run_process(whole, program, limits, part, keep_open=(reading,))
    finally:
        os.close(reading)


def _run_plain(program: str, part: Part | None = None, *, limits: Limits) -> Ran:
    with tempfile.TemporaryDirectory(prefix="selfdistill-", ignore_cleanup_errors=True) as folder:
        return run_process(_interpreter(limits, part), program, limits, part, folder=folder)


def _interpreter(limits: Limits, part: Part | None) -> list[str]:
    """The interpreter's command, without site-packages and environment variables. Not `-I`, which would also ignore the
    fixed hash seed."""
    numbers = (limits.cpu, limits.memory, limits.disk, limits.threads)
    words = [*map(str, numbers), *(part.words if part else [])]
    return [_executable(), "-S", "-s", "-P", "-B", "-c", _child_source(), *words]


@functools.cache
def _child_source() -> str:
    return _CHILD.read_text(encoding="utf-8")


def _executable() -> str:
    """The interpreter that the virtual environment is based on."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _arguments(limits: Limits) -> list[str]:
    """The arguments of bubblewrap: no /proc, no /etc, no home directory, and everything except /tmp is read-only."""
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
        if os.path.isdir(packages):  # installed packages are not part of the interpreter
            found += ["--tmpfs", packages, "--remount-ro", packages]
    found += ["--dev-bind", "/dev/null", "/dev/null", "--ro-bind", "/dev/urandom", "/dev/urandom"]
    return [*found, "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
