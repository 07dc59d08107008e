"""Finds the format of rows from their columns, or suggests the `data.columns` line that names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Conversation
from .column_guesses import flow, near_name, samples, suggestion
from .formats import FORMATS, Format, check_format
from .values import is_filled, known


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
        raise DataError(_no_such_fields(records, config, names))
    columns = {name: _columns(records, FORMATS[name], config.columns) for name in candidates}
    required = {name: {field: columns[name][field] for field in FORMATS[name].required} for name in candidates}
    fits = {name: _fit(records, required[name].values()) for name in candidates}
    most = max(fits.values())
    if most == (0, 0):
        refuse_missing(config, column_names(records))
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
    there = ", ".join(column_names(records))
    wanted = "; ".join(f"{name}: {', '.join(columns.values())}" for name, columns in required.items())
    line = suggestion(records, config.format)
    if line:
        paste = f"For example, paste this: data.columns={line}"
    else:
        form = FORMATS["question_answer" if config.format == "auto" else config.format]
        fields = [field for field in form.fields if field not in form.required]
        blank = flow(dict.fromkeys(form.required, "YOUR_COLUMN"))
        paste = (
            f"Name your columns, as in data.columns={blank} (optional: {', '.join(fields)}). "
            f"The first values: {samples(records) or 'none'}."
        )
    return (
        f"{config.path} has the columns {there or '(none)'}, but needs the columns of one format ({wanted}). {paste}\n"
        "In the recipe, write it under `data` as `columns: …`; on the command line, put it in single quotes."
    )


def column_names(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns that at least one record has, in order."""
    return list(dict.fromkeys(key for row in records for key in row))


def refuse_missing(config: DataConfig, there: Collection[str]) -> None:
    """Raises DataError if `config.columns` names a column that is not `there`."""
    missing = {field: column for field, column in config.columns.items() if column not in there}
    if not missing:
        return
    named = ", ".join(f"'{column}' for `{field}`" for field, column in missing.items())
    near = [name for column in missing.values() if (name := near_name(column, there))]
    meant = f"; did you mean {' and '.join(map(repr, near))}?" if near else "."
    raise DataError(
        f"{config.path} has no column {named}{meant} Its columns are {', '.join(there) or '(none)'}; name one of them "
        "in `columns`."
    )


def _no_such_fields(records: Iterable[Mapping[str, Any]], config: DataConfig, names: Sequence[str]) -> str:
    """The reason why no format has all fields that `config.columns` names."""
    fields = {field for name in names for field in FORMATS[name].fields}
    there = column_names(records)
    turned = {
        column: field
        for field, column in config.columns.items()
        if field not in fields and field in there and column in fields
    }
    if turned:
        right = {field: column for field, column in config.columns.items() if field in fields} | turned
        return f"data.columns is written FIELD: COLUMN; you may have swapped them. Write {flow(right)}."
    choices = "; ".join(f"{name}: {', '.join(FORMATS[name].fields)}" for name in names)
    named = ", ".join(config.columns)
    return f"data.columns names {named}; write FIELD: COLUMN, with the fields of one format: {choices}."


def unused_columns(conversations: Iterable[Conversation], read: Collection[str] = ()) -> Counter[str]:
    """The columns and turn fields that are not read, each with the number of rows that fill it. `read` are those that a
    task's grader reads."""
    rows = (row.extra.items() for row in conversations)
    return Counter(name for row in rows for name, value in row if is_filled(value) and name not in read)


def unused_sentence(unused: Mapping[str, int], rows: int, setting: str | None = None) -> str | None:
    """The columns that are not read, and the `setting` that reads one of them. None if all columns are read."""
    if not unused:
        return None
    names = ", ".join(f"{name} ({count:,} of {rows:,} rows)" for name, count in unused.items())
    how = f"; to read a column, name it, as in {setting}" if setting else ""
    return f"not shown to the model and not trained on: {names}{how}"
