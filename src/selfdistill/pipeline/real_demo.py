"""The demo on a real chat model, with our rows or a user's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..demo import REAL_RECIPE
from ..models.packaged import FILE, SOURCE, packaged_model
from ..recipe import Recipe, load_recipe
from ..types import Progress, silent
from .new_recipe import write_recipe

_ROWS, _HELDOUT = 300, 120
_NOT_RUN = (
    "Benchmarks such as MMLU, ARC, HellaSwag and IFEval are not measured, because their data does not "
    "ship with selfdistill; add them to evaluate.tasks."
)


def real_recipe(
    model: str | None, data: str | None, overrides: Sequence[str] = (), progress: Progress = silent
) -> tuple[Recipe, list[str]]:
    """The recipe of `selfdistill demo --real`, and sentences about the data.

    Without `model` the model is the one of `models.packaged`, and the recipe's note names where it is from. With `data`
    (a file, a folder or a hub name) a draw of its rows takes the place of ours, read as `selfdistill init` would read
    them. Raises ModelError or DataError."""
    changes: dict[str, Any] = {}
    said: list[str] = []
    note = f"The seed model is {model}."
    if model is None:
        model = str(packaged_model(progress))
        note = f"The seed model is {FILE} from {SOURCE}; figures with the weights from the hub differ."
    if data is not None:
        said, changes = _of_data(data)
    changes |= {"model.path": model, "note": f"{note} {_NOT_RUN}"}
    ours = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    return load_recipe(REAL_RECIPE, [*ours, *overrides]), said


def _of_data(data: str) -> tuple[list[str], dict[str, Any]]:
    """What `selfdistill init` says about the data, and its settings for the recipe."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        # A row that can't be read, or is too long, is counted on the page and does not stop the demo.
        said = write_recipe("demo", data, path, settings=["data.on_bad_row=skip"])
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    held = min(_HELDOUT, found["data"]["heldout"])
    tasks = yaml.safe_load(REAL_RECIPE.read_text(encoding="utf-8"))["evaluate"]["tasks"][1:]
    return said, {
        "task": None,
        "data": {**found["data"], "path": data, "n": _ROWS, "heldout": held},
        "train.allow_unusable_rows": True,
        "rewrite.template": found["rewrite"]["template"],
        "rewrite.grader": found["rewrite"]["grader"],
        "evaluate.tasks": [*(["heldout"] if held else []), *tasks],
        "shift.task": None,
    }
