"""Rows as they are, from wherever they lie, streamed: each is a dict, or a `BadRow` that says what is wrong with it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..config import DataConfig
from ..errors import DataError

_BATCH = 1000
_LISTED = 10
_SUFFIXES = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}
MAX_ROW = 1 << 26  # characters; a longer row is a broken file, and must not fill the memory


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: where it is, why, and how it begins (up to 2,000 characters)."""

    where: str
    reason: str
    text: str

    @classmethod
    def of(cls, where: str, reason: str, text: str) -> BadRow:
        return cls(where, reason, text[:2000].encode("utf-8", "replace").decode())

    def to_json(self) -> dict[str, str]:
        return {"where": self.where, "reason": self.reason, "text": self.text}


Row = tuple[str, dict[str, Any] | BadRow]
OnBad = Callable[[BadRow], None]
T = TypeVar("T")


def read_rows(config: DataConfig) -> Iterator[Row]:
    """Every row with where it is (file and line, or index), in order. Memory doesn't grow with the number of rows.

    Raises DataError where the source as a whole can't be read.
    """
    path = Path(config.path).expanduser()
    try:
        if path.is_dir():
            yield from _read_folder(path, config)
        elif path.exists():
            yield from _read_file(path)
        elif is_hub_name(config.path):
            yield from _read_hub(config)
        else:
            raise DataError(f"There is no data file {path}; check data.path, or give a hub name such as org/name.")
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}); check the file and its permissions."
        ) from error


def read_records(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The readable rows with where they are; bad ones as in `good_rows`."""
    return good_rows(read_rows(config), config, on_bad)


def good_rows(
    rows: Iterable[tuple[str, T | BadRow]], config: DataConfig, on_bad: OnBad | None
) -> Iterator[tuple[str, T]]:
    """`rows` without the bad ones: with `on_bad_row: skip` these go to `on_bad`, else the first ten are listed in a
    DataError, which comes after the good rows before the tenth. Without `on_bad` nobody would know of a skipped row,
    so then too. Raises DataError where no good row is left."""
    skip = config.on_bad_row == "skip" and on_bad is not None
    good, bad, listed = 0, 0, list[BadRow]()
    for where, row in rows:
        if not isinstance(row, BadRow):
            good += 1
            yield where, row
            continue
        bad += 1
        if len(listed) < _LISTED:
            listed.append(row)
        if skip and on_bad is not None:
            on_bad(row)
        elif bad == _LISTED:
            break
    if bad and not skip:
        count = "1 row" if bad == 1 else f"{bad} rows" if bad < _LISTED else f"at least {bad} rows"
        raise DataError(
            f"{config.path}: {count} can't be used:\n{_list(listed)}\nMend the file, or set on_bad_row to skip "
            "(in data, or in the task's entry), which sets such rows aside and counts them."
        )
    if not good and bad:
        raise DataError(f"{config.path}: none of its {bad} rows can be used; check data.format.\n{_list(listed)}")
    if not good:
        raise DataError(f"{config.path}: it holds no rows; check data.path and data.split.")


def _list(rows: Iterable[BadRow]) -> str:
    return "\n".join(f"  {row.where}: {row.reason}" for row in rows)


def is_hub_name(name: str) -> bool:
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and Path(name).suffix.lower() not in _SUFFIXES


def _read_file(path: Path) -> Iterator[Row]:
    from .json_rows import read_json

    kind = _SUFFIXES.get(path.suffix.lower()) or _sniff(path)
    return {"json": read_json, "csv": _read_csv, "parquet": _read_parquet}[kind](path)


def _sniff(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return "json"
    raise DataError(f"{path} is of no known kind; name it .json, .jsonl, .csv or .parquet after what it holds.")


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
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
                if doubled := {name for name in header if header.count(name) > 1}:
                    raise DataError(f"{path} names columns twice in line 1: {', '.join(sorted(doubled))}; rename them.")
                continue
            yield where, _csv_row(where, header, values)


def _csv_row(where: str, header: list[str], values: list[str]) -> dict[str, Any] | BadRow:
    text = ",".join(values)
    if len(values) != len(header):
        return BadRow.of(where, f"has {len(values)} fields, the header has {len(header)}", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return BadRow.of(where, "not UTF-8", text)
    return dict(zip(header, values, strict=True))


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=_BATCH))
            yield from _numbered(path.name, (row for batch in batches for row in batch))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as Parquet ({_first_line(error)}); write it anew.") from error


def _read_folder(path: Path, config: DataConfig) -> Iterator[Row]:
    """A folder that `save_to_disk` of `datasets` wrote."""
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        raise DataError(f"{path} is a folder that `datasets` did not save (no state.json); name a data file in it.")
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read as a saved dataset ({_first_line(error)}); save it anew.") from error
    if isinstance(dataset, DatasetDict):
        if config.split not in dataset:
            raise DataError(f"{path} has no split '{config.split}'; set data.split to one of {', '.join(dataset)}.")
        dataset = dataset[config.split]
    return _numbered(path.name, _dataset_rows(dataset))


def _read_hub(config: DataConfig) -> Iterator[Row]:
    """Downloaded once into the cache of `datasets`, so that a second pass and a second run read the same rows."""
    from datasets import load_dataset

    try:
        dataset = load_dataset(config.path, name=config.config, split=config.split)
    except Exception as error:  # the hub client lets through errors of several libraries
        raise DataError(
            f"The hub dataset {config.path} can't be loaded ({_first_line(error)}); check its name, data.config, "
            "data.split and the network, and for a gated one log in with `hf auth login`."
        ) from error
    return _numbered(f"{config.path} {config.split}", _dataset_rows(dataset))


def _dataset_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    for batch in dataset.iter(batch_size=_BATCH):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _numbered(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[Row]:
    for index, row in enumerate(rows):
        yield f"{name} index {index}", row


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
