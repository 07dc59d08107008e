"""Keeps lm-eval's output and random numbers away from the rest of the process."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress lm-eval's log, prints and progress bars, and fix the random numbers of its graders (IFEval's checks and
    langdetect draw some). Restores everything at the end."""
    import numpy as np
    from tqdm import tqdm

    def without_bar(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **{**kwargs, "disable": True})

    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels, start, state = [logger.level for logger in loggers], tqdm.__init__, random.getstate()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    random.seed(0)
    tqdm.__init__ = without_bar
    try:
        with redirect_stdout(io.StringIO()), np.errstate(invalid="ignore"), _langdetect_seeded():
            yield
    finally:
        tqdm.__init__ = start
        random.setstate(state)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _langdetect_seeded() -> Iterator[None]:
    if find_spec("langdetect") is None:
        yield
        return
    from langdetect import DetectorFactory

    before, DetectorFactory.seed = DetectorFactory.seed, 0
    try:
        yield
    finally:
        DetectorFactory.seed = before
