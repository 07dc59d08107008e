"""The key-value cache of decoding: plain layers append in place, and rows leave and join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models.cpu import ANSWER_ATTENTION

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

    Pair = tuple[torch.Tensor, torch.Tensor]

_ROOM = 64  # positions by which the cache grows


def growing_cache(model: PreTrainedModel, length: int) -> tuple[Cache, bool]:
    """Return the model's kind of key-value cache, with plain layers that have room for `length` tokens, and whether all
    layers are plain. Only then can rows `join`, and the cache `forget` their first positions."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    in_float32 = model.config._attn_implementation == ANSWER_ATTENTION

    class GrowingLayer(DynamicLayer):
        """`DynamicLayer` with spare room in two buffers; `keys` and `values` are views of the filled part."""

        buffers: Pair | None = None

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Pair:
            if self.buffers is None:
                self.lazy_initialization(key_states, value_states)
                held = torch.float32 if in_float32 else key_states.dtype
                self.buffers = key_states[:, :, :0].to(held), value_states[:, :, :0].to(held)
            count, start = len(key_states), self.get_seq_length()
            end = start + key_states.shape[2]
            if end > self.buffers[0].shape[2]:
                _make_room(self, start, max(end, length) + _ROOM)
            keys, values = self.buffers
            keys[:count, :, start:end], values[:count, :, start:end] = key_states, value_states
            return _show(self, count, end)

        def reorder_cache(self, beam_idx: torch.Tensor) -> None:
            """Keep the rows that stay in their places, and move the rows from behind into the free places."""
            if self.buffers is not None:
                end, count = self.get_seq_length(), len(beam_idx)
                moved = (beam_idx != torch.arange(count, device=beam_idx.device)).nonzero()[:, 0]
                for buffer in self.buffers:
                    buffer[moved, :, :end] = buffer[beam_idx[moved], :, :end]
                _show(self, count, end)

        def batch_select_indices(self, indices: torch.Tensor) -> None:
            """Hold these rows, where a row may occur several times."""
            if self.buffers is not None:
                end, (keys, values) = self.get_seq_length(), self.buffers
                self.buffers = keys[indices], values[indices]
                _make_room(self, end, keys.shape[2])
                _show(self, len(indices), end)

    cache = DynamicCache(config=model.config)
    plain = [type(layer) is DynamicLayer for layer in cache.layers]
    cache.layers = [GrowingLayer() if each else layer for each, layer in zip(plain, cache.layers, strict=True)]
    return cache, all(plain)


def join(cache: Cache, other: Cache) -> None:
    """Append the rows of `other`, which is at most as long, so that both end at the same position. There must be places
    of rows that have left."""
    for layer, new in zip(cache.layers, other.layers, strict=True):
        count, end, more = len(layer.keys), layer.get_seq_length(), len(new.keys)
        start = end - new.get_seq_length()
        for buffer, states in zip(layer.buffers, (new.keys, new.values), strict=True):
            buffer[count : count + more, :, :start] = 0  # is masked, but must be a number
            buffer[count : count + more, :, start:end] = states
        _show(layer, count + more, end)


def forget(cache: Cache, positions: int) -> None:
    """Drop the first positions, which no row uses."""
    for layer in cache.layers:
        count, end = len(layer.keys), layer.get_seq_length()
        for buffer in layer.buffers:
            buffer[:count, :, : end - positions] = buffer[:count, :, positions:end].clone()
        _show(layer, count, end - positions)


def _make_room(layer: Any, filled: int, room: int) -> None:
    keys, values = layer.buffers
    layer.buffers = _with_room(keys, filled, room), _with_room(values, filled, room)


def _show(layer: Any, count: int, end: int) -> Pair:
    """Show the first rows and positions of the buffers."""
    keys, values = layer.buffers
    layer.keys, layer.values = keys[:count, :, :end], values[:count, :, :end]
    return layer.keys, layer.values


def _with_room(buffer: torch.Tensor, filled: int, length: int) -> torch.Tensor:
    """Return a buffer of shape (rows, heads, `length`, width) that starts with the `filled` positions of `buffer`."""
    rows, heads, _, width = buffer.shape
    larger = buffer.new_empty(rows, heads, length, width)
    larger[:, :, :filled] = buffer[:, :, :filled]
    return larger
