"""JSON Schema validation in bounded time: jsonschema, except for the keywords that search a user's pattern in a model's
output or compare every item with every other item."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from typing import Any

from ..errors import RecipeError
from .patterns import SECONDS, compiled


def validator(schema: Any) -> Any:
    """A validator that raises TimeoutError if its pattern searches together take longer than a second.

    Raises RecipeError if `schema` is not a JSON Schema, or has a pattern that can't be used.
    """
    import jsonschema
    from referencing import Registry

    if not isinstance(schema, dict) or not isinstance(schema.get("$schema", ""), str):
        raise RecipeError("The grader `json` takes its `schema` as a mapping: a JSON Schema written out in the recipe.")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        _check(json.dumps(schema, default=str))
    except RecursionError:
        raise RecipeError("The grader's `schema` is nested too deeply; write it flatter.") from None
    extend: Any = jsonschema.validators.extend
    return extend(kind, _Searches().keywords())(
        schema, registry=Registry()
    )  # an empty registry: a $ref never fetches anything


def first_problem(valid: Any, value: Any) -> Any:
    """The first `ValidationError` of a value, None if it is valid. Raises TimeoutError, MemoryError, RecursionError and
    referencing's Unresolvable."""
    try:
        return next(valid.iter_errors(value), None)
    except (ValueError, ArithmeticError):  # infinite, not a number, or too large for a float
        return _error("holds a number that can't be compared")


def invalid_arguments(schema: Any, arguments: Any) -> str | None:
    """Why the arguments of a tool call are not valid against the tool's schema, None if they are."""
    from referencing.exceptions import Unresolvable

    try:
        error = first_problem(validator(schema), arguments)
    except (TimeoutError, MemoryError):
        return "the schema's patterns take too long"
    except (RecursionError, Unresolvable):
        return "the schema refers to something that is not in it"
    place = ".".join(map(str, error.absolute_path)) if error else ""
    return None if error is None else f"{f'{place}: ' if place else ''}{error.message}"[:200]


@functools.lru_cache(maxsize=4096)
def _check(text: str) -> None:
    """Raises RecipeError if a schema, as JSON, can't be used."""
    import jsonschema

    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    _check_patterns(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise RecipeError(f"The grader's `schema` is not a JSON Schema: {error.message}.") from None


def _check_patterns(schema: Any) -> None:
    """Compiles every pattern. Keys named `pattern` within `enum` or `properties` are compiled too, since they are
    rarely anything other than patterns."""
    found = {"unevaluatedProperties": False, "patternProperties": False}
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            found.update(dict.fromkeys(found.keys() & value.keys(), True))
            own = value.get("patternProperties")
            for pattern in [value.get("pattern"), *(own if isinstance(own, dict) else ())]:
                if isinstance(pattern, str):
                    compiled(pattern)
            waiting += value.values()
    if all(found.values()):  # jsonschema would search for these patterns itself, without a time limit
        raise RecipeError("A `schema` with patternProperties can't have unevaluatedProperties; leave one of them out.")


class _Searches:
    """The keywords of one validation, which share its time."""

    def __init__(self) -> None:
        self._start = time.thread_time()

    def keywords(self) -> dict[str, Any]:
        return {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "uniqueItems": self._unique_items,
        }

    def _found(self, pattern: str, text: str) -> bool:
        left = SECONDS - (time.thread_time() - self._start)
        return compiled(pattern).search(text, timeout=max(left, 0.001)) is not None

    def _pattern(self, validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        if validator.is_type(value, "string") and not self._found(pattern, value):
            yield _error(f"does not match {pattern!r}")

    def _pattern_properties(self, validator: Any, patterns: dict[str, Any], value: Any, _schema: Any) -> Iterator[Any]:
        for pattern, inner in patterns.items() if validator.is_type(value, "object") else ():
            for key, item in value.items():
                if self._found(pattern, key):
                    yield from validator.descend(item, inner, path=key, schema_path=pattern)

    def _additional_properties(self, validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[Any]:
        for key, item in value.items() if validator.is_type(value, "object") else ():
            if key in schema.get("properties", {}):
                continue
            if not any(self._found(pattern, key) for pattern in schema.get("patternProperties", {})):
                if allowed is False:
                    yield _error("has a property that is not allowed")
                elif validator.is_type(allowed, "object"):
                    yield from validator.descend(item, allowed, path=key)

    def _unique_items(self, validator: Any, wanted: bool, value: Any, _schema: Any) -> Iterator[Any]:
        if wanted and validator.is_type(value, "array") and len({canonical(item) for item in value}) < len(value):
            yield _error("holds an item twice")


def _error(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def canonical(value: Any) -> str:
    """The same text for all equal JSON values. Raises ValueError if a number is infinite."""
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    """1.0 is 1, as JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
