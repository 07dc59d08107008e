"""How an answer ends: by itself, at the limit, in a loop, or as no text at all. All rules are conservative: a text that
may make sense is not flagged. `python benchmarks/false_alarms.py DATA` counts the false alarms on reference answers."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from ..types import Completion
from .scripts import script_of
from .traces import answer_of

Ending = Literal["stop", "limit", "loop", "garbled", "empty", "error"]
DEGENERATE: tuple[Ending, ...] = ("loop", "garbled", "empty")

_TIMES = 4  # a loop is a stretch that stands at the end of the text at least so many times in a row,
_LEAST = 100  # over at least so many characters
_LONGEST = 4_000  # characters at the end of a text that are searched for a loop

_MOST_CHARACTERS = 20_000
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>")
_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"\d+")
_VOWELS = frozenset("aeiouyAEIOUY")
# Scripts whose letters stand in one word with those of others: Greek in formulas; East Asian texts have no spaces.
_MIXED_ANYWAY = frozenset(("GREEK", "EAST ASIAN", "HANGUL", "THAI", "LAO", "KHMER"))


def ending(completion: Completion) -> Ending:
    """Return how an answer ends. A loop is endless only if it ran until the answer was cut off; a repetition that the
    model ended itself is an ending like any other. Garbled or empty is the answer without its think trace."""
    if completion.finish == "error":
        return "error"
    if completion.finish == "loop" or (completion.finish == "length" and ends_in_loop(completion.text)):
        return "loop"
    answer = answer_of(completion)
    trouble = None if answer is None else unreadable(answer)
    return trouble or ("limit" if completion.cut_off else "stop")


def ends_in_loop(text: str) -> bool:
    """Return whether the end of a text is one stretch, repeated at least four times and over at least 100 characters.
    The last repetition may be cut short."""
    return _loop(text) is not None


def without_loop(text: str) -> str:
    """Return the text up to the end of the first repetition of the loop in which it ends; without a loop, the text.
    What an answer says before it repeats itself does not depend on where it was cut off."""
    found = _loop(text)
    return text if found is None else text[: sum(found)]


def unreadable(text: str) -> Literal["empty", "garbled"] | None:
    """Return `empty`, `garbled`, or None for a text that can be read. A loop at the end is read once.

    Garbled is only what clearly is not a text: no letter, digit or pictograph; or, in a text of 20 signs or more, fewer
    than a fifth of these; or replacement characters, at least four and one in twenty signs; or, of five words or more
    that have four letters, most without a vowel in a script that has them, or five in different alphabets and one in
    five of all; or, from 20 words on, nine in ten are repeats, also with the numbers (a loop of one or two words, which
    says nothing, is then read with all its repetitions).
    """
    text = _ANSI.sub("", text[:_MOST_CHARACTERS])
    once = without_loop(text)
    signs = [sign for sign in once if not sign.isspace()]
    if not signs:
        return "empty"
    readable = sum(sign.isalnum() or unicodedata.category(sign) == "So" for sign in signs if sign != "\ufffd")
    if not readable or (len(signs) >= 20 and readable * 5 < len(signs)):
        return "garbled"
    if (replaced := signs.count("\ufffd")) >= 4 and replaced * 20 >= len(signs):
        return "garbled"
    said = text if len(once.split()) < 3 else once
    return "garbled" if _no_words(_WORD.findall(_TAG.sub(" ", said)), _NUMBER.findall(said)) else None


def _no_words(words: list[str], numbers: list[str]) -> bool:
    """Whether words can't be of a text: without vowels, of letters from different alphabets, or always the same. The
    rows of a table or a program may differ in their numbers alone."""
    long = [word for word in words if len(word) >= 4]
    natural = sum(not word.isascii() or not _VOWELS.isdisjoint(word) for word in long)
    mixed = sum(not word.isascii() and len({*map(script_of, word)} - _MIXED_ANYWAY - {None}) > 1 for word in long)
    if (len(long) >= 5 and natural * 2 < len(long)) or (mixed >= 5 and mixed * 5 >= len(long)):
        return True
    different = len({word.casefold() for word in words})
    repeats = different * 10 <= len(words) and (different + len({*numbers})) * 10 <= len(words) + len(numbers)
    return len(words) >= 20 and repeats


def _loop(text: str) -> tuple[int, int] | None:
    """Return where the loop at the end of a text starts and how long one repetition is, None without a loop.

    The borders of the reversed text (Knuth, Morris and Pratt 1977) give the shortest period of each of its beginnings.
    """
    text = text.rstrip("\ufffd")  # a character whose last bytes were cut off
    tail = text[-_LONGEST:][::-1]
    borders, border, period = [0], 0, 0
    for length in range(2, len(tail) + 1):
        sign = tail[length - 1]
        while border and tail[border] != sign:
            border = borders[border - 1]
        border += tail[border] == sign
        borders.append(border)
        if length >= _LEAST and length >= _TIMES * (length - border):
            period = length - border
    if not period:
        return None
    start = len(text) - period
    while start and text[start - 1] == text[start - 1 + period]:
        start -= 1
    return start, period
