"""Sweeps: a parameter and a list of values become arms. Each parameter is one line of points; several are not a grid.

`n`, `template` and `train.*` add an arm per trained arm and value (`sdft.n=500`); `mix` adds an arm per ratio
(`mix=0.25`). An arm that sets the parameter itself isn't swept. Arms with equal settings are made once: a mix of 0 is
the vanilla arm, and the value that an arm already has is that arm.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import RecipeError
from .arms import MIX, ArmConfig
from .keys import recipe_keys
from .load import make_recipe
from .root import Recipe


@dataclass(frozen=True)
class Point:
    """One point of a curve: `arm` is the series (an arm, or `mix`) at `value` of the parameter."""

    parameter: str
    series: str
    value: Any
    arm: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def expand(recipe: Recipe, template: str | None, rows: int | None) -> tuple[Recipe, tuple[Point, ...]]:
    """The recipe with its sweep as arms, and the points of the curves.

    `template` is the rewriting template and `rows` the number of rows of an arm that names none. Raises RecipeError.
    """
    arms, points = dict(recipe.arms), dict[Point, None]()

    def key(arm: ArmConfig) -> Any:
        """Equal for arms that result in the same model."""
        own = arm.template or template if arm.answers else None
        rest = arm.model_dump(exclude={"data", "n", "template", "train"})
        return arm.answers, arm.share, arm.n or rows, own, rest, recipe.arm_train(arm).deciding("train")

    keys = {name: key(arm) for name, arm in arms.items() if arm.trained}
    for parameter, values in recipe.sweep.items():
        _check(parameter, values, rows)
        for series, base in _bases(recipe, parameter):
            for given in values:
                arm, value = _arm(recipe, base, parameter, given)
                name = _name(series, parameter, value)
                made = key(arm)
                same = next((old for old, other in keys.items() if other == made), None)
                if same is None and name in arms:
                    raise RecipeError(f"sweep.{parameter}: there is another arm {name} already; give it another name.")
                if same is None:
                    arms[name], keys[name] = arm, made
                shown = tuple(value) if isinstance(value, list) else value
                shown = Path(value).name if parameter == "template" else shown
                points[Point(parameter, series, shown, same or name)] = None
    expanded = recipe.model_dump() | {"arms": {name: arm.model_dump() for name, arm in arms.items()}, "sweep": {}}
    return make_recipe(expanded), tuple(points)


def _check(parameter: str, values: list[Any], rows: int | None) -> None:
    """Raises RecipeError if the parameter does not exist or has an impossible value."""
    train = {key.path: key for key in recipe_keys() if key.path.startswith("train.") and key.path != "train.extra"}
    known = ["n", MIX, "template", *(path for path, key in train.items() if "train" in key.reruns)]
    if parameter in ("seed", "seeds", "train.seed"):
        raise RecipeError("sweep: seeds are not swept; write `seeds: [0, 1, 2]` in the recipe, and every arm has each.")
    if parameter in train and parameter not in known:
        raise RecipeError(f"sweep.{parameter} changes how the weights are reached, not which; take it out.")
    if parameter not in known and not parameter.startswith("train.extra."):
        near = [key for key in known if key.rpartition(".")[2] == parameter.rpartition(".")[2]]
        near = near or difflib.get_close_matches(parameter, known, n=1)
        meant = (
            f"did you mean {near[0]}?" if near else f"choose n, {MIX}, template, or a key of train such as train.lr."
        )
        raise RecipeError(f"sweep: there is no parameter {parameter}; {meant}")
    if any(value is None for value in values) and not parameter.startswith("train."):
        raise RecipeError(f"sweep.{parameter} holds an empty value; name one, or take it out.")
    if parameter == MIX and (words := [value for value in values if isinstance(value, str)]):
        raise RecipeError(f"sweep.{MIX}: {words[0]!r} is not a ratio; write numbers from 0 (vanilla) to 1 (SDFT).")
    if parameter == "n" and rows and (over := [n for n in values if isinstance(n, int | float) and n > rows]):
        raise RecipeError(f"sweep.n: {over[0]} rows are more than data.n = {rows}; raise that, or lower this.")


def _bases(recipe: Recipe, parameter: str) -> list[tuple[str, ArmConfig]]:
    """The arms to sweep: those that don't set the parameter. Raises RecipeError if there are none."""
    if parameter == MIX:
        return [(MIX, ArmConfig(data=0.5))]
    trained = [(name, arm) for name, arm in recipe.arms.items() if arm.trained]
    if parameter == "template":
        trained = [(name, arm) for name, arm in trained if "rewrites" in arm.answers]
    found = [(name, arm) for name, arm in trained if _own(arm, parameter) is None]
    if not found:
        raise RecipeError(f"sweep.{parameter}: there is no arm to sweep; take it out, or add one to `arms`.")
    return found


def _own(arm: ArmConfig, parameter: str) -> Any:
    return _dig({"n": arm.n, "template": arm.template, "train": arm.train}, parameter)


def _arm(recipe: Recipe, base: ArmConfig, parameter: str, value: Any) -> tuple[ArmConfig, Any]:
    """The arm at a value of the parameter, and the value as the arm holds it. Raises RecipeError."""
    settings = base.model_dump()
    if parameter.startswith("train."):
        settings["train"] = _with(base.train, parameter.split(".")[1:], value)
    else:
        settings["data" if parameter == MIX else parameter] = value
    try:
        arm = ArmConfig.model_validate(settings)
        train = recipe.arm_train(arm)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecipeError(f"sweep.{parameter}: {value!r} is not usable ({reason[0].lower()}{reason[1:]}).") from None
    held = {"n": arm.n, "template": arm.template, MIX: arm.data, "train": train.model_dump(mode="json")}
    return arm, _dig(held, parameter)


def _dig(values: Any, parameter: str) -> Any:
    for part in parameter.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _with(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    return {**values, head: _with(values.get(head) or {}, rest, value) if rest else value}


def _name(series: str, parameter: str, value: Any) -> str:
    """As `sdft.train.lr=2e-05`, safe as the name of a folder."""
    start = MIX if parameter == MIX else f"{series}.{parameter}"
    return f"{start}={file_name(value)}"


def file_name(value: Any) -> str:
    """A value in letters that a file name may have; of a file's path its stem."""
    if isinstance(value, list):
        return "+".join(map(file_name, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, str) and ("/" in text or Path(text).suffix):
        text = Path(text).stem
    return re.sub(r"[^A-Za-z0-9_.+=-]", "-", text)
