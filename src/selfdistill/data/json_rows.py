"""JSON files read as a stream: an object per line, or one array of objects of any size; and objects of columns."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataError
from .sources import MAX_ROW, BadRow, Row

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_CUT_OFF = "the file ends inside the array, as if cut off"
_TOO_LONG = f"is longer than {MAX_ROW >> 20} Mi characters"


def read_json(file: BufferedReader, path: Path) -> Iterator[Row]:
    """The rows of a JSON array (by index), of an object per line (by line), or of one object of columns (by index).
    Raises DataError if an array or an object of columns is broken: what follows can't be told apart then."""
    start = file.peek(1 << 16).lstrip()
    if start.startswith(b"["):
        yield from _read_array(file, path)
    elif start.partition(b"\n")[0].strip() == b"{":
        yield from _read_object(file, path)
    else:
        yield from _read_lines(file, path.name)


def _read_object(file: BufferedReader, path: Path) -> Iterator[Row]:
    """One object over several lines: columns, or a single row. Columns are held in memory as a whole."""
    text = file.read().decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} spreads an object over several lines, and is not one object of columns ({_odd(error)}); put each "
            "object on one line, or all in an array."
        ) from None
    where = f"{path.name} index 0"
    rows = rows_of_columns(value)
    yield from _numbered(path.name, rows) if rows else [(where, _checked(where, value, text))]


def _numbered(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[Row]:
    for index, row in enumerate(rows):
        where = f"{name} index {index}"
        yield where, _checked(where, row, json.dumps(row, ensure_ascii=False))


def rows_of_columns(value: Any) -> list[dict[str, Any]] | None:
    """The rows of an object of columns: lists of one length, or pandas' objects of index and value. None for any other
    object, such as a row whose only list is a chat."""
    columns = list(value.values()) if isinstance(value, dict) else []
    same = bool(columns) and all(isinstance(cells, dict) and cells.keys() == columns[0].keys() for cells in columns)
    if same and columns[0] and all(index.isdecimal() for index in columns[0]):
        return [{name: cells[index] for name, cells in value.items()} for index in columns[0]]
    lists = bool(columns) and all(isinstance(cells, list) and len(cells) == len(columns[0]) for cells in columns)
    if not lists or any(_is_chat(cells) for cells in columns):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)] or None


def _is_chat(cells: list[Any]) -> bool:
    return any(isinstance(cell, dict) and {"role", "from"} & cell.keys() for cell in cells)


def _ends(file: BufferedReader) -> bool:
    """Whether nothing but white space follows."""
    while part := file.peek(1):
        if part.strip():
            return False
        file.read(len(part))
    return True


def _read_lines(file: BufferedReader, name: str) -> Iterator[Row]:
    number = 0
    while line := file.readline(MAX_ROW):
        number += 1
        where = f"{name} line {number}"
        text = line.decode("utf-8", "surrogateescape").strip()
        if len(line) == MAX_ROW and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_ROW)) and not rest.endswith(b"\n"):
                pass
            yield where, BadRow.of(where, _TOO_LONG, text)
        elif text:
            try:
                value = json.loads(text)
                if number == 1 and (rows := rows_of_columns(value)) and _ends(file):
                    yield from _numbered(name, rows)
                else:
                    yield where, _checked(where, value, text)
            except json.JSONDecodeError as error:
                reason = "not UTF-8" if not _encodable(text) else f"not JSON: {error.msg} at column {error.colno}"
                yield where, BadRow.of(where, reason, text)
            except (ValueError, RecursionError) as error:
                yield where, BadRow.of(where, _odd(error), text)


def _read_array(file: BinaryIO, path: Path) -> Iterator[Row]:
    window = _Window(file)
    index = 0
    try:
        window.skip("[")
        if window.peek() == "]":
            window.skip("]")
        else:
            closed = False
            while not closed:
                value, text = window.value()
                where = f"{path.name} index {index}"
                yield where, _checked(where, value, text)
                index += 1
                closed = window.skip(",]") == "]"
        if window.peek():
            raise ValueError("there is text after the array")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is broken at index {index}, near line {window.line}: {_odd(error)}; fix the file, because what "
            "follows can't be read."
        ) from None


class _Window:
    """What has been read of a text but not consumed, a chunk at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # Bytes that are no UTF-8 become lone surrogates, so that the row that holds them can be named.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._place, self._ended, self._dropped_lines = "", 0, False, 0

    @property
    def line(self) -> int:
        return self._dropped_lines + self._text.count("\n", 0, self._place) + 1

    def peek(self) -> str:
        """The next character that is no white space, empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._more()

    def skip(self, characters: str) -> str:
        """Steps over the next character. Raises ValueError where it is none of `characters`."""
        found = self.peek()
        if not found:
            raise ValueError(_CUT_OFF)
        if found not in characters:
            raise ValueError(f"expected {' or '.join(characters)}, found {found!r}")
        self._place += 1
        return found

    def value(self) -> tuple[Any, str]:
        """The next value and its text. Raises ValueError."""
        if not self.peek():
            raise ValueError(_CUT_OFF)
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except json.JSONDecodeError as error:
                # An error well before the end of what was read is one; at the end, the value may go on. No token but
                # a string is longer than \uXXXX\uXXXX.
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16
                if self._ended and not self._text.rstrip().endswith("]"):
                    raise ValueError(_CUT_OFF) from None
                if self._ended or not cut:
                    raise
            else:
                if end < len(self._text) or self._ended:
                    text = self._text[self._place : end]
                    self._place = end
                    return value, text
            if len(self._text) - self._place > MAX_ROW:
                raise ValueError(_TOO_LONG)
            self._more()

    def _more(self) -> None:
        """Drops what was consumed and reads on: as much again as is left, so that a long row is not scanned often."""
        self._dropped_lines += self._text.count("\n", 0, self._place)
        rest = self._text[self._place :]
        chunk = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not chunk
        self._text, self._place = rest + self._decode(chunk, self._ended), 0


def _checked(where: str, value: Any, text: str) -> dict[str, Any] | BadRow:
    if not _encodable(text):
        return BadRow.of(where, "not UTF-8", text)
    if not isinstance(value, dict):
        return BadRow.of(where, "is not an object with named fields", text)
    # Half a surrogate pair can be written as an escape in JSON, but no UTF-8 file and no tokenizer can hold it.
    if ("\\ud" in text or "\\uD" in text) and not _encodable(json.dumps(value, ensure_ascii=False)):
        return BadRow.of(where, "holds half a surrogate pair (\\ud800 to \\udfff), which is no text", text)
    return value


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _odd(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)
