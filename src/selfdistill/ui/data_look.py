"""A look at a model and a dataset before a recipe is written: what `init` recognises and what `check` shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ..data import read_records
from ..errors import SelfDistillError
from ..pipeline.check import Checked, check
from ..pipeline.new_recipe import check_model_name, write_recipe
from ..recipe import DataConfig, load_recipe
from ..reports.text import shorten, visible

_ROWS, _CELL = 5, 160


@dataclass(frozen=True)
class DataLook:
    """`said` are the sentences of `init`. `columns` and `rows` show the first rows as they are in the file. `checked`
    is None if the data can't be read, and `problem` says why."""

    said: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    checked: Checked | None = None
    problem: str = ""


def look(model: str, data: str) -> DataLook:
    """Looks at a model's name and a dataset; writes nothing outside a temporary folder. Raises RecipeError if there is
    no such model, DataError if the file can't be read."""
    check_model_name(model)
    columns, rows = first_rows(data)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        said = write_recipe(model, data, path)
        try:
            checked = check(load_recipe(path))
        except SelfDistillError as error:
            return DataLook(said, columns, rows, problem=str(error))
    return DataLook(said, columns, rows, checked)


def first_rows(data: str) -> tuple[list[str], list[list[str]]]:
    """The columns and the first rows of a dataset. Raises DataError."""
    config = DataConfig(path=data, on_bad_row="skip")
    records = [row for _, row in islice(read_records(config, lambda _: None), _ROWS)]
    columns = list(dict.fromkeys(str(key) for row in records if isinstance(row, dict) for key in row))
    return columns, [[_cell(row.get(name)) for name in columns] for row in records if isinstance(row, dict)]


def _cell(value: object) -> str:
    text = (
        value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    )
    return shorten(visible(text), _CELL)
