"""Weights on the line between the seed and a tuned model (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903, eq. 1):
(1 − α) θ_seed + α θ_tuned, without training. For LoRA, whose change of a weight is B A, by scaling B."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..models.source import model_source
from ..recipe import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

_INDEX = "model.safetensors.index.json"


def interpolate(seed: ModelConfig, tuned: Path, alpha: float, out: Path) -> dict[str, Any]:
    """Writes to the folder `out` what `tuned` (an adapter's folder, or full weights') is at `alpha`: 0 is the seed, 1
    the tuned model. A file's tensors at a time are in memory. Gives the counts of tensors and of those changed.

    Raises ModelError where the tuned weights don't fit the seed's, or an adapter is no plain LoRA."""
    if not any(tuned.glob("*.safetensors")):
        raise ModelError(f"{tuned} holds no weights to interpolate; train the arm again.")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    partial.mkdir(parents=True)
    is_adapter = (tuned / "adapter_config.json").is_file()
    tensors = changed = 0
    try:
        mix = _scaled(tuned, alpha) if is_adapter else _mixed(_files(seed), tuned, alpha)
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


Mix = Callable[[str, "Tensor"], "Tensor"]


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
        if ".lora_A." in name and not config.get("use_dora"):
            return tensor
        if ".lora_B." in name and not config.get("use_dora"):
            return tensor * alpha
        raise ModelError(
            f"{adapter} holds {name}, so it is no plain LoRA adapter, and its change can't be scaled; merge it "
            "(train.merge) and interpolate full weights."
        )

    return mix


def _mixed(seed: Iterable[Path], tuned: Path, alpha: float) -> Mix:
    from safetensors import safe_open

    where: dict[str, Path] = {}
    for path in seed:
        with safe_open(path, "pt") as file:
            where |= dict.fromkeys(file.keys(), path)

    def mix(name: str, tensor: Tensor) -> Tensor:
        if name not in where:
            raise ModelError(f"{tuned} holds {name}, which the seed's files don't; the two can't be interpolated.")
        with safe_open(where[name], "pt") as file:
            own = file.get_tensor(name)
        if own.shape != tensor.shape:
            raise ModelError(f"{name} is {tuple(tensor.shape)} in {tuned} and {tuple(own.shape)} in the seed.")
        # In float32, whatever the two are held in: bfloat16 would lose most of a small change.
        mixed: Tensor = (own.float() * (1 - alpha) + tensor.float() * alpha).to(tensor.dtype)
        return mixed

    return mix


def _files(seed: ModelConfig) -> list[Path]:
    """The seed's safetensors, from its folder or the hub's cache."""
    folder = Path(model_source(seed))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        patterns = ["*.safetensors", _INDEX]
        folder = Path(snapshot_download(seed.path, revision=seed.revision, allow_patterns=patterns))
    return sorted(folder.glob("*.safetensors"))
