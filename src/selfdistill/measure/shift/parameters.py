"""The parameter shift: the Frobenius norm of the change, per weight and over all weights, absolute and relative to the
seed's. It is computed from a LoRA adapter's factors, or from two folders of weights that are read in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from math import prod, sqrt
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...models.source import open_weights, weights_folder
from ...recipe import ModelConfig
from .compared import UnmeasuredError

_PIECE = 2**24  # elements of a weight that are read at a time
# Adapters with these settings change more than their LoRA factors do.
_BEYOND_LORA = (
    "use_dora", "bias", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication",
    "trainable_token_indices",
)  # fmt: skip


def parameter_shift(seed: ModelConfig, tuned: ModelConfig, adapter: str | None) -> dict[str, Any]:
    """`norm` ‖Δ‖_F and `relative` ‖Δ‖_F / ‖θ_seed‖_F over all weights, and in `layers` the same for each weight that
    changed. Raises UnmeasuredError if the weights can't be compared."""
    from safetensors import SafetensorError

    try:
        if adapter is not None:
            return adapter_shift(Path(adapter), weight_norms(weights_folder(seed)))
        return weights_shift(weights_folder(seed), weights_folder(tuned))
    except ModelError as error:
        raise UnmeasuredError(str(error)) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UnmeasuredError(f"The weights can't be compared: {error}.") from error


def adapter_shift(adapter: Path, seed: Mapping[str, float]) -> dict[str, Any]:
    """The shift by the factors A (r × in) and B (out × r) of each weight, without computing their product:
    ‖s·BA‖_F² = s²·trace((AAᵀ)(BᵀB)), with s = α/r, or α/√r for rank-stabilised LoRA. `seed` has the norms of the seed's
    weights by name. Raises UnmeasuredError for other kinds of adapters."""
    import torch
    from safetensors import safe_open

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    refused = [key for key in _BEYOND_LORA if config.get(key) not in (None, False, "none", {}, [])]
    if config.get("peft_type") != "LORA" or refused:
        what = ", ".join(refused) or config.get("peft_type")
        raise UnmeasuredError(f"This adapter changes more than its LoRA factors ({what}), so its norm is not computed.")
    layers: dict[str, float] = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  (it is not a mapping)
            if ".lora_A." not in key:
                continue
            a, b = (file.get_tensor(name).double() for name in (key, key.replace(".lora_A.", ".lora_B.")))
            if a.ndim != 2:
                raise UnmeasuredError(f"{key} is not a factor of a linear layer, so its norm is not computed.")
            scale = config["lora_alpha"] / (sqrt(len(a)) if config.get("use_rslora") else len(a))
            squared = float(torch.sum((a @ a.T) * (b.T @ b)))  # the trace of a product of symmetric matrices
            name = key.removeprefix("base_model.model.").replace(".lora_A.", ".")
            layers[name] = abs(scale) * sqrt(max(squared, 0.0))
    return _summary(layers, seed)


def weights_shift(seed: Path, tuned: Path) -> dict[str, Any]:
    """The shift between two model folders of safetensors. At most one piece of a weight per folder is in memory. Raises
    UnmeasuredError if the two folders have weights with different names or shapes."""
    changes: dict[str, float] = {}
    norms: dict[str, float] = {}
    with ExitStack() as stack:
        one, other = open_weights(seed, stack), open_weights(tuned, stack)
        # Tied weights may be stored once or twice.
        tied = json.loads((tuned / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings")
        only = [name for name in one.keys() ^ other.keys() if not (name == "lm_head.weight" and tied)]
        if only:
            raise UnmeasuredError(
                f"The seed and the tuned model don't hold the same weights: {', '.join(sorted(only)[:3])}."
            )
        for name in one:
            norms[name], changes[name] = _norms(one[name], other.get(name), name)
    return _summary(changes, norms)


@cache
def weight_norms(folder: Path) -> Mapping[str, float]:
    """The Frobenius norm of each weight in a model folder, by name. Cached: all runs of an experiment share a seed."""
    with ExitStack() as stack:
        return {name: _norms(weight, None, name)[0] for name, weight in open_weights(folder, stack).items()}


def _summary(changes: Mapping[str, float], seed: Mapping[str, float]) -> dict[str, Any]:
    norm, of_seed = (sqrt(sum(value**2 for value in values.values())) for values in (changes, seed))
    layers = [
        {"name": name, "norm": change, "relative": change / seed[name] if seed.get(name) else None}
        for name, change in changes.items()
    ]
    return {"norm": norm, "relative": norm / of_seed if of_seed else None, "layers": layers}


def _norms(weight: Any, other: Any, name: str) -> tuple[float, float]:
    """‖weight‖ and ‖other − weight‖ in double precision; the second is 0 without `other`."""
    if other is not None and weight.get_shape() != other.get_shape():
        raise UnmeasuredError(f"{name} has another shape in the tuned model, so the weights are not compared.")
    squared = change = 0.0
    for piece in _pieces(weight.get_shape()):
        ours = weight[piece].double()
        squared += float(ours.square().sum())
        if other is not None:
            change += float((other[piece].double() - ours).square().sum())
    return sqrt(squared), sqrt(change)


def _pieces(shape: list[int]) -> Iterator[Any]:
    """Slices of the first dimension, of about `_PIECE` elements each."""
    if not shape:
        yield ...
        return
    step = max(1, _PIECE // max(prod(shape[1:]), 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))
