"""What the sections share: an unknown key is an error, names are safe in files, changes go over what stands there."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def check_name(what: str, name: str) -> None:
    """Raises ValueError where `name` is no safe file name."""
    if not name or not all(c.isalnum() or c in "-_.=+" for c in name) or name.startswith("."):
        raise ValueError(f"{what} name '{name}': use letters, digits, '-', '_', '.', '+' and '='")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with what `changes` says, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        # A preset replaces what stood there; otherwise the old values would win over it.
        if isinstance(old, dict) and isinstance(value, dict) and "preset" not in value:
            value = merge(old, value)
        merged[key] = value
    return merged
