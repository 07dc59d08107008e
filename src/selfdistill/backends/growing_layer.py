"""A layer of the key-value cache that appends in place, and whose rows leave and join. Imports torch."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 64  # positions by which the cache grows


class GrowingLayer(DynamicLayer):
    """`DynamicLayer` with spare room in two buffers; `keys` and `values` are views of the filled part. There is room
    for `length` tokens, and more is made for more. The buffers have the dtype `held`, or that of the keys."""

    def __init__(self, length: int, held: torch.dtype | None = None) -> None:
        super().__init__()
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._length, self._held = length, held

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.buffers is None:
            self.lazy_initialization(key_states, value_states)
            held = self._held or key_states.dtype
            self.buffers = key_states[:, :, :0].to(held), value_states[:, :, :0].to(held)
        count, start = len(key_states), self.get_seq_length()
        end = start + key_states.shape[2]
        if end > self.buffers[0].shape[2]:
            self._make_room(start, max(end, self._length) + ROOM)
        keys, values = self.buffers
        keys[:count, :, start:end], values[:count, :, start:end] = key_states, value_states
        return self._show(count, end)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows that stay in their places, and move the rows from behind into the free places."""
        if self.buffers is None:
            return
        end, count = self.get_seq_length(), len(beam_idx)
        moved = (beam_idx != torch.arange(count, device=beam_idx.device)).nonzero()[:, 0]
        for buffer in self.buffers:
            buffer[moved, :, :end] = buffer[beam_idx[moved], :, :end]
        self._show(count, end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Hold these rows, where a row may occur several times."""
        if self.buffers is not None:
            end, room = self.get_seq_length(), self.buffers[0].shape[2]
            keys, values = self.buffers
            self.buffers = keys[indices], values[indices]
            self._make_room(end, room)
            self._show(len(indices), end)

    def join(self, other: GrowingLayer) -> None:
        """Append the rows of `other`, which is at most as long, so that both end at the same position. There must
        be places of rows that have left."""
        assert self.buffers is not None
        assert other.buffers is not None
        count, end = len(self.keys), self.get_seq_length()
        more, start = len(other.keys), end - other.get_seq_length()
        for buffer, new in zip(self.buffers, (other.keys, other.values), strict=True):
            buffer[count : count + more, :, :start] = 0  # is masked, but must be a number
            buffer[count : count + more, :, start:end] = new
        self._show(count + more, end)

    def forget(self, positions: int) -> None:
        """Drop the first positions, which no row uses."""
        assert self.buffers is not None
        count, end = len(self.keys), self.get_seq_length()
        for buffer in self.buffers:
            buffer[:count, :, : end - positions] = buffer[:count, :, positions:end].clone()
        self._show(count, end - positions)

    def _make_room(self, filled: int, room: int) -> None:
        assert self.buffers is not None
        keys, values = self.buffers
        self.buffers = _with_room(keys, filled, room), _with_room(values, filled, room)

    def _show(self, count: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.buffers is not None
        keys, values = self.buffers
        self.keys, self.values = keys[:count, :, :end], values[:count, :, :end]
        return self.keys, self.values


def _with_room(buffer: torch.Tensor, filled: int, length: int) -> torch.Tensor:
    """Return a buffer of shape (rows, heads, `length`, width) that starts with the `filled` positions of `buffer`."""
    rows, heads, _, width = buffer.shape
    larger = buffer.new_empty(rows, heads, length, width)
    larger[:, :, :filled] = buffer[:, :, :filled]
    return larger
