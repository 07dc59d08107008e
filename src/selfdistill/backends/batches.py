"""Which prompts are computed together: a partition that depends on the prompts and settings alone.

An interrupted run that is taken up again forms the same batches, so that rounding, and with it every answer, is the
same as in an uninterrupted one.
"""

from __future__ import annotations

from collections import deque
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
    """`rows` by the length of their prompts, in batches of at most `budget` tokens (padding and room for the answer
    included) and at least one row. The longest come first so that too little memory shows at once. Then long ones and
    short ones come in such turns that on the way a row costs what it costs on average, and the time left can be told.
    """
    made = deque(_by_length(rows, budget))
    average = sum(map(_tokens, made)) / max(len(rows), 1)
    ahead = 0.0  # tokens, of what so many rows cost on average
    while made:
        batch = made.popleft() if ahead <= 0 else made.pop()
        ahead += _tokens(batch) - average * len(batch)
        yield batch


def _tokens(batch: Sequence[Row]) -> int:
    return len(batch) * (max(len(row.ids) for row in batch) + max(row.limit for row in batch))


def _by_length(rows: Sequence[R], budget: int) -> Iterator[list[R]]:
    """Longest prompt first."""
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
