"""Rows of one data file: JSON, CSV and TSV (also compressed), Parquet and Arrow."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataError, first_line
from .bad_rows import BadRow, PlacedRow
from .formats import FORMATS
from .json_rows import MAX_ROW, read_json

BATCH = 1000
"""Rows of Parquet, Arrow and `datasets` that are converted at once."""
_KINDS = {
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_DELIMITERS = ",;\t|"


def has_data_suffix(name: str) -> bool:
    return _unpacked(Path(name)).suffix.lower() in _KINDS


def read_file(path: Path) -> Iterator[PlacedRow]:
    """The rows of a file with their places. Raises DataError if the kind is not known or the file is broken."""
    try:
        kind = file_kind(path)
        if kind in ("parquet", "arrow"):
            yield from (_read_parquet if kind == "parquet" else _read_arrow)(path)
            return
        with _open_text(path) as file:
            yield from read_json(file, path) if kind == "json" else _read_table(file, path, tabs=kind == "tsv")
    except _DAMAGED as error:
        raise DataError(
            f"{path} can't be unpacked ({first_line(error)}); it is damaged or incomplete. Copy or download it again."
        ) from error


def file_kind(path: Path) -> str:
    """json, csv, tsv, parquet or arrow: from the file name, or else from the first bytes. Raises DataError."""
    with path.open("rb") as file:
        head = file.read(8)
    packed = any(map(head.startswith, _MAGIC))
    if head.startswith(b"PK\x03\x04") or (packed and _unpacked(path).suffix in (".tar", ".tgz")):
        raise DataError(f"{path} is an archive or a spreadsheet; unpack it, or save the sheet as CSV.")
    kind = _KINDS.get(_unpacked(path).suffix.lower())
    if kind is None:
        with _open_text(path) if packed else path.open("rb") as file:
            kind = _kind_by_content(file.read(4096))
    if kind is None:
        raise DataError(
            f"The kind of {path} is not recognised; rename it to .json, .jsonl, .csv, .tsv, .parquet or .arrow, "
            "whichever fits (JSON, CSV and TSV may be compressed, as in .jsonl.gz)."
        )
    if packed and kind in ("parquet", "arrow"):
        raise DataError(f"{path} is a compressed {kind.capitalize()} file; unpack it.")
    return kind


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in _PACKED else path


def _kind_by_content(head: bytes) -> str | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    return "json" if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"{") else None


def _open_text(path: Path) -> io.BufferedReader:
    """The unpacked bytes, without a byte order mark. Raises DataError if they are UTF-16."""
    with path.open("rb") as file:
        head = file.read(8)
    packing = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if packing == "zst":
        import pyarrow as pa

        raw: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    else:
        openers: dict[str | None, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        raw = openers.get(packing, open)(path, "rb")
    file = io.BufferedReader(raw, 1 << 16)
    start = file.peek(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16; save it as UTF-8.")
    if start.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return file


def _read_table(file: BinaryIO, path: Path, tabs: bool) -> Iterator[PlacedRow]:
    """CSV, or TSV with `tabs`."""
    csv.field_size_limit(MAX_ROW)
    with io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="") as text:
        start = [text.readline(MAX_ROW), text.readline(MAX_ROW)]
        delimiter = "\t" if tabs else _delimiter(*start)
        lines = (line for part in (filter(None, start), text) for line in part)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        header: list[str] = []
        while True:
            where = f"{path.name} line {reader.line_num + 1}"
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield where, BadRow.of(where, f"not CSV: {error}", "")
                continue
            if not values:
                continue
            if not header:
                header = values
                if any("\ud800" <= sign <= "\udfff" for sign in "".join(header)):  # not UTF-8
                    raise DataError(f"{path} has column names in line 1 that are not UTF-8; save the file as UTF-8.")
                if doubled := {name for name in header if header.count(name) > 1}:
                    raise DataError(f"{path} names columns twice in line 1: {', '.join(sorted(doubled))}; rename them.")
                continue
            yield where, _table_row(where, header, values, delimiter)


def _delimiter(header: str, first: str) -> str:
    """The delimiter that finds the most names of format fields in the header. A tie goes to a delimiter with which the
    first row has as many fields as the header, then to the delimiter with the most fields, then to the comma."""
    known = {name for form in FORMATS.values() for field in form.fields for name in form.names(field)}

    def fit(delimiter: str) -> tuple[int, bool, int]:
        names, values = (next(csv.reader([line], delimiter=delimiter), []) for line in (header, first))
        return sum(name in known for name in names), len(names) == len(values) > 1, len(names)

    return max(_DELIMITERS, key=fit)


def _table_row(where: str, header: list[str], values: list[str], delimiter: str) -> dict[str, Any] | BadRow:
    text = delimiter.join(values)
    if len(values) != len(header):
        return BadRow.of(where, f"has {len(values)} fields, the header has {len(header)}", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return BadRow.of(where, "not UTF-8", text)
    return dict(zip(header, values, strict=True))


def _read_parquet(path: Path) -> Iterator[PlacedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _names_in_schema(file.schema_arrow)
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=BATCH))
            yield from numbered(path.name, with_names((row for batch in batches for row in batch), names))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as Parquet ({first_line(error)}); write the file again.") from error


def _read_arrow(path: Path) -> Iterator[PlacedRow]:
    """An Arrow IPC file (Feather), or an IPC stream, as in the cache of `datasets`."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                file = pa.ipc.open_file(source)
                batches: Iterable[Any] = (file.get_batch(number) for number in range(file.num_record_batches))
                schema = file.schema
            except pa.ArrowInvalid:
                source.seek(0)
                batches = stream = pa.ipc.open_stream(source)
                schema = stream.schema
            slices = (batch.slice(at, BATCH) for batch in batches for at in range(0, batch.num_rows, BATCH))
            rows = (row for part in slices for row in part.to_pylist())
            yield from numbered(path.name, with_names(rows, _names_in_schema(schema)))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as Arrow ({first_line(error)}); write the file again.") from error


def _names_in_schema(schema: Any) -> dict[str, list[str]]:
    """The class names of each column that `datasets` has marked as a ClassLabel."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: its["names"] for name, its in features.items() if its.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def with_names(rows: Iterable[dict[str, Any]], names: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Replaces class numbers by class names, and -1 (no class) by null."""
    for row in rows:
        for column, classes in names.items():
            number = row.get(column)
            if isinstance(number, int):
                row[column] = classes[number] if 0 <= number < len(classes) else None
        yield row


def numbered(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[PlacedRow]:
    for index, row in enumerate(rows):
        yield f"{name} index {index}", row
