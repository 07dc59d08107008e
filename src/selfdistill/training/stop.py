"""SIGTERM in the middle of a training: a checkpoint first, so that no step is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def saving_on_sigterm(trainer: Any) -> Iterator[None]:
    """Within it SIGTERM lets the step at work end and be saved; after that it does what it did before. Of several
    processes each would end at a step of its own, so there it does that at once."""
    if threading.current_thread() is not threading.main_thread() or trainer.args.world_size > 1:
        yield
        return
    from transformers import TrainerCallback

    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True

    class Saver(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_log |= asked
            control.should_save |= asked and state.global_step < state.max_steps  # the result is written after the last
            control.should_training_stop |= asked

    trainer.add_callback(Saver())
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            signal.raise_signal(signal.SIGTERM)
