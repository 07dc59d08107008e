"""How far the weights moved: the Frobenius norm of the change, for each weight and in all, absolute and relative to the
seed's. From a LoRA adapter's factors, or from two files of weights read side by side in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from ...models.source import model_source
from ...recipe import ModelConfig
from .compared import UnmeasuredError

_PIECE = 2**24  # elements of a weight that are read at a time
_INDEX = "model.safetensors.index.json"
# What else an adapter may change: its norm is not the one of the factors.
_REFUSED = (
    "use_dora",
    "bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
)


def parameter_shift(seed: ModelConfig, tuned: ModelConfig, adapter: str | None) -> dict[str, Any]:
    """`norm` ‖Δ‖_F and `relative` ‖Δ‖_F / ‖θ_seed‖_F over all weights, and the same for each weight that changed
    (`layers`). Raises UnmeasuredError where the weights can't be compared."""
    from safetensors import SafetensorError

    try:
        if adapter is not None:
            return adapter_shift(Path(adapter), weight_norms(_folder(seed)))
        return weights_shift(_folder(seed), _folder(tuned))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UnmeasuredError(f"The weights can't be compared: {error}.") from error


def adapter_shift(adapter: Path, seed: Mapping[str, float]) -> dict[str, Any]:
    """From the factors A (r × in) and B (out × r) of each weight, without their product:
    ‖s·BA‖_F² = s²·trace((AAᵀ)(BᵀB)), with s = α/r, or α/√r for rank-stabilised LoRA. `seed` has the norm of each of the
    seed's weights, by name."""
    import torch
    from safetensors import safe_open

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    refused = [key for key in _REFUSED if config.get(key) not in (None, False, "none", {}, [])]
    if config.get("peft_type") != "LORA" or refused:
        what = ", ".join(refused) or config.get("peft_type")
        raise UnmeasuredError(f"The change by this kind of adapter ({what}) is not only that of its LoRA factors.")
    layers: dict[str, float] = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  (it is no mapping)
            if ".lora_A." not in key:
                continue
            a, b = (file.get_tensor(name).double() for name in (key, key.replace(".lora_A.", ".lora_B.")))
            if a.ndim != 2:
                raise UnmeasuredError(f"{key} is no factor of a linear layer.")
            scale = config["lora_alpha"] / (sqrt(len(a)) if config.get("use_rslora") else len(a))
            squared = float(torch.sum((a @ a.T) * (b.T @ b)))  # of symmetric matrices, the trace of the product
            name = key.removeprefix("base_model.model.").replace(".lora_A.", ".")
            layers[name] = abs(scale) * sqrt(max(squared, 0.0))
    return _summary(layers, seed)


def weights_shift(seed: Path, tuned: Path) -> dict[str, Any]:
    """From two model folders of safetensors, of which never more than a piece of one weight is in memory."""
    changes: dict[str, float] = {}
    norms: dict[str, float] = {}
    with ExitStack() as stack:
        one, other = _open(seed, stack), _open(tuned, stack)
        # Weights that are tied may be stored once or twice.
        only = [name for name in one.keys() ^ other.keys() if not (name == "lm_head.weight" and _tied(tuned))]
        if only:
            raise UnmeasuredError(
                f"The seed and the tuned model don't hold the same weights: {', '.join(sorted(only)[:3])}."
            )
        for name in one:
            norms[name], changes[name] = _norms(one[name], other.get(name), name)
    return _summary(changes, norms)


@cache
def weight_norms(folder: Path) -> Mapping[str, float]:
    """The Frobenius norm of each weight in a model folder, by name. Kept: all runs of an experiment share a seed."""
    with ExitStack() as stack:
        return {name: _norms(weight, None, name)[0] for name, weight in _open(folder, stack).items()}


def _summary(changes: Mapping[str, float], seed: Mapping[str, float]) -> dict[str, Any]:
    norm, of_seed = (sqrt(sum(value**2 for value in values.values())) for values in (changes, seed))
    layers = [
        {"name": name, "norm": change, "relative": change / seed[name] if seed.get(name) else None}
        for name, change in changes.items()
    ]
    return {"norm": norm, "relative": norm / of_seed if of_seed else None, "layers": layers}


def _norms(weight: Any, other: Any, name: str) -> tuple[float, float]:
    """‖weight‖ and ‖other − weight‖, in double precision."""
    if other is not None and weight.get_shape() != other.get_shape():
        raise UnmeasuredError(f"{name} has another shape in the tuned model.")
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
    width = 1
    for size in shape[1:]:
        width *= size
    step = max(1, _PIECE // max(width, 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _open(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A lazy slice of each weight in a folder, by name."""
    from safetensors import safe_open

    index = folder / _INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    found: dict[str, Any] = {}
    for name in names:
        file = stack.enter_context(safe_open(folder / name, framework="pt"))
        found |= {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    return found


def _tied(folder: Path) -> bool:
    return bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings"))


def _folder(model: ModelConfig) -> Path:
    """Where a model's safetensors are; those of the hub have been downloaded when it was loaded."""
    folder = Path(model_source(model))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=["model*.safetensors*"]))
    except Exception as error:  # of the hub, of the network, of the file system
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UnmeasuredError(f"The weights of {model.path} can't be had ({why}).") from None
