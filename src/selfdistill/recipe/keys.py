"""Every key of a recipe with its type, default, description and the steps that run again when it changes."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from .root import Recipe
from .settings import STEPS, Settings, mark_of


@dataclass(frozen=True)
class Key:
    """`path` has `*` for a name that the user chooses (an arm), and for a place in a list. `field` holds type and
    default. `reruns` are the steps that run again when the value changes; see `Mark` for `resolved` and `unless`."""

    path: str
    description: str
    field: FieldInfo
    reruns: frozenset[str]
    resolved: bool
    unless: str


def recipe_keys() -> Iterator[Key]:
    """Every key, without the sections themselves, in the order of the recipe."""
    yield from _keys(Recipe, "", frozenset(STEPS))


def _keys(section: type[Settings], prefix: str, inherited: frozenset[str], condition: str = "") -> Iterator[Key]:
    for name, field in section.model_fields.items():
        mark = mark_of(field)
        steps, unless = mark.narrow(inherited, None), mark.unless or condition
        inner, many = section_in(field.annotation)
        if inner is None:
            yield Key(prefix + name, descriptions(section).get(name, ""), field, steps, mark.resolved, unless)
        else:
            yield from _keys(inner, f"{prefix}{name}.{'*.' if many else ''}", steps, unless)


def section_in(annotation: Any) -> tuple[type[Settings] | None, bool]:
    """The section that a key holds, and whether it holds several: a mapping or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation, False
    many = get_origin(annotation) in (dict, list)
    for each in get_args(annotation):
        if (found := section_in(each))[0] is not None:
            return found[0], many or found[1]
    return None, False


@cache
def descriptions(section: type[Settings]) -> dict[str, str]:
    """The text under each field of a section. pydantic could keep it, but then every command would parse the source."""
    (declared,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(declared, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(declared.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
