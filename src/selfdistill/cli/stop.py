"""SIGTERM, as spot instances and job schedulers send it: the command ends within ten seconds, what is done is kept."""

from __future__ import annotations

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
    """Whether SIGTERM has come, and whether it is to interrupt once more."""

    asked = False
    again = False


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

    def interrupt(_number: int, _frame: object) -> None:
        if not stop.asked or stop.again:  # one more from outside must not cut short what the first has begun
            stop.asked, stop.again = True, False
            sys.unraisablehook = lambda _: None
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    # Python's own handlers wait for the main thread to come back from library code; this pipe doesn't.
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, stop), daemon=True, name="sigterm").start()
    try:
        yield stop
    finally:
        if not stop.asked:
            signal.set_wakeup_fd(woken)
            signal.signal(signal.SIGTERM, before)
            os.close(writer)


def _watch(reader: int, stop: Stop) -> None:
    with open(reader, "rb", buffering=0) as pipe:  # open to the end, for more signals
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM:
                time.sleep(_AGAIN_SECONDS)
                # Where Python can't raise, as in a finalizer, it drops what is raised.
                stop.again = True
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(_GRACE_SECONDS)
                _end()


def _end() -> None:
    """At once, with the processes that multiprocessing started (an engine's)."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    with suppress(OSError):
        os.write(2, _LAST_WORDS)
    os._exit(EXIT_CODE)
