"""Single values of a row: empty or filled, a number as text, a value as JSON can hold it."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

_EMPTY_TEXTS = ("", "[]", "{}", "null", "None")


def known(value: Any) -> Any:
    """The value, or None for NaN, which pandas writes for an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value


def is_filled(value: Any) -> bool:
    """False for null, NaN, empty text, and lists and objects of only these (also as text: "[]")."""
    if isinstance(value, str):
        return value.strip() not in _EMPTY_TEXTS
    if isinstance(value, (list, tuple)):
        return any(map(is_filled, value))
    if isinstance(value, dict):
        return any(map(is_filled, value.values()))
    return known(value) is not None


def number_text(value: Any) -> str | None:
    """A number or a truth value as text: 5 is "5", 42.0 is "42", 0.5 is "0.5", true is "true". None for anything else.

    Whole floats lose their ".0", because pandas turns a column of integers with an empty cell into floats.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value) if isinstance(value, (int, Decimal)) else None


def as_json(value: Any) -> Any:
    """The value if JSON can hold it, or else a text that describes it."""
    if value is None or isinstance(value, (str, int)):
        return value
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return f"{len(value):,} bytes" if isinstance(value, bytes) else _shown(value)
    return value


def kind(value: Any) -> str:
    """The type of a value, for a message: "a list", "null", "a number"."""
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    try:
        return str(value)[:2000]
    except RecursionError:
        return kind(value)
