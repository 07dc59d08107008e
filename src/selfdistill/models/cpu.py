"""Code that only a CPU needs: attention for answering, and attention and loss for training without padding.

On a GPU, FlashAttention and TRL's fused head do this work. Neither exists for a CPU.

Answering: for one new token per row, PyTorch's fused kernel takes three to five times as long in bfloat16 as in
float32, and two plain matrix products in float32 are as fast as the fused kernel. So the cache holds keys and values in
float32, which represents every bfloat16 number exactly.

Training: rows are laid end to end instead of being padded, each row attends to itself only, and the language-model head
is computed only at positions with a label.
"""

from __future__ import annotations

from typing import Any

ANSWER_ATTENTION = "selfdistill_cpu"
TRAIN_ATTENTION = "selfdistill_rows"
_MOST_LOGITS = 2**28
"""One GiB in float32. Above it, TRL's own head is used, which computes the logits in parts for every position."""

KNOWN = {
    "gemma", "gpt_neox", "granite", "llama", "mistral", "mixtral", "olmo", "olmo2", "olmoe", "phi3", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "starcoder2",
}  # fmt: skip
"""Architectures whose loss and gradients are tested to equal those of padded rows. Another architecture may add a bias
to its attention (ALiBi) or count positions itself."""


def attend_on_cpu(model: Any) -> None:
    """Switch a model on a CPU from PyTorch's fused attention to `attend`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ANSWER_ATTENTION, attend)
        AttentionMaskInterface.register(ANSWER_ATTENTION, added_mask)
        model.set_attn_implementation(ANSWER_ATTENTION)


def added_mask(*args: Any, **kwargs: Any) -> Any:
    """Return transformers' mask for "sdpa" as float32 numbers to add, which PyTorch would compute again per layer."""
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
    """Compute transformers' "sdpa" attention in float32, without copies of keys that several heads share.

    Query, key and value have shape (rows, heads, tokens, size), with fewer heads of keys if several heads share them.
    Returns shape (rows, tokens, heads, size) in the query's dtype.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    dtype, (rows, heads, tokens, size) = query.dtype, query.shape
    query, key, value = query.float(), key.float(), value.float()
    if tokens > 1 or kwargs.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return output.to(dtype), None
    # Heads that share keys are treated like several tokens of one head.
    shared = query.view(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = shared @ key.transpose(2, 3)
    if attention_mask is not None:
        scores += attention_mask
    output = scores.softmax(dim=-1) @ value
    return output.reshape(rows, 1, heads, -1).to(dtype), None


def fits(config: Any) -> bool:
    """Return whether a model can be trained without padding: a known architecture with plain causal attention."""
    if config.model_type not in KNOWN or getattr(config, "auto_map", None):
        return False
    text = config.get_text_config()
    if any(getattr(text, name, None) for name in ("attn_logit_softcapping", "attention_chunk_size")):
        return False
    layers = getattr(text, "layer_types", None)
    if layers:
        return set(layers) == {"full_attention"}
    return not getattr(text, "sliding_window", None) or not getattr(text, "use_sliding_window", True)


def register_attention() -> str:
    """Register `attend_within_rows` with transformers and return its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

    AttentionInterface.register(TRAIN_ATTENTION, attend_within_rows)
    AttentionMaskInterface.register(TRAIN_ATTENTION, flash_attention_mask)  # no mask without padding
    return TRAIN_ATTENTION


def attend_within_rows(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float,
    dropout: float = 0.0,
    cu_seq_lens_q: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """Compute causal attention for rows laid end to end. Row i starts at token `cu_seq_lens_q[i]`; without it there is
    one row.

    Query, key and value have shape (1, heads, tokens, size). Returns shape (1, tokens, heads, size). The softmax is
    float32 as in transformers' eager attention, which is faster than the fused kernel for short rows on a CPU.
    """
    import torch
    from torch.nn import functional

    if attention_mask is not None:
        raise ValueError("padded rows need another attention")
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) if groups > 1 else tensor for tensor in (key, value))
    lengths = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    future = torch.ones(max(lengths), max(lengths), dtype=torch.bool, device=query.device).triu(1)
    rows = []
    for q, k, v in zip(*(tensor[0].split(lengths, dim=1) for tensor in (query * scaling, key, value)), strict=True):
        n = q.shape[1]
        scores = torch.bmm(q, k.transpose(1, 2)).masked_fill(future[:n, :n], -torch.inf)
        weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype)
        rows.append(torch.bmm(functional.dropout(weights, dropout, training=module.training), v))
    return torch.cat(rows, dim=1).transpose(0, 1)[None], None


def response_loss(model: Any, inputs: dict[str, Any], items: Any, vocabulary: int) -> Any:
    """Return the summed negative log-likelihood of the labels of a batch without padding, divided by `items`. The loss
    of a step is the sum over its batches. Returns None if the logits would take too much memory."""
    from torch.nn import functional

    labels = inputs["labels"][0, 1:]
    at = (labels != -100).nonzero().flatten()
    if len(at) * vocabulary > _MOST_LOGITS:
        return None
    given = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**given, use_cache=False, logits_to_keep=at).logits[0]
    return functional.cross_entropy(logits.float(), labels[at], reduction="sum") / max(items, 1)
