"""Paired outcomes of an arm and the seed."""

from __future__ import annotations

from selfdistill.measure.comparisons import Pair

MARGIN = 0.05


def pair(task: str, gained: int, lost: int, same: int) -> Pair:
    """Right and wrong in a single run: `gained` items are right in the arm only, `lost` in the seed only."""
    mine, other = [1.0] * gained + [0.0] * lost + [1.0] * same, [0.0] * gained + [1.0] * lost + [1.0] * same
    return Pair(task, "vanilla", "seed", [dict(enumerate(mine))], [dict(enumerate(other))])
