"""Separate limits for the think trace and the answer of each row (`max_thinking_tokens`, `max_new_tokens`).

A row is looked at only when one of its limits can have been reached, so that decoding costs nothing in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from ..grading.traces import opened
from ..recipe import Sampling
from .batches import TAIL, TokenRow
from .parse import trace_tokens

if TYPE_CHECKING:
    import torch

    from ..models.renderer import Renderer


class TraceLimits:
    """The limits of `rows` while they are decoded. Without `max_thinking_tokens`, or if the model does not think, each
    row keeps its own limit."""

    def __init__(self, rows: Sequence[TokenRow], renderer: Renderer, sampling: Sampling) -> None:
        self._renderer, self._answer = renderer, sampling.max_new_tokens
        self._thinking = sampling.max_thinking_tokens if renderer.thinks else None
        self._due: list[float] = [inf] * len(rows)
        if self._thinking is not None:
            self._marks = [opened(str(renderer.tokenizer.decode(row.ids[-TAIL:]))) for row in rows]
            self._due = [float(min(self._answer, self._thinking))] * len(rows)
        self._next = min(self._due, default=inf)

    def apply(self, done: int, answers: torch.Tensor, limits: torch.Tensor, at_work: torch.Tensor) -> None:
        """Lowers `limits` (shape (rows,)) after `done` new tokens, which are in `answers` (rows, steps), for the rows
        in `at_work`: a trace ends at its limit, an answer at its limit after the trace."""
        if done < self._next or self._thinking is None:
            return
        for row in at_work.tolist():
            if self._due[row] > done:
                continue
            tokens, closed = trace_tokens(answers[row, :done].tolist(), self._renderer, self._marks[row])
            if closed or done >= self._thinking:
                limits[row] = min(int(limits[row]), tokens + self._answer if closed else done)
                self._due[row] = inf
            else:
                self._due[row] = min(done + self._answer, self._thinking)
        self._next = min(self._due)
