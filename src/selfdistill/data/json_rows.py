"""JSON files as rows, streamed: one object per line, one array of objects, or one object of columns.

A streaming parser such as ijson can't replace `_Array`: it refuses NaN and integers of more than 64 bits, reads half a
surrogate pair as "?", and stops at bytes that are not UTF-8. Here each of these is a value, or one bad row.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataError
from .bad_rows import BadRow, PlacedRow

MAX_ROW = 1 << 26
"""The longest row, in characters. A longer row means a broken file, and could fill the memory."""
_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_INCOMPLETE = "the file ends inside the array, so it is incomplete"
_TOO_LONG = f"is longer than {MAX_ROW >> 20} Mi characters"


def read_json(file: BufferedReader, path: Path) -> Iterator[PlacedRow]:
    """The rows of an array (with their index), of an object per line (with its line), or of an object of columns.

    Raises DataError if an array or an object of columns is broken, because the rows after the error can't be found.
    """
    start = file.peek(1 << 16).lstrip()
    if start.startswith(b"["):
        return _read_array(file, path)
    if start.partition(b"\n")[0].strip() == b"{":
        return _read_object(file, path)
    return _read_lines(file, path.name)


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


def _read_object(file: BufferedReader, path: Path) -> Iterator[PlacedRow]:
    """One object over several lines: an object of columns, or a single row. It is held in memory."""
    text = file.read().decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} holds an object over several lines that is not one object of columns ({_reason(error)}); write "
            "each object on one line, or all objects in an array."
        ) from None
    rows = rows_of_columns(value)
    yield from _numbered(path.name, rows) if rows else [_row(f"{path.name} index 0", value, text)]


def _numbered(name: str, rows: list[dict[str, Any]]) -> Iterator[PlacedRow]:
    for index, row in enumerate(rows):
        yield _row(f"{name} index {index}", row, json.dumps(row, ensure_ascii=False))


def _read_lines(file: BufferedReader, name: str) -> Iterator[PlacedRow]:
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
            except (ValueError, RecursionError) as error:
                column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                reason = f"{_reason(error)}{column}" if _is_utf8(text) or not column else "not UTF-8"
                yield where, BadRow.of(where, reason, text)
                continue
            if number == 1 and (rows := rows_of_columns(value)) and _ends(file):
                yield from _numbered(name, rows)
            else:
                yield _row(where, value, text)


def _ends(file: BufferedReader) -> bool:
    """Whether only white space follows."""
    while part := file.peek(1):
        if part.strip():
            return False
        file.read(len(part))
    return True


def _read_array(file: BinaryIO, path: Path) -> Iterator[PlacedRow]:
    array, index = _Array(file), 0
    try:
        array.skip("[")
        closed = array.peek() == "]"
        if closed:
            array.skip("]")
        while not closed:
            yield _row(f"{path.name} index {index}", *array.value())
            index += 1
            closed = array.skip(",]") == "]"
        if array.peek():
            raise ValueError("there is text after the array")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is broken at index {index}, near line {array.line}: {_reason(error)}; fix the file. The rows "
            "after this place can't be read."
        ) from None


class _Array:
    """The text of an array, read in chunks. `_place` is the place in `_text` up to which it has been parsed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # Bytes that are not UTF-8 become lone surrogates, so that the row that holds them can be named.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._place, self._ended, self._dropped_lines = "", 0, False, 0

    @property
    def line(self) -> int:
        return self._dropped_lines + self._text.count("\n", 0, self._place) + 1

    def peek(self) -> str:
        """The next character that is not white space. Empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read_on()

    def skip(self, characters: str) -> str:
        """Returns the next character and steps over it. Raises ValueError if it is not one of `characters`."""
        found = self.peek()
        if not found:
            raise ValueError(_INCOMPLETE)
        if found not in characters:
            raise ValueError(f"expected {' or '.join(characters)}, found {found!r}")
        self._place += 1
        return found

    def value(self) -> tuple[Any, str]:
        """The next value and its text. Raises ValueError."""
        if not self.peek():
            raise ValueError(_INCOMPLETE)
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except json.JSONDecodeError as error:
                # Near the end of the text, the value may only be incomplete. Except for strings, no token is longer
                # than \uXXXX\uXXXX.
                incomplete = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16
                if self._ended and not self._text.rstrip().endswith("]"):
                    raise ValueError(_INCOMPLETE) from None
                if self._ended or not incomplete:
                    raise
            else:
                if end < len(self._text) or self._ended:
                    text = self._text[self._place : end]
                    self._place = end
                    return value, text
            if len(self._text) - self._place > MAX_ROW:
                raise ValueError(_TOO_LONG)
            self._read_on()

    def _read_on(self) -> None:
        """Drops the parsed text and reads at least as much text as is left, so that a long row is scanned only a few
        times."""
        self._dropped_lines += self._text.count("\n", 0, self._place)
        rest = self._text[self._place :]
        chunk = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not chunk
        self._text, self._place = rest + self._decode(chunk, self._ended), 0


def _row(where: str, value: Any, text: str) -> PlacedRow:
    """The row, or a bad row if `value` is not an object or holds text that UTF-8 can't hold."""
    if not _is_utf8(text):
        return where, BadRow.of(where, "not UTF-8", text)
    if not isinstance(value, dict):
        return where, BadRow.of(where, "is not an object with named fields", text)
    # JSON can write half a surrogate pair as an escape, but no UTF-8 file and no tokenizer can hold it.
    if ("\\ud" in text or "\\uD" in text) and not _is_utf8(json.dumps(value, ensure_ascii=False)):
        return where, BadRow.of(where, "holds half a surrogate pair (\\ud800 to \\udfff), which is not text", text)
    return where, value


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.removesuffix(' at')}"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)
