"""Training on a CPU without work for nothing: rows stand one after another in place of padded side by side, each
attends within itself, and the language-model head is computed where a label is.

On a GPU these are what FlashAttention and TRL's fused head do; for a CPU neither exists.
"""

from __future__ import annotations

from typing import Any

ATTENTION = "selfdistill_rows"
_MOST_LOGITS = 2**28
"""A gibibyte of them; above, TRL's own head is used, which makes them in parts, for every position."""


KNOWN = {
    "gemma", "gpt_neox", "granite", "llama", "mistral", "mixtral", "olmo", "olmo2", "olmoe", "phi3", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "starcoder2",
}  # fmt: skip
"""Architectures whose loss and gradients are tested to be those of padded rows. Another one may add a bias to its
attention (ALiBi), or count positions by itself."""


def fits(config: Any) -> bool:
    """Whether a model is of a known architecture, with nothing but plain causal attention by its configuration."""
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
    """Makes the attention known to transformers; gives its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

    AttentionInterface.register(ATTENTION, attend_within_rows)
    AttentionMaskInterface.register(ATTENTION, flash_attention_mask)  # none where there is no padding
    return ATTENTION


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
    """Causal attention of rows that stand one after another, from token `cu_seq_lens_q[i]` to the next (without it,
    one row). Query, key and value are [1, heads, tokens, size]; gives [1, tokens, heads, size]. The softmax is float32,
    as in transformers' eager attention, which for short rows is faster on a CPU than the fused kernel."""
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
    """The summed negative log-likelihood of the labels of a batch without padding, over `items`; None where its logits
    would take too much memory. A step's loss is the sum over its batches."""
    from torch.nn import functional

    labels = inputs["labels"][0, 1:]
    at = (labels != -100).nonzero().flatten()
    if len(at) * vocabulary > _MOST_LOGITS:
        return None
    given = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**given, use_cache=False, logits_to_keep=at).logits[0]
    return functional.cross_entropy(logits.float(), labels[at], reduction="sum") / max(items, 1)
