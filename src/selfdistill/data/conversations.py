"""Rows to conversations: the format is recognised or named, and a row that is no conversation says why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Conversation
from .columns import resolve
from .formats import FORMATS, Fields, read_conversation
from .lettered import numbered_from_one
from .sources import BadRow, OnBad, good_rows, read_rows
from .turns import UnusableError

_HEAD = 100


def read_conversations(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The rows of `config.path` as conversations, in order, streamed; `n` and `heldout` are `prepare`'s.

    Columns and turn fields that the format doesn't read become `extra`. With `on_bad_row: skip` bad rows go to
    `on_bad`. Raises DataError: unreadable source, no format that fits, bad rows (the first ten by name), no rows.
    """
    for _, conversation in good_rows(_converted(config), config, on_bad):
        yield conversation


def recognise(records: Sequence[Mapping[str, Any]], config: DataConfig) -> str:
    """The name of the format of `records`, as in `resolve`. Raises DataError."""
    return resolve(records, config)[0]


def _converted(config: DataConfig) -> Iterator[tuple[str, Conversation | BadRow]]:
    rows = read_rows(config)
    head = list(islice(rows, _HEAD))
    records = [row for _, row in head if not isinstance(row, BadRow)]
    if not records:
        yield from ((where, row) for where, row in chain(head, rows) if isinstance(row, BadRow))
        return
    name, columns = resolve(records, config)
    asked = [Fields(row, columns) for row in records if name == "question_answer"]
    if numbered_from_one((fields.get("choices"), fields.get("answer")) for fields in asked):
        raise DataError(
            f"{config.path}: the answers are numbers from 1, but a number is read as an index from 0; write letters "
            "(A, B, …) or indexes from 0 as answers."
        )
    for where, row in chain(head, rows):
        if isinstance(row, BadRow):
            yield where, row
            continue
        try:
            yield where, read_conversation(FORMATS[name], Fields(row, columns))
        except UnusableError as reason:
            text = json.dumps(row, ensure_ascii=False, default=str)
            yield where, BadRow.of(where, str(reason), text)
