"""Turns rows into conversations, in the format that the recipe names or that fits the first rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Conversation
from .bad_rows import BadRow, OnBad, UnusableError, good_rows
from .column_guesses import flow, free_column
from .columns import column_names, refuse_missing, resolve
from .contamination import prompt_key
from .conversion import read_conversation
from .formats import FORMATS, Fields, Format
from .sources import read_rows
from .values import is_filled

_HEAD = 100


def read_conversations(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """All rows of `config.path` as conversations, in order, streamed. Only `prepare` applies `n` and `heldout`.

    Columns and turn fields that the format doesn't read become `extra`. With `on_bad_row: skip`, bad rows go to
    `on_bad`. Raises DataError if the source can't be read, no format fits, rows are bad (it lists the first ten), or
    there are no rows; RecipeError if there is no format `config.format`.
    """
    for _, conversation in good_rows(_converted(config), config, on_bad):
        yield conversation


def recognise(records: Sequence[Mapping[str, Any]], config: DataConfig) -> str:
    """The name of the format of `records`, as in `resolve`. Raises DataError."""
    return resolve(records, config)[0]


def reading_setting(config: DataConfig, unused: Collection[str], key: str = "data.columns") -> str | None:
    """The setting `key` that reads one of the `unused` columns in addition to those that are read. None if no column of
    text is left or no field is free, if the rows fit no format, or if the source is not a data file, as that of a task
    that makes its rows."""
    if not unused or (head := _head(config)) is None:
        return None
    records, form, columns = head
    read = {field for field in form.optional if not {*column_names(records)}.isdisjoint(form.names(field))}
    found = free_column(records, unused, {*columns} | read, form.name)
    return f"{key}={flow(found)}" if found else None


def fullest_prompts(config: DataConfig) -> set[str]:
    """The `prompt_key` of the first prompt of each row that fills the most optional fields, of the first rows of a
    source. Empty if the rows fit no format, or if the source is not a data file."""
    if (head := _head(config)) is None:
        return set()
    records, form, columns = head
    found: dict[int, set[str]] = {}
    for row in records:
        fields = Fields(row, form, columns)
        filled = sum(is_filled(fields.get(field)) for field in {*form.optional, *columns})
        with suppress(UnusableError):
            prompt = read_conversation(form, row, columns).examples()[0].prompt
            found.setdefault(filled, set()).add(prompt_key(prompt))
    return found[max(found)] if found else set()


def _head(config: DataConfig) -> tuple[list[Mapping[str, Any]], Format, dict[str, str]] | None:
    """The first readable rows, their format and its columns; None if there is no data file or no format fits."""
    try:
        records = [row for _, row in islice(read_rows(config), _HEAD) if not isinstance(row, BadRow)]
        name, columns = resolve(records, config)
    except DataError:
        return None
    return list(records), FORMATS[name], columns


def _converted(config: DataConfig) -> Iterator[tuple[str, Conversation | BadRow]]:
    rows = read_rows(config)
    head = list(islice(rows, _HEAD))
    records = [row for _, row in head if not isinstance(row, BadRow)]
    if not records:
        yield from ((where, row) for where, row in chain(head, rows) if isinstance(row, BadRow))
        return
    name, columns = resolve(records, config)
    form = FORMATS[name]
    if problem := form.problem(Fields(row, form, columns) for row in records):
        raise DataError(f"{config.path}: {problem}.")
    lacking = {*config.columns.values()}.difference(*records)
    if lacking and len(head) < _HEAD:
        refuse_missing(config, column_names(records))
    for where, row in chain(head, rows):
        if isinstance(row, BadRow):
            yield where, row
            continue
        lacking -= row.keys()
        try:
            yield where, read_conversation(form, row, columns)
        except UnusableError as reason:
            text = json.dumps(row, ensure_ascii=False, default=str)
            yield where, BadRow.of(where, str(reason), text)
    if lacking:
        found = {*config.columns.values()} - lacking
        refuse_missing(config, list(dict.fromkeys([*column_names(records), *sorted(found)])))
