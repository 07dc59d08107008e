"""The recipe as a text: checked by the recipe's own loader, saved only if it is valid and nobody else changed it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import RecipeError, SelfDistillError
from ..pipeline.context import make_context
from ..recipe.load import recipes_of
from ..store.rows import write_text
from ..types import content_id


@dataclass(frozen=True)
class RecipeText:
    """A recipe's file: its text and `state`, which changes with it; empty if there is no file."""

    text: str
    state: str


@dataclass(frozen=True)
class Problem:
    """Why a text is no recipe, with the line if it is known."""

    message: str
    line: int | None


def read_recipe(path: Path) -> RecipeText:
    """The file as it is. Raises RecipeError if it can't be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return RecipeText("", "")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} can't be read ({error}); fix it, or name another recipe.") from None
    return RecipeText(text, content_id(text))


def problem_of(text: str, path: Path) -> Problem | None:
    """The error of a text that is to become the file `path`; None if it can be run."""
    try:
        recipes = recipes_of(text, path)
        for recipe in recipes.values():
            make_context(recipe)
    except SelfDistillError as error:
        message = str(error).removeprefix(f"{path}: ").replace(f"{path} is not readable", "This is not readable")
        return Problem(message, _line(text, message))
    return None


def save_text(path: Path, text: str, state: str) -> RecipeText:
    """Writes a valid recipe. `state` is that of the file when it was read. Raises RecipeError, and changes nothing, if
    the text is invalid or the file has changed since."""
    text = text.replace("\r\n", "\n")  # as browsers send the lines of a form
    if found := problem_of(text, path):
        raise RecipeError(found.message)
    if read_recipe(path).state != state:
        raise RecipeError(
            f"{path.name} was changed by someone else since this page read it, so nothing was saved. Load the page "
            "again, and make your changes in the new text."
        )
    try:
        write_text(path, text)
    except OSError as error:
        raise RecipeError(f"{path} can't be written ({error.strerror}); check its folder.") from None
    return RecipeText(text, content_id(text))


def _line(text: str, message: str) -> int | None:
    """The line that a message is about: the one that it names, else that of the key which it names."""
    if found := re.search(r"line (\d+)", message):
        return int(found[1])
    key = re.search(r"`([^`]+)`", message)
    try:
        node = yaml.compose(text, yaml.SafeLoader) if key else None
    except yaml.YAMLError:
        return None
    line = None
    for part in key[1].split(".") if key else ():
        if not isinstance(node, yaml.MappingNode):
            break
        pairs = [(name, value) for name, value in node.value if getattr(name, "value", None) == part]
        if not pairs:
            break
        line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return line
