"""The floating-point operations of a training, and the peak of a GPU. The MFU is the share of the peak that a training
reaches (PaLM, arXiv 2204.02311, appendix B)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Dense bfloat16 peak in FLOP/s by a part of CUDA's device name, from the vendor's data sheets. The first match counts.
PEAKS = {
    "B200": 2.25e15,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def token_flops(model: Any, lengths: Iterable[int]) -> float:
    """FLOPs per token of a training step over sequences of these lengths (in tokens).

    Each weight of a matrix costs two operations in the forward pass, two in the backward pass for the activations, and
    two more if the weight is trained. Attention costs 4·L·d·T forward and twice as much backward, for L layers of width
    d and T attended tokens. As in the source, T is not halved for causality. Recomputed activations are not counted.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    looked_up = {id(model.get_input_embeddings().weight)} - {id(head.weight) if head is not None else 0}
    matrices = [weight for weight in model.parameters() if weight.dim() > 1 and id(weight) not in looked_up]
    weights = sum(4 * weight.numel() + 2 * weight.numel() * weight.requires_grad for weight in matrices)
    sizes = list(lengths)
    attended = sum(size * size for size in sizes) / sum(sizes)
    return float(weights + 12 * config.num_hidden_layers * config.hidden_size * attended)


def peak_flops(device: Any) -> float | None:
    """The peak of a torch device in FLOP/s, or None if it is not in `PEAKS`."""
    import torch

    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)
