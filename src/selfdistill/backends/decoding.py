"""The decoding loop: a batch of prompts to answers, token by token.

transformers' `generate` keeps computing finished rows until the longest row is done, and copies the whole key-value
cache at every step. In this loop the last rows take the places of finished rows, and new tokens are appended in place.
A model's own generation settings have no effect. docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

from ..models.cpu import ANSWER_ATTENTION
from ..recipe import Sampling
from .batches import TokenRow
from .loops import LoopWatch
from .sampling import choose, uniforms

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

_KEEP = 0.75  # if dropping rows copies the whole cache, rows are dropped below this share of unfinished rows
_ROOM = 64  # positions by which the cache grows


def decode(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    sampling: Sampling,
    stop_ids: Collection[int],
    abandoned: Event | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """Return the new tokens of each row: up to and including its stop token, at most `row.limit`, and with `stop_loops`
    until it is in a loop. Stops early if `abandoned` is set. Calls `on_tokens` at every step with the number of new
    tokens."""
    import torch

    tokens, mask, positions = padded(rows, model.device)
    steps = max(row.limit for row in rows)
    limits = torch.tensor([row.limit for row in rows], device=model.device)
    stops = torch.tensor(sorted(stop_ids), device=model.device)
    draws = uniforms(sampling.seed, [row.id for row in rows], steps).to(model.device) if sampling.temperature else None
    answers = torch.zeros(len(rows), steps, dtype=torch.long, device=model.device)
    counts = torch.zeros(len(rows), dtype=torch.long, device=model.device)
    at_work = torch.arange(len(rows), device=model.device)  # the rows that the tensors of a step belong to
    alive = torch.ones_like(at_work, dtype=torch.bool)
    watch = LoopWatch(len(rows), steps if sampling.stop_loops else 0, model.device)
    cache, keep = _growing_cache(model)
    working = len(rows)
    with torch.inference_mode():
        for step in range(steps):
            logits = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = choose(logits.float(), sampling, None if draws is None else draws[at_work, step])
            answers[at_work, step] = chosen
            counts[at_work] += alive
            on_tokens(working)
            alive &= ~torch.isin(chosen, stops) & (step + 1 < limits[at_work]) & ~watch.looping(answers, at_work, step)
            working = int(alive.sum())
            if not working or (abandoned is not None and abandoned.is_set()):
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if working < keep * len(alive):
                kept = _closed_up(alive, working)
                cache.reorder_cache(kept)  # exists for layers of every kind
                at_work, alive, chosen, mask, positions = (
                    tensor[kept] for tensor in (at_work, alive, chosen, mask, positions)
                )
            tokens = chosen[:, None]
    return [answer[:count] for answer, count in zip(answers.tolist(), counts.tolist(), strict=True)]


def padded(rows: Sequence[TokenRow], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids padded on the left, their mask, and positions counted from each prompt's start, each of shape
    (rows, longest prompt)."""
    import torch

    longest = max(len(row.ids) for row in rows)
    tokens = torch.tensor([[0] * (longest - len(row.ids)) + row.ids for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in rows], device=device)
    return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)


def _closed_up(alive: torch.Tensor, working: int) -> torch.Tensor:
    """Return the row for each of the first `working` places: finished rows are replaced by unfinished ones from
    behind."""
    import torch

    kept = torch.arange(working, device=alive.device)
    kept[~alive[:working]] = alive[working:].nonzero()[:, 0] + working
    return kept


def _growing_cache(model: PreTrainedModel) -> tuple[Cache, float]:
    """Return the model's kind of key-value cache, with plain layers that append in place, and the share of unfinished
    rows below which the finished rows are dropped."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    in_float32 = model.config._attn_implementation == ANSWER_ATTENTION

    class GrowingLayer(DynamicLayer):
        """`DynamicLayer` with spare room in two buffers; `keys` and `values` are views of the filled part."""

        buffers: tuple[torch.Tensor, torch.Tensor] | None = None

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if self.buffers is None:
                self.lazy_initialization(key_states, value_states)
                held = torch.float32 if in_float32 else key_states.dtype
                self.buffers = key_states[:, :, :0].to(held), value_states[:, :, :0].to(held)
            start = self.get_seq_length()
            end = start + key_states.shape[2]
            keys, values = self.buffers
            if end > keys.shape[2]:
                keys, values = _grown(keys, start, end + _ROOM), _grown(values, start, end + _ROOM)
            keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
            return self._show(keys, values, end)

        def reorder_cache(self, beam_idx: torch.Tensor) -> None:
            """Keep the rows that stay in their places, and move the rows from behind into the free places."""
            if self.buffers is None:
                return
            end, count = self.get_seq_length(), len(beam_idx)
            moved = (beam_idx != torch.arange(count, device=beam_idx.device)).nonzero()[:, 0]
            for buffer in self.buffers:
                buffer[moved, :, :end] = buffer[beam_idx[moved], :, :end]
            keys, values = self.buffers
            self._show(keys[:count], values[:count], end)

        def _show(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.buffers = keys, values
            self.keys, self.values = keys[:, :, :end], values[:, :, :end]
            return self.keys, self.values

    cache = DynamicCache(config=model.config)
    plain = [type(layer) is DynamicLayer for layer in cache.layers]
    cache.layers = [GrowingLayer() if each else layer for each, layer in zip(plain, cache.layers, strict=True)]
    return cache, 1.0 if all(plain) else _KEEP


def _grown(buffer: torch.Tensor, filled: int, length: int) -> torch.Tensor:
    """Return a buffer of shape (rows, heads, `length`, width) that starts with the `filled` positions of `buffer`."""
    rows, heads, _, width = buffer.shape
    larger = buffer.new_empty(rows, heads, length, width)
    larger[:, :, :filled] = buffer[:, :, :filled]
    return larger
