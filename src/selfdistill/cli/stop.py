"""SIGTERM, as spot instances and job schedulers send it: the command ends within ten seconds, what is done is kept.
Ctrl-C that a library has swallowed comes again."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EXIT_CODE = 128 + signal.SIGTERM
_AGAIN_SECONDS = 3
_GRACE_SECONDS = 3
_LAST_WORDS = b"Stopped by SIGTERM: what was done is kept, and the same command goes on from there.\n"


class Stop:
    """Whether SIGTERM has come, whether the signal that comes next is one of ours, sent again, and whether there is
    nobody any more to send one to."""

    asked = False
    again = False
    over = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within it SIGTERM interrupts as Ctrl-C does. What doesn't end by that, such as a thread that waits for a server
    or a long call of a library, is ended with the process. Does nothing outside the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def interrupt(number: int, _frame: object) -> None:
        ours, stop.again = stop.again, False
        # What an interruption has begun is not cut short: not by ours, nor by one more SIGTERM.
        if _is_heard() if ours else stop.asked and number == signal.SIGTERM:
            return
        stop.asked = stop.asked or number == signal.SIGTERM
        sys.unraisablehook = lambda _: None
        # One more Ctrl-C while Python ends would leave a traceback of that.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = sys.unraisablehook
    # Python's own handlers wait for the main thread to come back from library code; this pipe doesn't.
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
    with open(reader, "rb", buffering=0) as pipe:  # open to the end, for more signals
        interrupted = 0
        while number := pipe.read(1):
            interrupted += number[0] == signal.SIGINT
            if number[0] == signal.SIGTERM:
                time.sleep(_AGAIN_SECONDS)
                _send_again(stop, signal.SIGTERM)
                time.sleep(_GRACE_SECONDS)
                _end()
            elif interrupted in (1, 2):  # the second is this one's
                timer = threading.Timer(_AGAIN_SECONDS, _send_again, (stop, signal.SIGINT))
                timer.daemon = True  # it must not hold up the end
                timer.start()


def _send_again(stop: Stop, number: int) -> None:
    """Where Python can't raise, as in a finalizer, it drops what is raised; so may a library."""
    if stop.over:
        return
    stop.again = True
    os.kill(os.getpid(), number)


def _is_heard() -> bool:
    """Whether the main thread is ending what it did for an interruption: in a handler, or on its way through one."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _end() -> None:
    """At once, with the processes that multiprocessing started (an engine's)."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    with suppress(OSError):
        os.write(2, _LAST_WORDS)
    os._exit(EXIT_CODE)
