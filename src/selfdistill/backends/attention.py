"""Attention of a model that answers on a CPU: in float32, and without copies of keys that several heads share.

For one new token a row, which is where the time goes, PyTorch's fused kernel takes three to five times as long in
bfloat16 as in float32, and two plain products in float32 take no longer than it. So the cache holds keys and values
in float32, in which what was bfloat16 is the same number.
"""

from __future__ import annotations

from typing import Any

ATTENTION = "selfdistill_cpu"


def attend_on_cpu(model: Any) -> None:
    """Has a model on a CPU that uses PyTorch's fused attention use this one."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attend)
        AttentionMaskInterface.register(ATTENTION, added_mask)
        model.set_attn_implementation(ATTENTION)


def added_mask(*args: Any, **kwargs: Any) -> Any:
    """transformers' mask for "sdpa" as numbers to add, float32, which PyTorch would make in each layer anew."""
    import torch
    from transformers.masking_utils import sdpa_mask

    mask = sdpa_mask(*args, **kwargs)
    return None if mask is None else torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """transformers' "sdpa" in float32. Query, key and value are [rows, heads, tokens, size], with fewer heads of keys
    where several share them; gives [rows, tokens, heads, size] in the query's dtype."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    dtype, (rows, heads, tokens, size) = query.dtype, query.shape
    query, key, value = query.float(), key.float(), value.float()
    if tokens > 1 or kwargs.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return output.to(dtype), None
    # Heads that share keys see the same of them, as several tokens of one head would.
    shared = query.view(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = shared @ key.transpose(2, 3)
    if attention_mask is not None:
        scores += attention_mask
    output = scores.softmax(dim=-1) @ value
    return output.reshape(rows, 1, heads, -1).to(dtype), None
