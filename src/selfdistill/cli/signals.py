"""SIGTERM and Ctrl-C. After SIGTERM, which spot instances and job schedulers send, the command ends within ten seconds
and keeps finished work. If a library swallows Ctrl-C, it is sent again."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes after Ctrl-C and after SIGTERM, as in a shell."""
_AGAIN_SECONDS = 3
_GRACE_SECONDS = 3
_LAST_WORDS = b"Stopped by SIGTERM. Finished work is kept; run the same command again to continue.\n"


class Stop:
    """`asked`: SIGTERM was received. `again`: the next signal is our repeat of an earlier one. `over`: the block has
    ended, so nothing is repeated."""

    asked = False
    again = False
    over = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Inside the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does. The process is ended if the block goes on, as
    when a thread waits for a server. Does nothing outside the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def interrupt(number: int, _frame: object) -> None:
        ours, stop.again = stop.again, False
        # The cleanup after an interruption is not interrupted: not by our repeat, nor by a second SIGTERM.
        if _is_heard() if ours else stop.asked and number == signal.SIGTERM:
            return
        stop.asked = stop.asked or number == signal.SIGTERM
        sys.unraisablehook = lambda _: None
        # A second Ctrl-C while Python exits would print a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = sys.unraisablehook
    # Python calls a handler only after the main thread returns from library code; this pipe doesn't wait for it.
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, stop), daemon=True, name="signals").start()
    try:
        yield stop
    finally:
        if not stop.asked:
            stop.over = True
            sys.unraisablehook = hook
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)


def _watch(reader: int, stop: Stop) -> None:
    with open(reader, "rb", buffering=0) as pipe:  # stays open for later signals
        interrupted = 0
        while number := pipe.read(1):
            interrupted += number[0] == signal.SIGINT
            if number[0] == signal.SIGTERM:
                time.sleep(_AGAIN_SECONDS)
                _send_again(stop, signal.SIGTERM)
                time.sleep(_GRACE_SECONDS)
                _end()
            elif interrupted in (1, 2):  # the second may be our repeat
                timer = threading.Timer(_AGAIN_SECONDS, _send_again, (stop, signal.SIGINT))
                timer.daemon = True  # must not delay the exit
                timer.start()


def _send_again(stop: Stop, number: int) -> None:
    """Repeat a signal: Python drops an exception that is raised in a finalizer, and a library may drop one too."""
    if stop.over:
        return
    stop.again = True
    os.kill(os.getpid(), number)


def _is_heard() -> bool:
    """Whether the main thread is handling a KeyboardInterrupt already."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _end() -> None:
    """End the process at once, with the processes that multiprocessing started for an engine."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    with suppress(OSError):
        os.write(2, _LAST_WORDS)
    os._exit(TERMINATED)
