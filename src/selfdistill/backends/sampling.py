"""The choice of the next token: greedy, or sampled with a random stream per row.

Temperature, top-k and top-p are defined as in transformers and applied in the same order. Tokens are drawn by inverting
the cumulative distribution at uniforms that depend only on the seed and the row's id. So a row's answer depends neither
on its batch nor on the order of the rows, except for rounding, which differs between shapes.
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
"""The settings that decide how a token is chosen, by their names in vLLM, with the values that have no effect."""


def every_setting(sampling: Sampling) -> dict[str, float]:
    """Return a value for every setting in `NEUTRAL`, so that an engine uses no default of its own, for example from the
    model's generation_config.json. With temperature 0, top-p and top-k have no effect."""
    drawn = {"top_p": sampling.top_p, "top_k": sampling.top_k} if sampling.temperature > 0 else {}
    return {**NEUTRAL, "temperature": sampling.temperature, **drawn}


def row_seed(seed: int, name: str) -> int:
    """Return the row's seed, from the sampling's seed and the row's id. It has 31 bits, which every server accepts."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def uniforms(seed: int, ids: Sequence[str], steps: int) -> torch.Tensor:
    """Return one stream in [0, 1) per row: float32, shape (rows, steps). A longer stream starts like a shorter one."""
    import numpy as np
    import torch

    rows = np.empty((len(ids), steps), dtype=np.float32)
    for row, name in zip(rows, ids, strict=True):
        digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
        np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big"))).random(dtype=np.float32, out=row)
    return torch.from_numpy(rows)


def choose(logits: torch.Tensor, sampling: Sampling, draws: torch.Tensor | None) -> torch.Tensor:
    """Return the next token of each row, shape (rows,), from float32 logits of shape (rows, vocabulary) and one uniform
    per row, shape (rows,). Without uniforms the choice is greedy."""
    import torch

    if draws is None:
        return logits.argmax(dim=-1)
    candidates, weights = distribution(logits, sampling)
    cumulative = weights.cumsum(dim=-1)
    # Scaled by the sum of the weights, a draw below 1 selects a candidate with a weight above zero.
    picked = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    picked = picked.clamp(max=weights.shape[1] - 1)
    return picked[:, 0] if candidates is None else candidates.gather(1, picked)[:, 0]


def distribution(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return the candidate tokens, most probable first, and their weights, both of shape (rows, candidates). None
    stands for the whole vocabulary in its order. Weights need not sum to one, and are zero for tokens that top-p
    removes."""
    vocabulary = logits.shape[1]
    k = min(sampling.top_k or vocabulary, vocabulary)
    logits = logits / sampling.temperature
    if k == vocabulary and sampling.top_p == 1:
        return None, logits.softmax(dim=-1)
    top, candidates = logits.topk(k, dim=-1)  # top-p needs only these k in order
    probabilities = top.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    before[:, 0] = 0  # the most probable token always stays
    return candidates, probabilities.masked_fill(before >= sampling.top_p, 0.0)
