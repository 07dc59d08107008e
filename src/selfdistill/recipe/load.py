"""From YAML files and `key=value` overrides to recipes, and back to YAML."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..errors import RecipeError
from .arms import DEFAULT_ARMS
from .paths import located
from .plain_yaml import Scalar, dump_yaml, parse_yaml, plain
from .problems import problem
from .root import Recipe
from .settings import check_name, merge

_log = logging.getLogger(__name__)

RECIPES = Path(__file__).parents[1] / "recipes"
"""The folder of the recipes that ship with the package."""


def load_recipe(path: Path | str, overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """Reads a YAML recipe, or one that ships with the package by its name; `overrides` are `key=value` with dots in the
    key and YAML in the value. Relative paths in the file start at `folder`, by default the file's own; in `overrides`
    at the current folder.

    Raises RecipeError that names the key, the reason, and the key that was probably meant.
    """
    found = load_recipes(path, overrides, folder)
    if list(found) != [""]:
        raise RecipeError(
            f"{path} holds {len(found)} experiments ({', '.join(found)}); run them with `selfdistill reproduce {path}`."
        )
    return found[""]


def load_recipes(path: Path | str, overrides: Sequence[str] = (), folder: Path | None = None) -> dict[str, Recipe]:
    """The recipes of a file with `experiments`, each of which changes what stands around them; else the one, with an
    empty name. Raises RecipeError as `load_recipe` does."""
    path = recipe_file(path)
    folder = folder or (Path.cwd() if path.absolute().is_relative_to(RECIPES.parent) else path.absolute().parent)
    return recipes_of(_read_text(path), path, overrides, folder)


def recipes_of(text: str, path: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> dict[str, Recipe]:
    """The recipes of a text that is, or is going to be, the file `path`. Raises RecipeError as `load_recipe` does."""
    values = _parse(text, path)
    folder = folder or path.absolute().parent
    changes = values.pop("experiments", None)
    if changes is None:
        return {"": make_recipe(values, overrides, str(path), folder)}
    if not isinstance(changes, dict) or not changes or not all(isinstance(its, dict) for its in changes.values()):
        raise RecipeError(f"{path}: `experiments` needs names, and for each what it changes.")
    made = {}
    for name, its in changes.items():
        try:
            check_name("experiment", str(name))
        except ValueError as error:
            raise RecipeError(f"{path}: {error}.") from None
        whole = merge(_written_out(values), _written_out(its))
        made[str(name)] = make_recipe(whole, overrides, f"{path}, {name}", folder)
    return made


def recipe_file(path: Path | str) -> Path:
    """The file or folder at `path`; only if there is none, the recipe of that name that ships with the package."""
    shipped = shipped_recipe(path)
    try:
        if shipped is None or not Path(path).exists():
            return shipped or Path(path)
    except OSError:  # a name that is too long, a folder that may not be looked into: reading it says so
        return Path(path)
    _say_which(Path(path).absolute(), shipped)
    return Path(path)


def shipped_recipe(path: Path | str) -> Path | None:
    """The recipe that ships with the package under this bare name, as in `selfdistill reproduce table1`."""
    path = Path(path)
    found = path.name == str(path) and (RECIPES / f"{path}.yaml")
    try:
        return found if found and found.is_file() else None
    except OSError:
        return None


@cache
def _say_which(path: Path, shipped: Path) -> None:
    kind = "folder" if path.is_dir() else "file"
    _log.warning("`%s` is the %s %s, not the recipe of that name, which is %s.", path.name, kind, path, shipped)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe at {path}; `selfdistill init --model M --data D` writes one.") from None
    except IsADirectoryError:
        shipped = shipped_recipe(path)
        also = f" A recipe of this name also ships with the package: {shipped}." if shipped else ""
        raise RecipeError(f"{path} is a folder, not a recipe; name a YAML file.{also}") from None
    except OSError as error:
        raise RecipeError(f"The recipe {path} can't be read ({error.strerror}); check its name and rights.") from None
    except ValueError as error:  # a name with a null byte, or a UnicodeDecodeError
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise _not_yaml(path, why) from None


def _not_yaml(path: Path, why: object) -> RecipeError:
    return RecipeError(f"{path} is not readable as YAML ({why}); fix it, or let `selfdistill init` write one.")


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise _not_yaml(path, error) from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no recipe: expected `key: value` lines, such as `model: NAME`.")
    return values


def make_recipe(
    values: dict[str, Any], overrides: Sequence[str] = (), source: str = "the recipe", folder: Path | None = None
) -> Recipe:
    """A checked recipe from plain values. With `folder`, paths become absolute: those in `values` start at `folder`,
    those in `overrides` at the current folder. An override of a section changes the keys that it names, and one of
    `REPLACED` puts its value in place of the recipe's. Raises RecipeError."""
    values = _written_out(values)
    values = located(values, folder) if folder else values
    for override in overrides:
        key, nested = _nested(override)
        changes = _written_out(nested)
        changes = located(changes, Path.cwd()) if folder else changes
        if key in REPLACED:
            values = _without(values, key.split("."))
        elif "arms" in changes and not values.get("arms"):
            values["arms"] = {name: arm.model_dump() for name, arm in DEFAULT_ARMS.items()}
        values = merge(values, changes)
    try:
        return Recipe.model_validate(_fitting(values, Recipe))
    except ValidationError as error:
        problems = [problem(detail, Recipe) for detail in error.errors()]
        raise RecipeError(f"{source}: " + "; ".join(dict.fromkeys(problems)) + ".") from None


def _without(values: dict[str, Any], path: list[str]) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {key: value for key, value in values.items() if key != head}
    inner = values.get(head)
    return {**values, head: _without(inner, rest)} if isinstance(inner, dict) else values


def save_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every setting written out, with absolute paths. Of settings that complete the data of a task
    only those that the recipe names: the others are the task's, and a default in their place would replace them."""
    values = recipe.model_dump(mode="json")
    if recipe.data is not None and not recipe.data.path:
        values["data"] = recipe.data.model_dump(mode="json", exclude_unset=True)
    return dump_yaml(located(values, Path.cwd()))


def _written_out(values: dict[str, Any]) -> dict[str, Any]:
    """`model: NAME`, `data: FILE` and `sampling: paper` written out, and sections with nothing in them left out."""
    values = {key: value for key, value in values.items() if value is not None or key not in _SECTIONS}
    for key in SHORT_FORMS:
        if isinstance(values.get(key), str | Scalar):
            values[key] = {"path": values[key]}
    for key in ("rewrite", "evaluate"):
        section = values.get(key)
        if isinstance(section, dict) and isinstance(section.get("sampling"), str):
            values[key] = {**section, "sampling": {"preset": section["sampling"]}}
    return values


def _fitting(value: Any, kind: Any) -> Any:
    """The value of a setting of the type `kind`: a text stays as it is written, other values as YAML reads them."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, Scalar):
        return value.text if str in options and not {bool, int, float} & {*options} else value.value
    model = next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)
    inner = next((get_args(each) for each in options if get_origin(each) in (dict, list)), ())
    if isinstance(value, dict) and model is not None:
        kinds = {name: field.annotation for name, field in model.model_fields.items()}
        return {key: _fitting(each, kinds.get(key, Any)) for key, each in value.items()}
    if isinstance(value, dict) and len(inner) == 2:
        return {key: _fitting(each, inner[1]) for key, each in value.items()}
    if isinstance(value, list) and len(inner) == 1:
        return [_fitting(each, inner[0]) for each in value]
    return plain(value)


SHORT_FORMS = ("model", "data")
"""The sections that may be written as their path alone."""
REPLACED = ("arms", "sweep", "rewrite.grader")
"""The keys whose mapping is one value: on the command line it replaces the recipe's mapping."""
_SECTIONS = ("data", "rewrite", "train", "arms", "sweep", "evaluate", "shift", "judge", "seeds")


def _nested(override: str) -> tuple[str, dict[str, Any]]:
    """The key of an override, and the override as nested mappings."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"'{override}' is not an override; write key=value, for example train.lr=2e-5.")
    try:
        values = parse_yaml(f"value: {text}")  # so that it is read as in a file
        if not isinstance(values, dict) or values.keys() != {"value"}:
            raise ValueError("it is more than one value")
    except ValueError:
        raise RecipeError(f"The value in '{override}' is not readable as YAML; put it in quotes.") from None
    key, value = key.strip(), values["value"]
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return key, nested
