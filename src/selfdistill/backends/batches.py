"""Which prompts are computed together: a partition that depends on the prompts and settings alone.

An interrupted run that is taken up again forms the same batches, so that rounding, and with it every answer, is the
same as in an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

WINDOW = 1024  # prompts sorted at a time: enough to find neighbours of one length, little to hold in memory


@dataclass(frozen=True)
class Row:
    """A prompt's token ids, and how many new tokens it may get."""

    id: str
    ids: list[int]
    limit: int


T = TypeVar("T")
R = TypeVar("R", bound=Row)


def windows(prompts: Iterable[T], size: int = WINDOW) -> Iterator[list[T]]:
    """`prompts` in their order, `size` at a time."""
    stream = iter(prompts)
    while window := list(islice(stream, size)):
        yield window


def batches(rows: Sequence[R], budget: int) -> Iterator[list[R]]:
    """`rows`, longest prompt first, in batches of at most `budget` tokens (padding and room for the answer included)
    and at least one row. The longest come first so that too little memory shows at once."""
    batch: list[R] = []
    longest = room = 0
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        longest, room = max(longest, len(row.ids)), max(room, row.limit)
        if batch and (longest + room) * (len(batch) + 1) > budget:
            yield batch
            batch, longest, room = [], len(row.ids), row.limit
        batch.append(row)
    if batch:
        yield batch
