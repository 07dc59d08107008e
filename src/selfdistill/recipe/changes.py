"""What differs between two recipes, and the `key=value` arguments that lead from one to the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from .evaluate import TaskEntry
from .load import make_recipe
from .paths import located
from .root import Recipe

UNSET = "unset"
"""Stands for the value of a key that is not there."""
_LONG = 120  # characters of a value that are shown


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each key that differs, with both values. A key within a section is written with dots."""
    return dict(_differences(before, now, ""))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key in sorted({*before, *now}):
        old, new = before.get(key, UNSET), now.get(key, UNSET)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield prefix + key, (old, new)


def changed_keys(before: Recipe, now: Recipe) -> dict[str, tuple[Any, Any]]:
    """Each key of the recipe that differs, with both values. The same file in another spelling is not a difference."""
    return differences(_plain(before), _plain(now))


def overrides_to(before: Recipe, now: Recipe) -> list[str] | None:
    """The `key=value` arguments that turn `before` into `now`; None if there are none that do."""
    words = [f"{key}={_argument(new)}" for key, (_, new) in changed_keys(before, now).items()]
    try:
        made = make_recipe(_plain(before), words, folder=Path.cwd())
    except RecipeError:
        return None
    return None if changed_keys(made, now) else words


def shown_changes(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """The changes in a sentence, as in "train.lr (0.008 → 0.0001), data.n (null → 50)"."""
    return ", ".join(f"{key} ({_shown(old)} → {_shown(new)})" for key, (old, new) in changes.items())


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else _argument(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _argument(value: Any) -> str:
    """The value as it is written in an argument: as JSON, which is YAML, but a simple text bare, and a section without
    the keys that have no value."""
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if each is not None and each != {}}
    simple = isinstance(value, str) and re.fullmatch(r"[\w./+-]+( [\w./+-]+)*", value)
    return str(value) if simple else json.dumps(value, ensure_ascii=False)


def _plain(recipe: Recipe) -> dict[str, Any]:
    values = located(recipe.model_dump(mode="json"), Path.cwd())
    values["evaluate"]["tasks"] = list(map(_entry, values["evaluate"]["tasks"]))
    return values


def _entry(values: dict[str, Any]) -> dict[str, Any] | str:
    """An evaluated task without the keys that have their default: the name alone if there are no other keys."""
    task, fields = values["task"], TaskEntry.model_fields
    own = {key: value for key, value in values.items() if key == "task" or value != fields[key].default}
    if own.get("name") == task:
        del own["name"]
    return task if own.keys() == {"task"} else own
