"""Attention of a model that answers on a CPU: in float32, and without copies of keys that several heads share.

The fused kernel takes three to five times as long in bfloat16 as in float32 for one new token a row, which is where the
time goes. So the cache holds keys and values in float32, in which what was bfloat16 is the same number.
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
    """transformers' mask for "sdpa" as numbers to add, float32. Of one that says yes or no PyTorch makes these in each
    layer anew, which took a quarter of the time of reading prompts."""
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
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    dtype, (rows, heads, tokens, size) = query.dtype, query.shape
    query, key, value = query.float(), key.float(), value.float()
    if tokens > 1 or kwargs.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return output.to(dtype), None
    # Heads that share keys see the same of them, as several tokens of one head would.
    shared = query.view(rows, key.shape[1], -1, size)
    output = scaled_dot_product_attention(shared, key, value, attention_mask, dropout, scale=scaling)
    return output.reshape(rows, 1, heads, -1).to(dtype), None
