"""Digests of files, and the cache that keeps them. A file is read once; after that its path, inode, size and times
identify it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ..errors import DataError

_log = logging.getLogger(__name__)
_KEPT_FROM = 16 << 20
"""Bytes from which a digest is kept for other processes; smaller files are read again in no time."""
_TOLD_FROM = 4 << 30
"""Bytes from which a warning says that reading takes a while."""
_SETTLED = 50_000_000
"""Nanoseconds after which another change of a file would show in its times."""

_State = tuple[int, int, int, int]
_known: dict[str, tuple[_State, str]] = {}


def file_digests(paths: Iterable[Path]) -> list[str]:
    """The digest of each file's whole content, in the order of `paths`. Raises DataError if one can't be read."""
    try:
        return _digests([path.resolve() for path in paths])
    except OSError as error:
        raise DataError(f"{error.filename} can't be read ({error.strerror}); check its permissions.") from error


def _digests(files: list[Path]) -> list[str]:
    states = {path: _state(path) for path in files}
    if any(_size(states[path]) >= _KEPT_FROM and str(path) not in _known for path in files):
        _known.update({name: entry for name, entry in _stored().items() if name not in _known})
    unread = [path for path, state in states.items() if _known.get(str(path), (None, ""))[0] != state]
    if (size := sum(_size(states[path]) for path in unread)) > _TOLD_FROM:
        _log.warning("Reading %.0f GiB of files once, to notice later whether they change.", size / 2**30)
    now = time.time_ns()
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = dict(zip(unread, pool.map(_digest, unread), strict=True))
    settled = {path: digest for path, digest in found.items() if max(states[path][2:]) < now - _SETTLED}
    _known.update({str(path): (states[path], digest) for path, digest in settled.items()})
    if any(_size(states[path]) >= _KEPT_FROM for path in settled):
        _store()
    return [found[path] if path in found else _known[str(path)][1] for path in files]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _state(path: Path) -> _State:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _size(state: _State) -> int:
    return state[1]


def _stored() -> dict[str, tuple[_State, str]]:
    """The digests that earlier processes have kept; none if the cache can't be read."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RuntimeError):
        rows = json.loads(_cache_file().read_text(encoding="utf-8"))
        return {
            name: ((int(inode), int(size), int(changed), int(moved)), str(digest))
            for name, ((inode, size, changed, moved), digest) in rows.items()
        }
    return {}


def _store() -> None:
    """Keeps the digests of large files that still exist. A cache that can't be written is not an error."""
    with suppress(OSError, RuntimeError):
        path = _cache_file()
        kept = {name: entry for name, entry in {**_stored(), **_known}.items() if _size(entry[0]) >= _KEPT_FROM}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps({name: kept[name] for name in kept if Path(name).is_file()}), encoding="utf-8")
        partial.replace(path)


def _cache_file() -> Path:
    return cache_folder() / "digests.json"


def cache_folder() -> Path:
    """The folder for files that can be made again: `selfdistill` in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "selfdistill"
