"""manifest.json: versions, hardware and finished stages of an experiment. It is checked when read, and kept twice."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from ..types import content_id
from .rows import file_checksum, put_aside, write_text

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "numpy", "scipy")
_State = tuple[int, int, int]
_log = logging.getLogger(__name__)


class ManifestFile:
    """The manifest of a directory. The previous version is kept as a fallback in case this one is corrupt: then the
    last stage runs again."""

    def __init__(self, directory: Path) -> None:
        self.path, self.previous = directory / "manifest.json", directory / "manifest.previous.json"
        self._read: tuple[_State | None, dict[str, Any]] = None, {"stages": {}}

    def read(self) -> dict[str, Any]:
        """The manifest, not to be changed; parsed again if the file changed. Raises ExperimentError if it and its
        previous version are damaged."""
        state = _state(self.path)
        if state is None or state != self._read[0]:
            self._read = state, self._load(state is not None)
        return self._read[1]

    def write(self, manifest: Mapping[str, Any]) -> None:
        plain = json.loads(json.dumps(manifest))
        write_text(self.path, _lines({**plain, "checksum": _checksum(plain)}), previous=self.previous)

    def _load(self, there: bool) -> dict[str, Any]:
        manifest = read_manifest(self.path) if there else None
        if manifest is None and there:
            with suppress(OSError):
                _log.warning("%s is damaged; put aside as %s.", self.path, put_aside(self.path).name)
        if manifest is None and self.previous.exists():
            manifest = read_manifest(self.previous)
            _log.warning("%s is taken instead of manifest.json.", self.previous)
        elif manifest is None:
            return {"stages": {}}  # nothing is finished before the second version is written
        if manifest is None:
            raise ExperimentError(
                f"{self.path} is damaged, and so is its previous version; use another directory with --dir, or "
                "delete this one."
            )
        return manifest


class Checksums:
    """Checksums of files. A file is read once, until it changes."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_State | None, str]] = {}

    def of(self, path: Path) -> str:
        """The checksum; empty if there is no such file."""
        state, known = _state(path), self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = state, file_checksum(path) if state else ""
        return known[1]


def new_manifest(day: str) -> dict[str, Any]:
    """The manifest of an experiment that shows its models the date `day`."""
    return {
        "selfdistill": _version("selfdistill"),
        "created": now(),
        "date": day,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpus": [],
        },
        "stages": {},
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def gpus() -> list[str]:
    """The GPUs that torch sees; none if torch isn't loaded, since nothing uses a GPU then."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _state(path: Path) -> _State | None:
    """Time, size and inode, which change with the file; None if there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _lines(manifest: Mapping[str, Any]) -> str:
    """JSON with one key per line, and one stage per line. It is written twice per stage, and Python's JSON is nearly
    three times as slow with indentation."""
    parts = {key: json.dumps(value, ensure_ascii=False) for key, value in manifest.items() if key != "stages"}
    stages = (
        f" {json.dumps(name)}: {json.dumps(record, ensure_ascii=False)}" for name, record in manifest["stages"].items()
    )
    parts["stages"] = "{\n" + ",\n".join(stages) + "\n}"
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {text}" for key, text in parts.items()) + "\n}\n"


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest at `path`, None if it is damaged or missing. Changes nothing."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        right = manifest["stages"] is not None and manifest["checksum"] == _checksum(manifest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return manifest if right else None


def _checksum(manifest: Mapping[str, Any]) -> str:
    return content_id({key: value for key, value in manifest.items() if key != "checksum"})
