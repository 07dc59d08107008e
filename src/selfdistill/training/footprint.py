"""What a training takes, before it starts: optimiser steps, and bytes on disk by the headers of the seed's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

from ..models.source import model_source, weight_files
from ..recipe import ModelConfig, TrainConfig

Shapes = Mapping[str, tuple[int, ...]]

_FLOAT = 4  # bytes: trained weights are held and saved in float32
_ADAM = 2  # moments per trained weight, in float32 too
_KEPT = 2  # checkpoints, see `save_total_limit`; a third exists while it is written
_NOT_ADAPTED = ("embed", "wte", "wpe", "lm_head", "norm")


@dataclass(frozen=True)
class Footprint:
    """Bytes: `model` is what stays in the run's folder, `checkpoints` what is there at most during the training."""

    model: int
    checkpoints: int


def optimiser_steps(settings: TrainConfig, rows: int) -> int:
    """The steps of a training on `rows` responses, as transformers counts them."""
    micro_batches = ceil(rows / settings.micro_batch_size)
    per_epoch = ceil(micro_batches / (settings.batch_size // settings.micro_batch_size))
    return settings.max_steps or ceil(settings.epochs * per_epoch)


def footprint(settings: TrainConfig, shapes: Shapes, steps: int) -> Footprint:
    """The bytes that a training of `steps` steps writes. `shapes` are those of the seed's weights."""
    whole = _FLOAT * sum(map(prod, shapes.values()))
    trained = whole if settings.method == "full" else _FLOAT * _adapter_size(settings, shapes)
    merged = whole if settings.merge and settings.method != "full" else 0
    saves = min(_KEPT + 1, (steps - 1) // settings.save_every)
    return Footprint(trained + merged, saves * (1 + _ADAM) * trained)


def _adapter_size(settings: TrainConfig, shapes: Shapes) -> int:
    """The weights of a LoRA adapter: r · (in + out) for each adapted matrix."""
    matrices = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == 2}
    adapted = [
        shape
        for name, shape in matrices.items()
        if (
            not any(part in name for part in _NOT_ADAPTED)
            if settings.adapter.targets == "all-linear"
            else any(name.endswith(f".{target}") for target in settings.adapter.targets)
        )
    ]
    return settings.adapter.r * sum(map(sum, adapted))


def has_modules(shapes: Shapes, targets: list[str]) -> bool:
    """Whether each of `targets` names a matrix of the weights' files. Loading may rename matrices, so False does not
    mean that the model lacks one."""
    return all(any(name.endswith(f".{target}.weight") for name in shapes) for target in targets)


def weight_shapes(model: ModelConfig) -> Shapes:
    """The shape of each tensor in the model's safetensors files. Empty if they are not on this machine."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for path in _weight_files(model):
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError):  # loading reports what is wrong
        return {}
    return shapes


def _weight_files(model: ModelConfig) -> list[Path]:
    """The safetensors files of a folder, or of a hub model that was downloaded before."""
    source = model_source(model)
    if Path(source).is_dir():
        return weight_files(Path(source))
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "model.safetensors.index.json")
    found = (try_to_load_from_cache(source, name, revision=model.revision) for name in names)
    first = next((Path(path) for path in found if isinstance(path, str)), None)
    return [path for path in weight_files(first.parent) if path.is_file()] if first else []
