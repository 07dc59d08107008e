"""What a model, a file or a dataset is, in a short text that changes when its content does."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from .config import DataConfig, ModelConfig
from .demo import SEED
from .prompts import LAYOUTS

_SAMPLE_BYTES = 1 << 20


def model_source(model: ModelConfig) -> str:
    """What `from_pretrained` is given: a folder or a hub name. `demo` is the seed model that ships with the package."""
    return str(SEED) if model.path == "demo" else model.path


def model_identity(model: ModelConfig) -> str:
    """A short text that changes when the model does. For a folder a digest of its files: names, sizes, and of each the
    first and last MiB, which reads little even of a large model; for a hub name the name and revision."""
    folder = Path(model_source(model))
    if not folder.is_dir():
        return f"{model.path}@{model.revision or 'main'}"
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".model", ".jinja")):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_SAMPLE_BYTES)
            file.seek(max(size - _SAMPLE_BYTES, 0))
            digest.update(json.dumps([path.name, size]).encode() + head + file.read(_SAMPLE_BYTES))
    return f"{folder.name}:{digest.hexdigest()}"


def file_identity(name: str) -> str:
    """Name and digest of a file's content; the name alone where there is no such file."""
    path = Path(name).expanduser()
    if not name or not path.is_file():
        return name
    state = path.stat()
    return f"{path.name}:{_digest(path, state.st_mtime_ns, state.st_size)}"


def layout_identity(model: ModelConfig) -> str:
    """The layout's name, or the identity of the template file. A name of our own never means a file."""
    return model.layout if model.layout in ("chat", *LAYOUTS) else file_identity(model.layout)


@cache
def _digest(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def source_identity(source: DataConfig) -> str:
    """A short text that changes when the data does: name and digest of a file, names and sizes of a folder's files."""
    path = Path(source.path).expanduser()
    digest = hashlib.blake2b(digest_size=8)
    if path.is_file():
        return file_identity(str(path))
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path)}:{part.stat().st_size}\n".encode())
        return f"{path.name}:{digest.hexdigest()}"
    return source.path
