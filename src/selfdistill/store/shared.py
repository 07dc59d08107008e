"""Work of another experiment that a new one takes over instead of paying again: rows that are filed by content, of a
finished stage with the same fingerprint in a directory next to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from .manifest import Checksums, read_manifest
from .rows import RowFile, read_lines
from .stage import Stage

Manifest = dict[str, Any]


def take_over(directory: Path, stage: Stage, usable: Callable[[Manifest], bool]) -> tuple[Path, int] | None:
    """Copies the rows of `stage` that `directory` lacks from the first sibling directory that finished this stage with
    the same fingerprint, without transient failures, and with unchanged files. `usable` can refuse a sibling by its
    manifest. Returns the sibling and the number of rows; None if there is none, or if no row is missing."""
    for other in _siblings(directory):
        manifest = read_manifest(other / "manifest.json")
        if manifest is None or not _finished(other, manifest, stage) or not usable(manifest):
            continue
        with suppress(OSError, ExperimentError):
            if copied := sum(_copy(other / name, directory / name) for name in stage.row_files):
                return other, copied
            return None
    return None


def _siblings(directory: Path) -> Iterator[Path]:
    own, parent = directory.resolve(), directory.resolve().parent
    with suppress(OSError):
        for other in sorted(parent.iterdir()):
            if other != own and (other / "manifest.json").is_file():
                yield directory.parent / other.name


def _finished(other: Path, manifest: Manifest, stage: Stage) -> bool:
    record = manifest["stages"].get(stage.name, {})
    if record.get("fingerprint") != stage.fingerprint or "finished" not in record:
        return False
    if record.get("counts", {}).get("transient"):
        return False
    files, checksums = record.get("files", {}), Checksums()
    with suppress(OSError):
        return all(name in files and checksums.of(other / name) == files[name] for name in stage.row_files)
    return False


def _copy(source: Path, target: Path) -> int:
    """Appends the rows that `target` lacks. Returns their number."""
    count = 0
    with RowFile(target) as rows:
        for row in read_lines(source):
            if row["id"] not in rows:
                rows.append(row)
                count += 1
    return count
