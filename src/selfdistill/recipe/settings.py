"""The base of every section of a recipe, and the mark that says which steps run again when a key changes.

A key without a mark has the mark of its section; a mark narrows it, and only `also` widens it. So a key is in the
fingerprint of a step unless its field says otherwise:

    lr: float = 1e-4                                            # as the section `train`: training runs again
    save_every: Annotated[int, keeps()] = 100                   # nothing runs again
    dtype: Annotated[str, keeps("train", "masking")] = "auto"   # all steps of the model but training
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

STEPS = (
    "data", "rewrite", "verify", "choose", "gap", "train", "masking", "items", "answer", "judge", "grade", "loss",
    "shift",
)  # fmt: skip
"""The steps of a run whose results are kept. `masking` is training with train.mask_above."""


@dataclass(frozen=True)
class Mark:
    """Narrows the steps that run again when a key changes. `resolved`: the step itself puts the value into its
    fingerprint, in another form, such as the digest of the file that it names. `unless` says in words when the results
    are not kept after all."""

    narrow: Callable[[frozenset[str], Any], frozenset[str]] = lambda steps, _section: steps
    resolved: bool = False
    unless: str = ""


def reruns(*steps: str, resolved: bool = False) -> Mark:
    """Only those of the section's steps that are in `steps` run again."""
    return Mark(lambda inherited, _section: inherited & frozenset(steps), resolved)


def also(*steps: str) -> Mark:
    """`steps` run again too, which are not the section's."""
    return Mark(lambda inherited, _section: inherited | frozenset(steps))


def keeps(*steps: str, resolved: bool = False, unless: tuple[str, Callable[[Any], bool]] | None = None) -> Mark:
    """The results of `steps`, or of all steps if none are named, are kept. `unless` is a condition, in words and as a
    function of the section: if it holds, they are not kept."""
    words, holds = unless or ("", lambda _section: False)

    def narrow(inherited: frozenset[str], section: Any) -> frozenset[str]:
        if section is not None and holds(section):
            return inherited
        return inherited - frozenset(steps) if steps else frozenset()

    return Mark(narrow, resolved, words)


@dataclass(frozen=True)
class IsPath:
    """The key names a file or folder, relative to the recipe's file, unless it is one of `names`, which ship with the
    package. `code`: only FILE.py in FILE.py:FUNCTION is a path."""

    names: tuple[str, ...] = ()
    code: bool = False


class Settings(BaseModel):
    """A section: unknown keys are errors, and values can't be assigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    def deciding(self, step: str) -> dict[str, Any]:
        """The settings on which the results of `step` depend, as plain JSON values, without resolved ones."""
        plain, found = self.model_dump(mode="json"), {}
        for name, field in type(self).model_fields.items():
            mark, value = mark_of(field), getattr(self, name)
            if name in plain and not mark.resolved and step in mark.narrow(frozenset(STEPS), self):
                found[name] = value.deciding(step) if isinstance(value, Settings) else plain[name]
        return found


def mark_of(field: FieldInfo) -> Mark:
    return next((mark for mark in field.metadata if isinstance(mark, Mark)), Mark())


def deciding_fields(section: type[Settings], step: str) -> Iterator[str]:
    """The names of the fields on which `step` depends, resolved ones too."""
    for name, field in section.model_fields.items():
        if step in mark_of(field).narrow(frozenset(STEPS), None):
            yield name


def check_name(what: str, name: str) -> None:
    """Raises ValueError if `name` can't be the name of a file."""
    if not name or not all(c.isalnum() or c in "-_.=+" for c in name) or name.startswith("."):
        raise ValueError(f"{what} name '{name}': use letters, digits, '-', '_', '.', '+' and '='")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        # A preset replaces the whole section: the old values would win over it.
        if isinstance(old, dict) and isinstance(value, dict) and "preset" not in value:
            value = merge(old, value)
        merged[key] = value
    return merged
