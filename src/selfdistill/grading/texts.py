"""Texts compared as they stand, by pattern, or as JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..types import Grade
from . import patterns
from .schemas import canonical, first_problem, validator

if TYPE_CHECKING:
    import regex

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)```", re.DOTALL | re.IGNORECASE)


def exact(reference: str, text: str, *, ignore_case: bool = False) -> Grade:
    """Whether the texts are equal, ignoring white space at the start and the end."""
    expected, found = reference.strip(), text.strip()
    same = expected.casefold() == found.casefold() if ignore_case else expected == found
    return Grade("pass", "same text", expected, found) if same else Grade("fail", "text differs", expected, found)


def contains(reference: str, text: str, *, ignore_case: bool = False) -> Grade:
    """Whether the reference occurs in the text. An empty reference is unjudged."""
    expected = reference.strip()
    if not expected:
        return Grade("unjudged", "empty reference")
    inside = expected.casefold() in text.casefold() if ignore_case else expected in text
    return Grade("pass", "contains it", expected) if inside else Grade("fail", "does not contain it", expected)


def regular_expression(reference: str, text: str, *, pattern: str) -> Grade:
    """Whether `pattern` occurs in the text. If the pattern has a group, whether the group of the last match is the same
    in both texts, ignoring white space at its ends. The syntax is that of Python's `re`; a search ends after a second.

    Raises RecipeError if the pattern is not a regular expression.
    """
    compiled = patterns.compiled(str(pattern))
    try:
        found = _last_match(compiled, text)
        if not compiled.groups:
            return Grade("fail", "no match") if found is None else Grade("pass", "matches", found=found)
        expected = _last_match(compiled, reference)
    except (TimeoutError, MemoryError):
        return Grade("unjudged", "pattern took too long")
    if expected is None:
        return Grade("unjudged", "no match in the reference")
    if found is None:
        return Grade("fail", "no match", expected)
    return (
        Grade("pass", "same match", expected, found)
        if found == expected
        else Grade("fail", "match differs", expected, found)
    )


def _last_match(compiled: regex.Pattern[str], text: str) -> str | None:
    match = None
    for match in compiled.finditer(text, timeout=patterns.SECONDS):  # noqa: B007 (the last one is what is wanted)
        if not compiled.groups:
            break
    if match is None:
        return None
    return str(match[1] or "").strip() if compiled.groups else str(match[0])


def json_equal(reference: str, text: str, *, schema: dict[str, Any] | None = None) -> Grade:
    """Whether both texts contain equal JSON; the order of keys does not matter, and 1 equals 1.0. The JSON may be in
    one fenced block.

    With `schema`, a JSON Schema, whether the text's JSON is valid against the schema; the reference is then not
    compared. Raises RecipeError if `schema` is not a JSON Schema.
    """
    valid = validator(schema) if schema is not None else None
    expected, found = json_in(reference), json_in(text)
    if expected is None and schema is None:
        return Grade("unjudged", "no json in the reference")
    shown = None if expected is None else expected[1]
    if found is None:
        return Grade("fail", "no json found", shown)
    if valid is not None:
        return _against(valid, *found)
    if expected is not None and expected[1] == found[1]:
        return Grade("pass", "same json", shown, found[1])
    return Grade("fail", "json differs", shown, found[1])


def _against(valid: Any, value: Any, shown: str) -> Grade:
    from referencing.exceptions import Unresolvable

    try:
        problem = first_problem(valid, value)
    except RecursionError:
        return Grade("fail", "json nested too deeply")
    except (TimeoutError, MemoryError):
        return Grade("unjudged", "pattern took too long")
    except Unresolvable:
        return Grade("unjudged", "a $ref of the schema leads nowhere")
    if problem is not None:
        return Grade("fail", "not valid against the schema", str(problem.json_path), shown)
    return Grade("pass", "valid against the schema", found=shown)


def json_in(text: str) -> tuple[Any, str] | None:
    """The JSON value of `text`, or of its only fenced block, and its canonical spelling; None if there is none."""
    block = _FENCED.search(text)  # to the last fence: two blocks together are not JSON
    for source in (text, block[1] if block else ""):
        try:
            value = json.loads(source, parse_constant=_refuse)
            return value, canonical(value)
        except (ValueError, RecursionError):
            continue
    return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
