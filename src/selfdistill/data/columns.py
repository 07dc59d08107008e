"""Finds the format of rows from their columns, or suggests the `data.columns` line that names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Conversation
from .formats import FORMATS, Format, check_format
from .values import is_filled, known

_ASKED = ("question", "problem", "query", "prompt", "instruction", "task", "input", "user", "request", "title", "text")
_ANSWERED = ("answer", "solution", "response", "output", "completion", "reply", "chosen", "assistant", "target",
             "label", "summary")  # fmt: skip


def resolve(records: Sequence[Mapping[str, Any]], config: DataConfig) -> tuple[str, dict[str, str]]:
    """The name of the format whose columns most of `records` have, and the columns of its required fields.

    The format is `config.format`, or the format that fits best. If several formats fit equally well, a format whose
    columns have the fields' own names is preferred. Raises DataError if no format fits or several formats remain, and
    RecipeError if there is no such format.
    """
    check_format(config.format)
    names = list(FORMATS) if config.format == "auto" else [config.format]
    candidates = [name for name in names if set(config.columns) <= set(FORMATS[name].fields)]
    if not candidates:
        fields = "; ".join(f"{name}: {', '.join(FORMATS[name].fields)}" for name in names)
        raise DataError(f"data.columns names {', '.join(config.columns)}; it can name these fields: {fields}.")
    columns = {name: _columns(records, FORMATS[name], config.columns) for name in candidates}
    required = {name: {field: columns[name][field] for field in FORMATS[name].required} for name in candidates}
    fits = {name: _fit(records, required[name].values()) for name in candidates}
    most = max(fits.values())
    if most == (0, 0):
        raise DataError(_unrecognised(records, config, required))
    best = [name for name in candidates if fits[name] == most]
    others = {name: sum(field != column for field, column in required[name].items()) for name in best}
    best = [name for name in best if others[name] == min(others.values())]
    if len(best) > 1:
        raise DataError(f"{config.path} looks like {' and like '.join(best)}; set data.format to one of them.")
    return best[0], columns[best[0]]


def _columns(records: Sequence[Mapping[str, Any]], form: Format, named: Mapping[str, str]) -> dict[str, str]:
    """The column of each required field: from `named`, or else the first of its names that any record fills or has."""
    filled = {key for row in records for key, value in row.items() if known(value) is not None}
    there = {key for row in records for key in row}
    columns = dict(named)
    for field in form.required:
        names = form.names(field)
        ordered = [*(name for name in names if name in filled), *(name for name in names if name in there), field]
        columns.setdefault(field, ordered[0])
    return columns


def _fit(records: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> tuple[int, int]:
    """The number of records in which all columns are filled, and the number of records that have all columns."""
    columns = list(columns)
    rows = [row for row in records if all(column in row for column in columns)]
    return sum(all(known(row[column]) is not None for column in columns) for row in rows), len(rows)


def _unrecognised(
    records: Sequence[Mapping[str, Any]], config: DataConfig, required: Mapping[str, Mapping[str, str]]
) -> str:
    there = ", ".join(dict.fromkeys(key for row in records for key in row))
    wanted = "; ".join(f"{name}: {', '.join(columns.values())}" for name, columns in required.items())
    line = suggestion(records)
    paste = f" For example, paste this: data.columns={line}" if line else " Name your columns in data.columns."
    return (
        f"{config.path} has the columns {there or '(none)'}, but needs the columns of one format ({wanted}).{paste}\n"
        "In the recipe, write it under `data` as `columns: …`; on the command line, put it in single quotes."
    )


def suggestion(records: Sequence[Mapping[str, Any]]) -> str | None:
    """The likely value of `data.columns`, as YAML in one line. None if fewer than two columns hold text."""
    first: dict[str, Any] = {}
    for row in records:
        for key, value in row.items():
            if key not in first and is_filled(value):
                first[key] = value
    for name, value in first.items():
        if isinstance(value, list) and isinstance(value[0], dict) and {"role", "from"} & value[0].keys():
            return _flow({"messages" if "role" in value[0] else "conversations": name})
    texts = [key for key, value in first.items() if isinstance(value, (str, int, float)) and key.isprintable()]
    asked = _closest(texts, _ASKED) or next(iter(texts), None)
    others = [name for name in texts if name != asked]
    answered = _closest(others, _ANSWERED) or next(iter(others), None)
    return _flow({"question": asked, "answer": answered}) if asked and answered else None


def _closest(columns: Sequence[str], words: Sequence[str]) -> str | None:
    """A column whose name is one of the words, or else contains one of the words. Earlier words are preferred."""
    same = (name for word in words for name in columns if name.casefold().strip() == word)
    holding = (name for word in words for name in columns if word in name.casefold())
    return next(same, None) or next(holding, None)


def _flow(value: dict[str, str]) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.strip()


def unused_columns(conversations: Iterable[Conversation], read: Collection[str] = ()) -> Counter[str]:
    """The columns and turn fields that are not read, each with the number of rows that fill it. `read` are those that a
    task's grader reads."""
    rows = (row.extra.items() for row in conversations)
    return Counter(name for row in rows for name, value in row if is_filled(value) and name not in read)


def unused_sentence(unused: Mapping[str, int], rows: int, form: str | None, key: str = "data.columns") -> str | None:
    """The columns that are not read, and the setting `key` that reads one in the format `form`. None if all columns are
    read. Without `form` no setting is named."""
    if not unused:
        return None
    names = ", ".join(f"{name} ({count:,} of {rows:,} rows)" for name, count in unused.items())
    columns = [name for name in unused if "[]." not in name and " after the first" not in name]
    how = ""
    if form and columns:
        field = next(name for name in ("input", "context", "system") if name in FORMATS[form].fields)
        how = f"; to read a column, name it in {key}, as in {key}={_flow({field: columns[0]})}"
    return f"not shown to the model and not trained on: {names}{how}"
