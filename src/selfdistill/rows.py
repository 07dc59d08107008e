"""Append-only JSONL files keyed by id: what makes every stage resumable, in bounded memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .errors import ExperimentError

_ID_PREFIX = b'{"id": "'
_ID_END = len(_ID_PREFIX) + 16


_encode = json.JSONEncoder(ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


def dump_line(row: dict[str, Any]) -> bytes:
    return _encode(row).encode("utf-8", "surrogatepass") + b"\n"


def parse_line(line: bytes) -> Any:
    """A row as `dump_line` wrote it; `json.loads` of bytes would guess the encoding first. Raises ValueError."""
    return _decode(line.decode("utf-8", "surrogatepass"))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that a stage has finished. A line that is no JSON names itself in an ExperimentError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield parse_line(line)
            except ValueError:
                raise ExperimentError(
                    f"{path} line {number} is damaged; delete the file and run again to make it anew."
                ) from None


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes all of `rows`, or leaves `path` as it was; gives the number of rows."""
    count = 0
    with _replacing(path) as file:
        for row in rows:
            file.write(dump_line(row))
            count += 1
    return count


def write_json(path: Path, value: Any) -> None:
    """Writes `value`, or leaves `path` as it was."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text`, or leaves `path` as it was."""
    with _replacing(path) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def id_number(row_id: str) -> int:
    """A sixteen hex digit id as an unsigned 64-bit number."""
    return int(row_id, 16)


class RowFile:
    """An append-only file of rows whose first key is `id`, a content id. Rows are flushed as they are appended, so
    that a kill loses at most the line being written, which the next opening cuts off. Sixteen bytes of memory a row.
    With `reading`, the file is there and stays as it is; raises ExperimentError where it is missing.
    """

    def __init__(self, path: Path, reading: bool = False) -> None:
        self.path = path
        if reading and not path.is_file():
            raise ExperimentError(f"{path} is missing; run the stage that makes it again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("rb" if reading else "a+b")
        self._ids, self._offsets = self._scan()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file.writable():
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, row_id: object) -> bool:
        """Whether a row with this id was in the file when it was opened."""
        return isinstance(row_id, str) and self._position(row_id) is not None

    def append(self, row: dict[str, Any]) -> None:
        self._file.write(dump_line(row))
        self._file.flush()

    def get(self, row_id: str) -> dict[str, Any] | None:
        """The row with this id, if it was in the file when it was opened."""
        position = self._position(row_id)
        if position is None:
            return None
        self._file.seek(int(self._offsets[position]))
        row: dict[str, Any] = parse_line(self._file.readline())
        return row

    def _position(self, row_id: str) -> int | None:
        number = np.uint64(id_number(row_id))
        position = int(np.searchsorted(self._ids, number))
        return position if position < len(self._ids) and self._ids[position] == number else None

    def _scan(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Ids in order with the offsets of their lines; cuts off a last line that was not written to its end."""
        from array import array

        ids, offsets = array("Q"), array("q")
        offset = 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                if self._file.writable():
                    self._file.truncate(offset)
                break
            ids.append(self._line_id(line, offset))
            offsets.append(offset)
            offset += len(line)
        numbers = np.frombuffer(ids, dtype=np.uint64) if ids else np.empty(0, np.uint64)
        places = np.frombuffer(offsets, dtype=np.int64) if offsets else np.empty(0, np.int64)
        order = np.argsort(numbers, kind="stable")
        return numbers[order], places[order]

    def _line_id(self, line: bytes, offset: int) -> int:
        try:
            if not line.startswith(_ID_PREFIX):
                raise ValueError
            return int(line[len(_ID_PREFIX) : _ID_END], 16)
        except ValueError:
            raise ExperimentError(
                f"{self.path} is damaged at byte {offset}; delete that line and run again, its row will be made anew."
            ) from None


def first_occurrences(ids: Iterable[str]) -> npt.NDArray[np.bool_]:
    """For each of `ids`, in their order, whether it is the first of its kind. Memory: about 24 bytes an id."""
    numbers = np.fromiter((id_number(row_id) for row_id in ids), dtype=np.uint64)
    first = np.zeros(len(numbers), dtype=np.bool_)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first
