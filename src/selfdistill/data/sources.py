"""Rows from a file, a folder or the hub, streamed. Each row is a dict, or a `BadRow` with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..recipe import DataConfig
from .bad_rows import OnBad, PlacedRow, good_rows
from .files import has_data_suffix, read_file
from .folders import read_folder, read_hub


def read_rows(config: DataConfig) -> Iterator[PlacedRow]:
    """Every row with its place (file and line, or index), in order. Memory doesn't grow with the number of rows.

    Raises DataError if the source can't be read.
    """
    path = Path(config.path).expanduser()
    try:
        if path.is_dir():
            yield from read_folder(path, config)
        elif path.exists():
            yield from read_file(path)
        elif is_hub_name(config.path):
            yield from read_hub(config)
        else:
            near = get_close_matches(path.name, [each.name for each in path.parent.glob("*")], n=1)
            meant = f"did you mean {path.with_name(near[0])}?" if near else "check the path."
            raise DataError(f"There is no data file {path}; {meant} A hub dataset is named like org/name.")
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}); check the file and its permissions."
        ) from error


def read_records(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The readable rows with their places. Bad rows: see `good_rows`."""
    return good_rows(read_rows(config), config, on_bad)


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form org/name and no suffix of a data file."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not has_data_suffix(name)
