"""The limits of a device, measured: bytes per second, FLOPs per second, and a Llama's new tokens per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from selfdistill.backends.batches import TokenRow


def parameters(config: Any) -> int:
    """The number of parameters that a Llama multiplies with; the embedding is only looked up."""
    width = config.num_attention_heads * config.head_dim
    layer = 2 * config.hidden_size * (width + config.num_key_value_heads * config.head_dim)
    layer += 3 * config.hidden_size * config.intermediate_size
    return int(config.num_hidden_layers * layer + config.vocab_size * config.hidden_size)


def bandwidth_bound(config: Any, batches: Iterable[list[TokenRow]], device: str, quick: bool) -> float:
    """New tokens per second in bfloat16 if only reading weights and cache took time, once per step of every batch,
    at the measured bandwidth."""
    cached = 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim  # bytes a token
    tokens, read = 0, 0.0
    for batch in batches:
        steps = max(row.limit for row in batch)
        tokens += steps * len(batch)
        read += steps * (2 * parameters(config) + cached * sum(len(row.ids) + steps / 2 for row in batch))
    return tokens / (read / copied_bytes(device, quick))


def copied_bytes(device: str, quick: bool) -> float:
    """Bytes per second that are read and written when memory is copied."""
    import torch

    source = torch.ones((1 << 22) if quick else (1 << 30), dtype=torch.int16, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), device, quick)


def peak_flops(device: str, quick: bool) -> float:
    """FLOPs per second of a product of large matrices in bfloat16."""
    import torch

    size = 256 if quick else 8192
    matrix = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    return 2 * size**3 / fastest(lambda: matrix @ matrix, device, quick)


def fastest(work: Callable[[], Any], device: str, quick: bool) -> float:
    """Seconds of the fastest of a few runs."""
    import torch

    taken = []
    for _ in range(3 if quick else 20):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)
