"""Prompts to a filled key-value cache: what decoding does before the first new token.

Tokens that all prompts of a batch begin with are read once: rewriting prompts share the template's beginning, and the
questions of a task its system prompt. On a CPU the rest is read in parts, since the activations of a whole batch do not
fit into the processor's cache. docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from .batches import TokenRow

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

_WORTH_SHARING = 16  # tokens: to read fewer apart from the rest costs about what it saves
_PART = 4096  # tokens, padding included


def read_prompts(
    model: PreTrainedModel, rows: Sequence[TokenRow], cache: Cache, in_parts: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fill the cache. Return the logits after each prompt, of shape (rows, vocabulary), the mask, of shape (rows,
    longest prompt), and the positions of the tokens that were read last. `in_parts` says whether the cache can be
    filled in several steps."""
    import torch

    shared = _read_beginning(model, rows, cache) if in_parts else 0
    tokens, mask, positions = padded(rows, model.device, shared)
    width = max(1, _PART // len(rows)) if in_parts and model.device.type == "cpu" else tokens.shape[1]
    end = shared
    for part, places in zip(torch.split(tokens, width, dim=1), torch.split(positions, width, dim=1), strict=True):
        end += part.shape[1]
        logits = next_logits(model, cache, part, mask[:, :end], places)
    return logits[:, -1], mask, positions


def next_logits(
    model: PreTrainedModel,
    cache: Cache,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    last: int = 1,
) -> torch.Tensor:
    """Append `tokens` to the cache. Return the logits after the `last` of them, of shape (rows, last, vocabulary)."""
    logits: torch.Tensor = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
    ).logits
    return logits


def _read_beginning(model: PreTrainedModel, rows: Sequence[TokenRow], cache: Cache) -> int:
    """Read the tokens that all prompts begin with, once for all rows. Return their number. At least one token of each
    prompt is left to be read."""
    import torch

    columns = list(zip(*(row.ids for row in rows), strict=False))[:-1]
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    if len(rows) == 1 or len(shared) < _WORTH_SHARING:
        return 0
    tokens = torch.tensor([shared], device=model.device)
    next_logits(model, cache, tokens, torch.ones_like(tokens), torch.arange(len(shared), device=model.device)[None])
    cache.batch_select_indices(tokens.new_zeros(len(rows)))
    return len(shared)


def padded(
    rows: Sequence[TokenRow], device: torch.device, read: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the token ids after the first `read` of each prompt, padded on the left, of shape (rows, longest prompt -
    `read`); the mask of all tokens, of shape (rows, longest prompt); and the positions of the returned tokens, counted
    from each prompt's start."""
    import torch

    rests = [row.ids[read:] for row in rows]
    longest = max(map(len, rests))
    tokens = torch.tensor([[0] * (longest - len(rest)) + rest for rest in rests], device=device)
    mask = torch.tensor([[0] * (longest - len(rest)) + [1] * len(rest) for rest in rests], device=device)
    positions = (read + mask.cumsum(dim=1) - 1).clamp(min=0)
    return tokens, torch.cat([mask.new_ones(len(rows), read), mask], dim=1), positions
