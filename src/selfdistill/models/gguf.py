"""GGUF files. One is converted once to an ordinary model folder in the cache, which every engine, training and
measurement then loads, so that all use the same weights.

The converted weights are those that llama.cpp computes with, dequantised. `gguf` (the package) is an optional extra.
"""

from __future__ import annotations

import fcntl
import io
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..demo import SEEDS
from ..errors import ModelError, first_line
from .digests import cache_folder, file_digests

_log = logging.getLogger(__name__)
_NOTE = "gguf.json"
_SPARE = 64 << 20  # bytes for the tokenizer and the settings
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def gguf_file(path: str) -> Path | None:
    """The GGUF file that `model.path` names: the file itself, or the only one in a folder without safetensors weights.
    None for other models. Raises ModelError for a folder with several."""
    found = Path(path)
    if found.suffix.lower() == ".gguf" and not found.is_dir():
        return found
    if path in SEEDS or not found.is_dir() or next(found.glob("*.safetensors"), None):
        return None  # a seed of this package, whatever folder has the name
    # Projectors of vision models have files of their own.
    files = sorted(file for file in found.glob("*.gguf") if not file.name.startswith("mmproj"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ModelError(f"{path} holds several GGUF files ({names}); name one, as in model.path={files[0]}.")
    return files[0] if files else None


def gguf_folder(file: Path) -> Path:
    """The model folder of a GGUF file, converted at the first use. Its name is the digest of the file's content.

    Raises ModelError if the file can't be converted; then nothing is left in the cache."""
    if not file.is_file():
        raise ModelError(f"There is no file {file}; check model.path.")
    folder = cache_folder() / "gguf" / file_digests([file])[0]
    if folder.is_dir():
        return folder
    if find_spec("gguf") is None:
        raise ModelError(f"Reading {file.name} needs the package gguf: pip install 'selfdistill[gguf]'.")
    weights = _Weights(file)
    try:
        with _alone(folder) as partial:
            if not folder.is_dir():  # another process may have made it by now
                _check_space(file, weights, folder.parent)
                _convert(file, weights, partial)
                partial.rename(folder)
    except OSError as error:
        raise ModelError(
            f"{file.name} can't be converted: {error.filename or folder}: {error.strerror or error}. Set "
            "XDG_CACHE_HOME to a folder that can be written to, on a disk with room for it."
        ) from error
    return folder


def weights_note(path: str) -> str | None:
    """What the weights of a GGUF file are, as "4-bit weights (Q4_1) of X.gguf, dequantised to bfloat16". None for other
    models, and for a file that is not converted yet."""
    file = gguf_file(path)
    if file is None or not file.is_file():
        return None
    try:
        note = json.loads((cache_folder() / "gguf" / file_digests([file])[0] / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return f"{note['weights']} of {file.name}, {note['made']}"


class _Weights:
    """How most weights of a GGUF file are stored, and how many there are. Raises ModelError for a file that can't be
    read."""

    def __init__(self, file: Path) -> None:
        if parts := _PART.search(file.name):
            raise ModelError(
                f"{file.name} is one of {int(parts[1])} parts; join them with `llama-gguf-split --merge` first."
            )
        from gguf import GGUFReader

        try:
            tensors = GGUFReader(file).tensors
            sizes: dict[str, int] = {}
            for tensor in tensors:
                kind = tensor.tensor_type.name
                sizes[kind] = sizes.get(kind, 0) + int(tensor.n_elements)
            self.kind, self.count = max(sizes, key=lambda kind: sizes[kind]), sum(sizes.values())
        except Exception as error:  # numpy and the reader raise errors of many kinds for an incomplete file
            raise ModelError(f"{file} is not a whole GGUF file ({_line(error)}); download it again.") from error

    @property
    def dtype(self) -> str:
        """The dtype of the converted weights, which holds every value of the file's, but for a last digit of the scales
        of quantised weights."""
        return {"F32": "float32", "F16": "float16"}.get(self.kind, "bfloat16")

    @property
    def bytes(self) -> int:
        return self.count * (4 if self.dtype == "float32" else 2)

    @property
    def note(self) -> dict[str, str]:
        bits = re.match(r"I?Q(\d)", self.kind)
        kind = f"{bits[1]}-bit weights ({self.kind})" if bits else f"weights ({self.kind})"
        return {"weights": kind, "made": f"{'dequantised' if bits else 'converted'} to {self.dtype}"}


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """An unused folder next to `folder`, for one process at a time. It is removed at the end; what a killed process
    left is removed first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial")
    with folder.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _check_space(file: Path, weights: _Weights, cache: Path) -> None:
    needed, free = weights.bytes + _SPARE, shutil.disk_usage(cache).free
    if needed > free:
        raise ModelError(
            f"The weights of {file.name} take {needed / 2**30:.1f} GiB as {weights.dtype}, and {cache} has "
            f"{free / 2**30:.1f} GiB left; free some, or set XDG_CACHE_HOME to a folder on a larger disk."
        )


def _convert(file: Path, weights: _Weights, folder: Path) -> None:
    """Writes weights, tokenizer and settings to `folder`. Raises ModelError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _log.warning("Converting %s to a model folder in %s (once).", file.name, folder.parent)
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with redirect_stderr(io.StringIO()):  # bars that would overwrite the command's progress
            tokenizer = AutoTokenizer.from_pretrained(**source)
            # Without `dequantize` the weights stay packed, and can't be trained or saved.
            model = AutoModelForCausalLM.from_pretrained(
                **source, dtype=getattr(torch, weights.dtype), quantization_config=GgufConfig(dequantize=True)
            )
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except MemoryError as error:
        raise ModelError(
            f"Converting {file.name} takes about {weights.bytes / 2**30:.1f} GiB of memory; free some."
        ) from error
    except OSError as error:
        if error.errno is not None:  # of the disk; transformers' own have no number
            raise
        raise _unusable(file, error) from error
    except Exception as error:  # transformers raises errors of many kinds for a model that it doesn't know
        raise _unusable(file, error) from error
    (folder / _NOTE).write_text(json.dumps(weights.note), encoding="utf-8")


def _unusable(file: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{file.name} can't be converted ({_line(error)}); use the model's original folder or hub name in model.path."
    )


def _line(error: Exception) -> str:
    return repr(error) if isinstance(error, KeyError) or not str(error).strip() else first_line(error)
