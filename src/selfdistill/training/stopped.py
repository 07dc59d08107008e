"""Save a checkpoint when SIGTERM or Ctrl-C arrives during a training, so that no step is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PATIENCE = 8.0  # seconds that Ctrl-C waits for a step


@contextmanager
def saving_when_stopped(trainer: Any) -> Iterator[None]:
    """Within this context, SIGTERM and Ctrl-C end the training after the current step and a checkpoint; then the
    previous handler receives the signal. A second Ctrl-C, or a step that takes too long, ends it at once. With several
    processes signals keep their usual effect, since the processes would stop at different steps."""
    if threading.current_thread() is not threading.main_thread() or trainer.args.world_size > 1:
        yield
        return
    from transformers import TrainerCallback

    asked: list[int] = []
    repeat = threading.Timer(_PATIENCE, os.kill, (os.getpid(), signal.SIGINT))
    repeat.daemon = True

    def ask(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in asked:  # the second one
            asked.clear()
            signal.signal(number, before[number])
            signal.raise_signal(number)
            return
        asked.append(number)
        if number == signal.SIGINT:
            repeat.start()

    class Saver(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stop = bool(asked)
            control.should_log |= stop
            control.should_save |= stop and state.global_step < state.max_steps  # the result follows the last step
            control.should_training_stop |= stop

    trainer.add_callback(Saver())
    heard = (n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) not in (None, signal.SIG_IGN))
    before: dict[int, Any] = {number: signal.signal(number, ask) for number in heard}
    try:
        yield
    finally:
        repeat.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked:
            signal.raise_signal(signal.SIGTERM if signal.SIGTERM in asked else signal.SIGINT)
