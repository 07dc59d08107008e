"""The log-likelihoods of continuations of a prompt, such as the choices of a question.

A prompt is read once for all its continuations, and what all prompts of a batch begin with is read once for the batch.
lm-eval reads the prompt again with each continuation, and computes the logits of every token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

from .batches import TokenRow, batches
from .key_values import growing_cache
from .prefill import next_logits, read_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CPU_TOKENS = 4096  # per batch on a CPU, whose caches hold no more
_LOGITS = 1 << 28  # numbers in the logits of one batch: one GiB in float32

Likelihood = tuple[float, bool]
"""The log-likelihood of a continuation in nats, and whether greedy decoding would generate it."""


@dataclass(frozen=True)
class _Continued(TokenRow):
    """A prompt, the continuations of it as token ids, and the place of each in the caller's order."""

    continuations: list[list[int]]
    places: list[int]


def shares_prompts(model: PreTrainedModel) -> bool:
    """Return whether the model's cache can hold a prompt for several continuations: not with layers that keep a state
    or a window."""
    return growing_cache(model, 1)[1]


def logit_budget(model: PreTrainedModel, batch_tokens: int) -> int:
    """Return how many tokens a batch may have if the logits of each of them are computed."""
    vocabulary: int = model.config.get_text_config().vocab_size
    return min(batch_tokens, _LOGITS // vocabulary)


def scoring_tasks(
    model: PreTrainedModel, pairs: Sequence[tuple[list[int], list[int]]], batch_tokens: int
) -> Iterator[Callable[[Event], list[tuple[int, Likelihood]]]]:
    """Yield tasks that each return the likelihoods of some of `pairs`, with their places. A pair is the token ids of a
    prompt and of a continuation, both not empty. The softmax is in float32."""
    budget = logit_budget(model, batch_tokens)
    if model.device.type == "cpu":
        budget = min(budget, _CPU_TOKENS)
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, _) in enumerate(pairs):
        by_prompt.setdefault(tuple(prompt), []).append(place)
    rows = []
    for places in by_prompt.values():
        prompt, continuations = pairs[places[0]][0], [pairs[place][1] for place in places]
        copies = len(places) * (len(prompt) + max(map(len, continuations)))  # tokens that the cache holds in the end
        rows.append(_Continued(str(places[0]), prompt, copies - len(prompt), continuations, places))
    return (partial(_likelihoods, model, batch) for batch in batches(rows, budget))


def _likelihoods(model: PreTrainedModel, batch: list[_Continued], _abandoned: Event) -> list[tuple[int, Likelihood]]:
    import torch

    places = [place for row in batch for place in row.places]
    texts = [ids for row in batch for ids in row.continuations]
    longest = max(map(len, texts))
    with torch.inference_mode():
        cache, _ = growing_cache(model, max(len(row.ids) for row in batch) + longest)
        first, mask, positions = read_prompts(model, batch, cache, in_parts=True)
        of = torch.tensor([number for number, row in enumerate(batch) for _ in row.places], device=model.device)
        logits = first[of, None]
        tokens = torch.tensor([ids + [0] * (longest - len(ids)) for ids in texts], device=model.device)
        if longest > 1:  # padding is on the right, where nothing that is scored sees it
            cache.batch_select_indices(of)
            seen = torch.cat([mask[of], mask.new_ones(len(of), longest - 1)], dim=1)
            ahead = positions[of, -1:] + torch.arange(1, longest, device=model.device)
            logits = torch.cat([logits, next_logits(model, cache, tokens[:, :-1], seen, ahead, longest - 1)], dim=1)
        chosen = logits.argmax(dim=-1) == tokens
        values = logits.float().log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    return [
        (place, (float(value[: len(ids)].sum()), bool(same[: len(ids)].all())))
        for place, ids, value, same in zip(places, texts, values, chosen, strict=True)
    ]
