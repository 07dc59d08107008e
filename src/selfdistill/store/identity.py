"""Identities of models, files and datasets: short texts that change when the content does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..models.adapter import base_of, read_object
from ..models.chat_template import CHAT_TEMPLATES
from ..models.digests import file_digests
from ..models.gguf import gguf_file
from ..models.source import model_source
from ..recipe import DataConfig, ModelConfig

# The files of a model folder that transformers, tokenizers and vLLM read, vocabularies included.
_READ = {
    ".json", ".safetensors", ".model", ".jinja", ".bin", ".gguf", ".txt", ".py", ".tiktoken", ".bpe", ".vocab", ".spm",
}  # fmt: skip


def model_identity(model: ModelConfig) -> str:
    """The digest of every file that loading reads, or of the GGUF file. For a hub model its name and revision, which
    is a commit in an experiment (see `models.source`)."""
    if packed := gguf_file(model.path):
        return file_identity(str(packed))
    folder = Path(model_source(model))
    if not folder.is_dir():
        return f"{model.path}@{model.revision or 'main'}"
    return f"{folder.name}:{_together(folder, _files_read(folder))}"


def _files_read(folder: Path) -> list[Path]:
    """The files of a model's folder, templates and code in subfolders, and shards that an index names. For an adapter
    also the files of its base model."""
    files = {path for path in folder.iterdir() if path.suffix in _READ and path.is_file()}
    for pattern in ("*/**/*.py", "*/**/*.jinja"):
        below = (path for path in folder.glob(pattern) if path.is_file())
        files |= {path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts)}
    for index in folder.glob("*.index.json"):
        shards = read_object(index).get("weight_map")
        for name in {str(shard) for shard in shards.values()} if isinstance(shards, dict) else ():
            with suppress(OSError):  # not a usable file name, so not a shard
                files |= {folder / name} if (folder / name).is_file() else set()
    if base := base_of(str(folder)):
        with suppress(OSError):  # a hub name, or not a usable path
            files |= {path for path in Path(base).iterdir() if path.suffix in _READ and path.is_file()}
    return sorted(files)


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
    """The chat template's name, or the identity of the template file. A built-in name never means a file."""
    return (
        model.chat_template if model.chat_template in ("chat", *CHAT_TEMPLATES) else file_identity(model.chat_template)
    )


def source_identity(source: DataConfig) -> str:
    """The identity of a file or folder; for a hub dataset its name."""
    return path_identity(source.path)


def _together(folder: Path, files: Iterable[Path]) -> str:
    """The digest of names and content of a folder's files; for files outside the folder, of the content alone."""
    paths = sorted(files)
    names = [str(path.relative_to(folder)) if path.is_relative_to(folder) else "" for path in paths]
    lines = json.dumps(list(zip(names, file_digests(paths), strict=True)))
    return hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()
