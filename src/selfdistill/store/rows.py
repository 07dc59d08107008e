"""Append-only JSONL files keyed by id, in bounded memory. They make every stage resumable."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import ExperimentError

_ID_PREFIX = b'{"id": "'
_ID_END = len(_ID_PREFIX) + 16
_SEAL = b', "crc": "'
_SEAL_SIZE = len(_SEAL) + 8 + len(b'"}\n')
_BLOCK = 1 << 20
_LISTED = 10  # damaged lines that a message names

_log = logging.getLogger(__name__)
_encode = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


def dump_line(row: dict[str, Any]) -> bytes:
    return _encode(row).encode("utf-8", "surrogatepass") + b"\n"


def seal_line(row: dict[str, Any]) -> bytes:
    """The row with its checksum as the last key: the CRC-32 of the line up to there, in hex."""
    body = dump_line(row)[:-2]
    return body + _seal(body)


def parse_line(line: bytes) -> Any:
    """The row of a line from `dump_line` or `seal_line`, without its checksum. Raises ValueError if it is damaged."""
    if _is_sealed(line):
        line = line[:-_SEAL_SIZE] + b"}"
    # `json.loads` of bytes would guess the encoding first.
    try:
        return _decode(line.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _seal(body: bytes) -> bytes:
    return _SEAL + b'%08x"}\n' % zlib.crc32(body)


def _is_sealed(line: bytes) -> bool:
    """False for a line without a checksum, as in files that are written at once or changed by hand. Raises ValueError
    if the checksum is not the line's."""
    if line[-_SEAL_SIZE:] == _seal(line[:-_SEAL_SIZE]):
        return True
    # A line had a checksum if its key or its digits are still there: the other of the two may be damaged.
    end, body = line[-_SEAL_SIZE - 1 :], line[: max(line.rfind(b', "'), 0)]
    if _SEAL[3:] in end or b"%08x" % zlib.crc32(body) in end:
        raise ValueError("another checksum")
    return False


def file_checksum(path: Path) -> str:
    """Size and CRC-32 of a file's content: against accidents, not against people. Raises OSError."""
    crc = size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return f"{size}:{crc:08x}"


def put_aside(path: Path) -> Path:
    """Renames a changed file, so that it can be made again and nothing is destroyed. Returns the new path."""
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    return aside


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a finished file. Raises ExperimentError that names the line if it is not JSON."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield parse_line(line)
            except ValueError:
                raise ExperimentError(
                    f"{path} line {number} is damaged; delete the file and run the command again to make it again."
                ) from None


def write_lines(
    path: Path, rows: Iterable[dict[str, Any]], line: Callable[[dict[str, Any]], bytes] = dump_line
) -> None:
    """Writes all of `rows`, or leaves `path` unchanged."""
    with _replacing(path) as file:
        file.writelines(map(line, rows))


def write_json(path: Path, value: Any) -> None:
    """Writes `value`, or leaves `path` unchanged."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str, previous: Path | None = None) -> None:
    """Writes `text`, or leaves `path` unchanged. With `previous`, the old version is kept under that path."""
    with _replacing(path, previous) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


@contextmanager
def _replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """A file that replaces `path` when it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def id_number(row_id: str) -> int:
    """A sixteen hex digit id as an unsigned 64-bit number."""
    return int(row_id, 16)


class RowFile:
    """An append-only file of rows whose first key is `id`, a content id. Each row is flushed, so a kill loses at most
    the line being written, which the next opening cuts off. Memory: 16 bytes per row.

    Rows are written with a checksum. Damaged rows are moved to a separate file and named in a warning, so that they are
    made again. With `reading` the file is not changed: raises ExperimentError if it is missing or a row is damaged.
    """

    def __init__(self, path: Path, reading: bool = False) -> None:
        self.path = path
        if reading and not path.is_file():
            raise ExperimentError(f"{path} is missing; run the stage that makes it again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("rb" if reading else "a+b")
        try:
            self._ids, self._offsets = self._scan()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file as file:
            if file.writable():
                file.flush()
                os.fsync(file.fileno())

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, row_id: object) -> bool:
        """Whether a row with this id was in the file when it was opened."""
        return isinstance(row_id, str) and self._position(row_id) is not None

    def append(self, row: dict[str, Any]) -> None:
        self._file.write(seal_line(row))
        self._file.flush()

    def get(self, row_id: str) -> dict[str, Any] | None:
        """The row with this id, if it was in the file when it was opened."""
        position = self._position(row_id)
        if position is None:
            return None
        self._file.seek(int(self._offsets[position]))
        try:
            row: dict[str, Any] = parse_line(self._file.readline())
        except ValueError:
            raise ExperimentError(
                f"{self.path}: the row {row_id} is damaged; delete the file and run the command again to make it again."
            ) from None
        return row

    def _position(self, row_id: str) -> int | None:
        number = np.uint64(id_number(row_id))
        position = int(np.searchsorted(self._ids, number))
        return position if position < len(self._ids) and self._ids[position] == number else None

    def _scan(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The sorted ids with the offsets of their lines. Cuts off an incomplete last line."""
        from array import array

        ids, offsets = array("Q"), array("q")
        damaged: dict[int, int] = {}
        offset = 0
        # The manifest has the checksum of a finished file without checksums in its rows: no need to parse every row.
        strict = self._file.writable() or self._has_checksums()
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                if self._file.writable():
                    self._file.truncate(offset)
                break
            try:
                ids.append(_line_id(line, strict))
                offsets.append(offset)
            except ValueError:
                damaged[offset] = number
            offset += len(line)
        if damaged:
            self._take_out(damaged)
            return self._scan()
        numbers = np.frombuffer(ids, dtype=np.uint64) if ids else np.empty(0, np.uint64)
        places = np.frombuffer(offsets, dtype=np.int64) if offsets else np.empty(0, np.int64)
        order = np.argsort(numbers, kind="stable")
        return numbers[order], places[order]

    def _has_checksums(self) -> bool:
        """Whether the first or the last line has a checksum."""
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(end - _SEAL_SIZE, 0))
        last = self._file.read()
        self._file.seek(0)
        return any(line[-_SEAL_SIZE:].startswith(_SEAL) for line in (last, self._file.readline()))

    def _take_out(self, damaged: dict[int, int]) -> None:
        """Moves the damaged lines (offset to line number) to a separate file."""
        numbers = ", ".join(map(str, [*damaged.values()][:_LISTED])) + (" …" if len(damaged) > _LISTED else "")
        what = f"{self.path}: line{'s' * (len(damaged) > 1)} {numbers} damaged"
        if not self._file.writable():
            raise ExperimentError(
                f"{what}; run again to have these rows made again, or, if you changed them yourself, take the key crc "
                "out of them."
            )
        aside = self.path.with_name(self.path.name + ".damaged")
        self._file.seek(0)
        offset = 0
        with aside.open("ab") as bad, _replacing(self.path) as good:
            for line in self._file:
                (bad if offset in damaged else good).write(line)
                offset += len(line)
        self._file.close()
        self._file = self.path.open("a+b")
        _log.warning("%s; moved to %s, and made again.", what, aside.name)


def _line_id(line: bytes, strict: bool) -> int:
    """The id of a line, as a number. Raises ValueError if the line is damaged; without a checksum only `strict` parses
    the whole line."""
    if not line.startswith(_ID_PREFIX) or not line.endswith(b"}\n"):
        raise ValueError("not a row")
    if not _is_sealed(line) and strict:
        parse_line(line)
    return int(line[len(_ID_PREFIX) : _ID_END], 16)


def first_occurrences(ids: Iterable[str]) -> npt.NDArray[np.bool_]:
    """For each of `ids`, in order, whether it is the first occurrence. Memory: about 24 bytes per id."""
    numbers = np.fromiter((id_number(row_id) for row_id in ids), dtype=np.uint64)
    first = np.zeros(len(numbers), dtype=np.bool_)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first
