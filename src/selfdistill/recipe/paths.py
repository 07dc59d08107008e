"""Paths in a recipe: relative to the recipe's file, and absolute once they are read, so that a saved recipe names the
same files in every folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .arms import ArmConfig
from .keys import section_in
from .model import ModelConfig
from .plain_yaml import Scalar
from .root import Recipe
from .settings import IsPath, Settings

_log = logging.getLogger(__name__)
# Names of files. Other names that are not there may be names of the hub, of a server's model, or of the package.
_FILE = re.compile(
    r"\.(jsonl?|csv|tsv|parquet|arrow|feather|gguf|txt|ya?ml|jinja2?|py)(\.(gz|zst|bz2|xz))?$", re.IGNORECASE
)


def located(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The plain values of a recipe with absolute paths: relative ones start at `folder`, or, with a warning, at the
    current folder if the file is only there. Names of the hub and of the package stay as they are."""
    found: dict[str, Any] = _section(values, Recipe, "", folder)
    sweep = found.get("sweep")
    if isinstance(sweep, dict) and isinstance(sweep.get("template"), list):
        mark = _mark(ArmConfig, "template")
        named = [_path(value, mark, "sweep.template", folder) for value in sweep["template"]]
        found = {**found, "sweep": {**sweep, "template": named}}
    return found


def _section(values: Any, section: type[Settings], prefix: str, folder: Path) -> Any:
    if section is ModelConfig and isinstance(values, str | Scalar):
        return _path(values, _mark(ModelConfig, "path"), prefix, folder)
    if not isinstance(values, dict):
        return values
    found = {}
    for name, value in values.items():
        field, key = section.model_fields.get(name), f"{prefix}.{name}".removeprefix(".")
        inner, many = section_in(field.annotation) if field else (None, False)
        if inner is not None:
            below = partial(_section, section=inner, folder=folder)
            if many and isinstance(value, list):
                value = [below(each, prefix=f"{key}.{place}") for place, each in enumerate(value)]
            elif many and isinstance(value, dict):
                value = {own: below(each, prefix=f"{key}.{own}") for own, each in value.items()}
            elif not many:
                value = below(value, prefix=key)
        # A model behind a server has the server's name.
        elif (mark := _mark(section, name)) and not (
            section is ModelConfig and name == "path" and values.get("server")
        ):
            value = _path(value, mark, key, folder)
        found[name] = value
    return found


def _mark(section: type[Settings], name: str) -> IsPath | None:
    field = section.model_fields.get(name)
    return next((mark for mark in field.metadata if isinstance(mark, IsPath)), None) if field else None


def _path(value: Any, mark: IsPath | None, key: str, folder: Path) -> Any:
    if mark is None or not isinstance(value, str | Scalar | dict | list):
        return value
    if isinstance(value, dict) and not mark.code:  # the keys of a model that differ from another's
        own = value.get("path")
        return value if value.get("server") or own is None else {**value, "path": _path(own, mark, key, folder)}
    if mark.code:
        return grader_files(value, lambda file: _absolute(file, key, folder))
    text = value.text if isinstance(value, Scalar) else value
    if not isinstance(text, str) or not text or text in mark.names:
        return value
    return _absolute(text, key, folder)


def grader_files(spec: Any, change: Callable[[str], str]) -> Any:
    """A grader's specification with each file in it changed: FILE.py of FILE.py:FUNCTION."""
    if isinstance(spec, dict):
        return {key: grader_files(value, change) for key, value in spec.items()}
    if isinstance(spec, list):
        return [grader_files(value, change) for value in spec]
    file, colon, function = spec.rpartition(":") if isinstance(spec, str) else ("", "", "")
    return f"{change(file)}:{function}" if colon and file.endswith(".py") else spec


def _absolute(text: str, key: str, folder: Path) -> str:
    try:
        # Not Path.expanduser, which takes the folder `./~` for the user's home.
        written = os.path.expanduser(text)
        here, there = (Path(os.path.abspath(os.path.join(start, written))) for start in (folder, Path.cwd()))
        if here.exists() or os.path.isabs(written):
            return str(here)
        if there.exists():
            better = os.path.relpath(there, folder)
            _log.warning(
                "%s: there is no %s, so %s is taken. Paths in a recipe are relative to its file: write %s.",
                key, here, there, better,
            )  # fmt: skip
            return str(there)
    except (OSError, ValueError, RuntimeError):  # not a usable path
        return text
    is_path = text.startswith(".") or text.count("/") > 1 or _FILE.search(text)
    return str(here) if is_path else text
