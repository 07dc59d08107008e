"""The script that a text is written in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

_FENCED = re.compile(r"```[^`]*+```")
_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO"}
_MOST_CHARACTERS = 50_000


def script(text: str) -> str | None:
    """The script of at least two thirds of the letters outside fenced code, such as LATIN or CYRILLIC; None if no
    script has as many. Chinese and Japanese are one, EAST ASIAN."""
    text = _FENCED.sub("", text[:_MOST_CHARACTERS])
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else None
    counts = Counter(filter(None, map(script_of, text)))
    if not counts:
        return None
    name, count = counts.most_common(1)[0]
    return name if count * 3 >= counts.total() * 2 else None


@lru_cache(maxsize=10_000)
def script_of(sign: str) -> str | None:
    """The script of a letter, None for other signs: the first word of its Unicode name is near enough. Chinese and
    Japanese are one."""
    if not sign.isalpha():
        return None
    name = unicodedata.name(sign, "?").split()[0].split("-")[0]
    return "EAST ASIAN" if name in _EAST_ASIAN else name
