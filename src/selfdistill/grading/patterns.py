"""A user's regular expressions: compiled within bounds, searched within a time limit."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod

import regex

from ..errors import RecipeError

SECONDS = 1.0
_LONGEST, _MOST_REPEATS = 10_000, 100_000
_REPEAT = re.compile(r"(\))?\{(\d{1,4000})")


@lru_cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """The compiled pattern, with the syntax of Python's `re`. Search with `timeout`. Raises RecipeError if `pattern` is
    not a regular expression, or takes too long or too much memory to compile: compiling unrolls repeats, and the counts
    of repeated groups multiply because groups may be nested."""
    counts = [(bool(group), max(1, int(least))) for group, least in _REPEAT.findall(pattern)]
    unrolled = prod(n for group, n in counts if group) * max((n for group, n in counts if not group), default=1)
    if len(pattern) > _LONGEST or unrolled > _MOST_REPEATS:
        raise RecipeError(
            f"The grader's pattern is longer than {_LONGEST:,} characters, or its repeats unroll to more than "
            f"{_MOST_REPEATS:,} copies; write a shorter pattern."
        )
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise RecipeError(f"The grader's pattern {pattern!r} is not a regular expression: {error}.") from None
