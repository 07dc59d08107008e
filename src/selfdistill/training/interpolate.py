"""Weights between the seed and a tuned model, (1 − α) θ_seed + α θ_tuned, without training (WiSE-FT, Wortsman et al.
2022, arXiv 2109.01903, eq. 1). A LoRA adapter changes a weight by B A, so its B is scaled by α."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..models.source import open_weights, weights_folder
from ..recipe import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

Mix = Callable[[str, "Tensor"], "Tensor"]
"""Returns the interpolated tensor for a name and a tuned tensor."""


def interpolate(seed: ModelConfig, tuned: Path, alpha: float, out: Path) -> dict[str, Any]:
    """Write the weights at `alpha` to the folder `out`: 0 is the seed, 1 is `tuned` (a folder with an adapter or full
    weights). One file's tensors are in memory at a time. Returns the numbers of `tensors` and of `changed` tensors.

    Raises ModelError if the tuned weights do not fit the seed's, or if the adapter is not a plain LoRA adapter."""
    if not any(tuned.glob("*.safetensors")):
        raise ModelError(f"{tuned} contains no weights to interpolate; train the arm again.")
    partial = out.with_name(out.name + ".partial")
    for old in (partial, out):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    is_adapter = (tuned / "adapter_config.json").is_file()
    tensors = changed = 0
    try:
        with ExitStack() as stack:
            mix = _scaled(tuned, alpha) if is_adapter else _mixed(seed, tuned, alpha, stack)
            for path in sorted(file for file in tuned.iterdir() if file.is_file()):
                if path.suffix == ".safetensors":
                    written = _write(path, partial / path.name, mix)
                    tensors, changed = tensors + written[0], changed + written[1]
                else:
                    shutil.copyfile(path, partial / path.name)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"tensors": tensors, "changed": changed}


def _write(path: Path, out: Path, mix: Mix) -> tuple[int, int]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    changed = 0
    mixed: dict[str, Tensor] = {}
    with safe_open(path, "pt") as file:
        for name in list(file.keys()):
            before = file.get_tensor(name)
            mixed[name] = mix(name, before)
            changed += mixed[name] is not before
        save_file(mixed, out, metadata=file.metadata())
    return len(mixed), changed


def _scaled(adapter: Path, alpha: float) -> Mix:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))

    def mix(name: str, tensor: Tensor) -> Tensor:
        if config.get("use_dora") or not (".lora_A." in name or ".lora_B." in name):
            raise ModelError(
                f"{adapter} contains {name}, so it is not a plain LoRA adapter and can't be scaled; merge it "
                "(train.merge) and interpolate the full weights."
            )
        return tensor * alpha if ".lora_B." in name else tensor

    return mix


def _mixed(seed: ModelConfig, tuned: Path, alpha: float, stack: ExitStack) -> Mix:
    weights = open_weights(weights_folder(seed), stack)

    def mix(name: str, tensor: Tensor) -> Tensor:
        if name not in weights:
            raise ModelError(
                f"{tuned} contains {name} and the seed's files do not; train the arm again from this seed."
            )
        own: Tensor = weights[name][...]
        if own.shape != tensor.shape:
            raise ModelError(
                f"{name} has the shape {tuple(tensor.shape)} in {tuned} and {tuple(own.shape)} in the seed; train the "
                "arm again from this seed."
            )
        # In float32, because bfloat16 would lose most of a small change.
        return (own.float() * (1 - alpha) + tensor.float() * alpha).to(tensor.dtype)

    return mix
