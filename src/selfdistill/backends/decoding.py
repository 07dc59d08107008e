"""The decoding loop: a group of prompts to answers, token by token.

transformers' `generate` keeps computing finished rows until the longest row is done, and copies the whole key-value
cache at every step. In this loop further prompts take the places of finished rows, and new tokens are appended in
place. A model's own generation settings have no effect. docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import Event
from typing import TYPE_CHECKING

from ..recipe import Sampling
from .batches import TokenRow
from .in_flight import InFlight
from .loops import LoopWatch
from .sampling import choose, uniforms
from .trace_limits import TraceLimits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_JOINING = 4  # further prompts are read for a quarter of the places at least: few at a time are slow to read


def decode(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    sampling: Sampling,
    stop_ids: Collection[int],
    abandoned: Event | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
    on_answers: Callable[[torch.Tensor, torch.Tensor], None] = lambda _answers, _counts: None,
    traces: TraceLimits | None = None,
    places: int | None = None,
) -> list[list[int]]:
    """Return the new tokens of each row: up to and including its stop token, at most `row.limit`, and with `stop_loops`
    until it is in a loop. `traces` lowers the limits of rows with a think trace. At most `places` rows (None: all) are
    computed at a time; `rows` must then be sorted by length, longest first. Stops early if `abandoned` is set. Calls
    `on_tokens` at every step with the number of new tokens, and `on_answers` with the tokens of all rows so far,
    [row, step], and their numbers, [row]."""
    import torch

    places = min(places or len(rows), len(rows))
    steps = max(row.limit for row in rows)
    limits = torch.tensor([row.limit for row in rows], device=model.device)
    stops = torch.tensor(sorted(stop_ids), device=model.device)
    draws = uniforms(sampling.seed, [row.id for row in rows], steps).to(model.device) if sampling.temperature else None
    answers = torch.zeros(len(rows), steps + 1, dtype=torch.long, device=model.device)  # the last one is for nothing
    counts = torch.zeros(len(rows), dtype=torch.long, device=model.device)
    watch = LoopWatch(len(rows), steps if sampling.stop_loops else 0, model.device)
    alive = torch.ones(len(rows), dtype=torch.bool, device=model.device)
    with torch.inference_mode():
        flight = InFlight(model, rows[:places], 0)
        read = working = places
        while True:
            at_work = flight.numbers
            goes_on, place = alive[at_work], counts[at_work]
            chosen = choose(flight.logits.float(), sampling, None if draws is None else draws[at_work, place])
            answers[at_work, torch.where(goes_on, place, steps)] = chosen
            counts[at_work] += goes_on
            on_tokens(working)
            on_answers(answers, counts)
            if traces is not None:
                traces.apply(counts, answers, limits, at_work)
            looping = watch.looping(answers, at_work, place)
            alive[at_work] = goes_on = goes_on & ~torch.isin(chosen, stops) & (counts < limits)[at_work] & ~looping
            working = int(goes_on.sum())
            waiting = rows[read : read + places - working]
            if (abandoned is not None and abandoned.is_set()) or not (working or waiting):
                break
            if working:
                kept = flight.drop(goes_on, working)
                flight.step(chosen if kept is None else chosen[kept])
            if waiting and not working:
                flight = InFlight(model, waiting, read)
            elif waiting and flight.plain and (places - working) * _JOINING >= places:
                flight.join(waiting, read)
            else:
                continue
            read, working = read + len(waiting), working + len(waiting)
    return [answer[:count] for answer, count in zip(answers.tolist(), counts.tolist(), strict=True)]
