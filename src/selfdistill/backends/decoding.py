"""The decoding loop: a batch of prompts to answers, token by token.

transformers' `generate` keeps computing finished rows until the longest row is done, and copies the whole key-value
cache at every step. In this loop the last rows take the places of finished rows, and new tokens are appended in place.
A model's own generation settings have no effect. docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import Event
from typing import TYPE_CHECKING

from ..recipe import Sampling
from .batches import TokenRow
from .loops import LoopWatch
from .prefill import growing_cache, next_logits, read_prompts
from .sampling import choose, uniforms
from .trace_limits import TraceLimits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def decode(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    sampling: Sampling,
    stop_ids: Collection[int],
    abandoned: Event | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
    traces: TraceLimits | None = None,
) -> list[list[int]]:
    """Return the new tokens of each row: up to and including its stop token, at most `row.limit`, and with `stop_loops`
    until it is in a loop. `traces` lowers the limits of rows with a think trace. Stops early if `abandoned` is set.
    Calls `on_tokens` at every step with the number of new tokens."""
    import torch

    steps = max(row.limit for row in rows)
    limits = torch.tensor([row.limit for row in rows], device=model.device)
    stops = torch.tensor(sorted(stop_ids), device=model.device)
    draws = uniforms(sampling.seed, [row.id for row in rows], steps).to(model.device) if sampling.temperature else None
    answers = torch.zeros(len(rows), steps, dtype=torch.long, device=model.device)
    counts = torch.zeros(len(rows), dtype=torch.long, device=model.device)
    at_work = torch.arange(len(rows), device=model.device)  # the rows that the tensors of a step belong to
    alive = torch.ones_like(at_work, dtype=torch.bool)
    watch = LoopWatch(len(rows), steps if sampling.stop_loops else 0, model.device)
    working = len(rows)
    with torch.inference_mode():
        cache, keep = growing_cache(model, max(len(row.ids) for row in rows))
        logits, mask, positions = read_prompts(model, rows, cache, in_parts=keep == 1)
        for step in range(steps):
            chosen = choose(logits.float(), sampling, None if draws is None else draws[at_work, step])
            answers[at_work, step] = chosen
            counts[at_work] += alive
            on_tokens(working)
            if traces is not None:
                traces.apply(step + 1, answers, limits, at_work)
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
            logits = next_logits(model, cache, chosen[:, None], mask, positions)[:, -1]
    return [answer[:count] for answer, count in zip(answers.tolist(), counts.tolist(), strict=True)]


def _closed_up(alive: torch.Tensor, working: int) -> torch.Tensor:
    """Return the row for each of the first `working` places: finished rows are replaced by unfinished ones from
    behind."""
    import torch

    kept = torch.arange(working, device=alive.device)
    kept[~alive[:working]] = alive[working:].nonzero()[:, 0] + working
    return kept
