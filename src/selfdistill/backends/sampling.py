"""The choice of the next token: greedy, or drawn with a random stream that belongs to the row.

Temperature, top-k and top-p mean what they mean in transformers, and are applied in its order. The draw is by inverse
cumulative distribution from uniforms that depend on seed and row id alone, so that a row's answer depends neither on
its batch nor on the order of the rows (but for rounding, which differs between shapes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..recipe import Sampling

if TYPE_CHECKING:
    import torch

NEUTRAL: dict[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What decides how a token is chosen, by the names that vLLM has for it, with the values that change nothing."""


def every_setting(sampling: Sampling) -> dict[str, float]:
    """All settings of `NEUTRAL`, as engines take them that have defaults of their own, such as those of the model
    folder's generation_config.json. With temperature 0 nothing is cut off."""
    drawn = {"top_p": sampling.top_p, "top_k": sampling.top_k} if sampling.temperature > 0 else {}
    return {**NEUTRAL, "temperature": sampling.temperature, **drawn}


def row_seed(seed: int, name: str) -> int:
    """The row's own seed, from the sampling's seed and the row's id, in the 31 bits that every server takes."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def uniforms(seed: int, ids: Sequence[str], steps: int) -> torch.Tensor:
    """One stream in [0, 1) a row, float32 of shape (rows, steps). A longer stream begins with the shorter one."""
    import numpy as np
    import torch

    rows = np.empty((len(ids), steps), dtype=np.float32)
    for row, name in zip(rows, ids, strict=True):
        digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
        np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big"))).random(dtype=np.float32, out=row)
    return torch.from_numpy(rows)


def choose(logits: torch.Tensor, sampling: Sampling, draws: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row, shape (rows,), from logits of shape (rows, vocabulary), float32, and one uniform a
    row, shape (rows,); the uniforms are not needed (None) where the temperature is 0."""
    import torch

    if draws is None:
        return logits.argmax(dim=-1)
    candidates, weights = distribution(logits, sampling)
    cumulative = weights.cumsum(dim=-1)
    # Scaled to the weights' sum, a draw below one falls on a candidate whose weight is not zero.
    picked = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    picked = picked.clamp(max=weights.shape[1] - 1)
    return picked[:, 0] if candidates is None else candidates.gather(1, picked)[:, 0]


def distribution(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor | None, torch.Tensor]:
    """What is drawn from: candidate tokens, most probable first (None: the vocabulary in its order), and the weight
    of each, both of shape (rows, candidates). Weights need not sum to one; those that top-p cuts are zero."""
    vocabulary = logits.shape[1]
    k = min(sampling.top_k or vocabulary, vocabulary)
    logits = logits / sampling.temperature
    if k == vocabulary and sampling.top_p == 1:
        return None, logits.softmax(dim=-1)
    top, candidates = logits.topk(k, dim=-1)  # sorting k is all that top-p needs
    probabilities = top.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    before[:, 0] = 0  # the most probable token always stays
    return candidates, probabilities.masked_fill(before >= sampling.top_p, 0.0)
