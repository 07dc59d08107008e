"""Save a checkpoint when SIGTERM arrives during a training, so that no step is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def saving_on_sigterm(trainer: Any) -> Iterator[None]:
    """Within this context, SIGTERM ends the training after the current step and a checkpoint; then the previous handler
    receives the signal. With several processes SIGTERM keeps its usual effect, since the processes would stop at
    different steps."""
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
            control.should_save |= asked and state.global_step < state.max_steps  # the result follows the last step
            control.should_training_stop |= asked

    trainer.add_callback(Saver())
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            signal.raise_signal(signal.SIGTERM)
