"""LoRA adapters that were made elsewhere: whether a model is one, where its folder is, and which base it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ModelError, first_line
from ..recipe import ModelConfig
from .hub import ask_hub
from .source import is_on_hub, model_source

_FILE = "adapter_config.json"


def adapter_folder(model: ModelConfig) -> str | None:
    """The folder of a LoRA adapter; None for a model with its own weights. An adapter of the hub is downloaded to the
    cache. Raises ModelError."""
    source = model_source(model)
    if not is_on_hub(model):
        return source if (Path(source) / _FILE).is_file() else None
    ask_hub()
    from huggingface_hub import snapshot_download
    from transformers.utils import cached_file

    found = cached_file(
        source,
        _FILE,
        revision=model.revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return None
    try:
        return snapshot_download(source, revision=model.revision)
    except Exception as error:  # of the hub, of the network, of the file system
        raise ModelError(
            f"The adapter {source} can't be downloaded ({first_line(error)}); name its folder instead."
        ) from None


def base_of(adapter: str) -> str | None:
    """The path or hub name of the model that an adapter was trained on, as the adapter states it."""
    base = read_object(Path(adapter) / _FILE).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


def fits(adapter: str, seed: ModelConfig) -> bool:
    """Whether an adapter was trained on the seed, by the name that it states: the seed's path, hub name, or a folder
    with the same weights. An adapter that states no base is not refused here: loading it compares its weights' names
    and shapes."""
    base = base_of(adapter)
    if base is None:
        return True
    source = model_source(seed)
    origin = read_object(Path(source) / "config.json").get("_name_or_path") if Path(source).is_dir() else None
    if base in (seed.path, source, origin):
        return True
    folders = Path(base).expanduser(), Path(source).expanduser()
    if not all(folder.is_dir() for folder in folders):
        return False
    return folders[0].resolve() == folders[1].resolve() or _weights(folders[0]) == _weights(folders[1])


def _weights(folder: Path) -> list[str]:
    from .digests import file_digests

    return sorted(file_digests(folder.glob("*.safetensors")))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
