"""The folder or hub name behind `model.path`, and the files of weights there."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..demo import SEED
from ..errors import ModelError
from ..recipe import ModelConfig


def model_source(model: ModelConfig) -> str:
    """The folder or hub name to pass to `from_pretrained`. `demo` is the seed model that ships with the package."""
    return str(SEED) if model.path == "demo" else model.path


def weights_folder(model: ModelConfig) -> Path:
    """The folder with the model's safetensors files; a hub model is downloaded to the cache. Raises ModelError."""
    folder = Path(model_source(model))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=["model*.safetensors*"]))
    except Exception as error:  # of the hub, of the network, of the file system
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"The weights of {model.path} can't be downloaded ({why}); set model.path to a folder."
        ) from None


def open_weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A lazy slice of each weight in a folder, by name, readable until `stack` closes. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    slices: dict[str, Any] = {}
    try:
        names = {"model.safetensors"}
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(names):
            file = stack.enter_context(safe_open(folder / name, framework="pt"))
            slices |= {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (it is not a mapping)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"The weights in {folder} can't be read ({error}); save the model again.") from error
    return slices
