"""The key-value cache of decoding: plain layers append in place, and rows leave and join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models.cpu import ANSWER_ATTENTION

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


def growing_cache(model: PreTrainedModel, length: int) -> tuple[Cache, bool]:
    """Return the model's kind of key-value cache, with plain layers that have room for `length` tokens, and whether all
    layers are plain. Only then can rows `join`, and `forget` their first positions."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    from .growing_layer import GrowingLayer

    held = torch.float32 if model.config._attn_implementation == ANSWER_ATTENTION else None
    cache = DynamicCache(config=model.config)
    plain = [type(layer) is DynamicLayer for layer in cache.layers]
    pairs = zip(plain, cache.layers, strict=True)
    cache.layers = [GrowingLayer(length, held) if each else layer for each, layer in pairs]
    return cache, all(plain)
