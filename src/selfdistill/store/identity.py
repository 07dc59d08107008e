"""What a model, a file or a dataset is, in a short text that changes when its content does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..models.chat_template import CHAT_TEMPLATES
from ..models.source import model_source
from ..recipe import DataConfig, ModelConfig
from .digests import file_digests

# What transformers, tokenizers and vLLM read of a model's folder, vocabularies among them.
_READ = {
    ".json", ".safetensors", ".model", ".jinja", ".bin", ".gguf", ".txt", ".py", ".tiktoken", ".bpe", ".vocab", ".spm",
}  # fmt: skip


def model_identity(model: ModelConfig) -> str:
    """A short text that changes when the model does: a digest of the whole content of every file that loading reads,
    or of a hub model the name and its revision, which in an experiment is a commit (see `models.source`)."""
    folder = Path(model_source(model))
    if not folder.is_dir():
        return f"{model.path}@{model.revision or 'main'}"
    return f"{folder.name}:{_together(folder, _files_read(folder))}"


def _files_read(folder: Path) -> list[Path]:
    """The files of a model's folder, templates and code in folders below, shards that an index names, and of an
    adapter's folder those of its base model."""
    files = {path for path in folder.iterdir() if path.suffix in _READ and path.is_file()}
    for pattern in ("*/**/*.py", "*/**/*.jinja"):
        below = (path for path in folder.glob(pattern) if path.is_file())
        files |= {path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts)}
    for index in folder.glob("*.index.json"):
        shards = _json(index).get("weight_map")
        for name in {str(shard) for shard in shards.values()} if isinstance(shards, dict) else ():
            with suppress(OSError):  # no usable name of a file, so no shard
                files |= {folder / name} if (folder / name).is_file() else set()
    base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if isinstance(base, str) and base:
        with suppress(OSError):  # a hub name, or no usable path
            files |= {path for path in Path(base).iterdir() if path.suffix in _READ and path.is_file()}
    return sorted(files)


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def file_identity(name: str) -> str:
    """Name and digest of a file's content; the name alone if there is no such file."""
    path = Path(name).expanduser()
    return f"{path.name}:{file_digests([path])[0]}" if name and path.is_file() else name


def path_identity(name: str) -> str:
    """`file_identity`, or for a folder its name and the digest of all files in it."""
    path = Path(name).expanduser()
    if not name or not path.is_dir():
        return file_identity(name)
    return f"{path.name}:{_together(path, (part for part in path.rglob('*') if part.is_file()))}"


def chat_template_identity(model: ModelConfig) -> str:
    """The chat template's name, or the identity of the template file. A name of our own never means a file."""
    return (
        model.chat_template if model.chat_template in ("chat", *CHAT_TEMPLATES) else file_identity(model.chat_template)
    )


def source_identity(source: DataConfig) -> str:
    """A short text that changes when the data does; of a hub dataset its name."""
    return path_identity(source.path)


def _together(folder: Path, files: Iterable[Path]) -> str:
    """The digest of a folder's files: their names and content. Of files outside of it, the content alone."""
    paths = sorted(files)
    names = [str(path.relative_to(folder)) if path.is_relative_to(folder) else "" for path in paths]
    lines = json.dumps(list(zip(names, file_digests(paths), strict=True)))
    return hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()
