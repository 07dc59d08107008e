"""Endless repetition in an answer, found while it is generated: the same rule in every engine that sees tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHORTEST, LONGEST, TIMES = 32, 96, 4
"""An answer is in a loop if its last tokens are one pattern of 32 to 96 tokens, four times in a row. A shorter pattern
counts by its multiples, so at least 128 tokens repeat. docs/performance.md has the measurements."""


def in_loop(ids: Sequence[int]) -> bool:
    """Return whether the tokens end in a loop."""
    longest = min(LONGEST, len(ids) // TIMES)
    tail = list(ids[-LONGEST * TIMES :])
    return any(tail[-size * TIMES :] == tail[-size:] * TIMES for size in range(SHORTEST, longest + 1))


class LoopWatch:
    """`in_loop` for answers that grow token by token. `rows` and `steps` are the shape of the answers; with too few
    steps for a loop nothing is computed, else a comparison with 65 earlier tokens per token."""

    def __init__(self, rows: int, steps: int, device: torch.device) -> None:
        import torch

        self._possible = steps >= SHORTEST * TIMES
        self._sizes = torch.arange(SHORTEST, LONGEST + 1, device=device)
        # For each row and size of a pattern, how many tokens in a row equal the token one pattern before.
        self._equal = torch.zeros(rows, len(self._sizes), dtype=torch.int32, device=device)
        self._enough = ((TIMES - 1) * self._sizes).to(torch.int32)

    def looping(self, answers: torch.Tensor, at_work: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return which of the rows `at_work` are in a loop after their newest token, which is at `places` of `answers`.
        Must be called for each token of a row."""
        import torch

        if not self._possible:
            return answers.new_zeros(len(at_work), dtype=torch.bool)
        places = places[:, None]
        before = answers[at_work[:, None], (places - self._sizes).clamp(min=0)]
        same = (before == answers[at_work[:, None], places]) & (self._sizes <= places)
        self._equal[at_work] = (self._equal[at_work] + 1) * same
        return (self._equal[at_work] >= self._enough).any(dim=1)
