"""Proper names by their capital letters, in languages that write nouns small: Latin, Cyrillic or Greek script, but not
German, whose nouns all begin with a capital."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Set
from typing import NamedTuple

from .amounts import MONTHS
from .scripts import script

_WORD = re.compile(r"[^\W_]+(?:[’'&-][^\W_]+)*")
# Not names at the start of a sentence, nor after a mark behind which a sentence may start.
_MAY_START = re.compile(r"[.!?:;…\n\"“”«»„(\[{|/*_>=–—•]|(?:^|\s)[-‘'](?=\S|\s|$)")
_ABBREVIATION = re.compile(r"(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|vs)")
_HEADING = re.compile(r"\s{0,9}#{1,6}\s|\s{0,9}(?:\*\*|__)[^*_\n]{1,120}(?:\*\*|__)\s*:?\s*$|[^:\n]{1,80}:\s*$")
_BULLET = re.compile(r"\s{0,20}(?:[-*•>–]\s+|\(?\d{1,3}[.)]\s+|\(?[A-Za-z][.)]\s+){1,3}")
_LEAD_IN = re.compile(r"(?:\*\*|__)([^*_\n]{1,80})(?:\*\*|__)|([^:.!?\n]{1,60}):(?=\s)")
_POSSESSIVE = re.compile(r"[’']s?$")
_SUFFIXES = ("s", "es", "n", "an", "ian")
_ITEM_WORDS = 4
_MOST_ALIKE = 1000
_SMALL_WORDS = (
    "a an and are as at be been but by can do for from had has have he her his how i if in into is it its me my no not "
    "of on or our she so than that the their them then there these they this to was we were what when where which who "
    "why will with yes you your both each all also any just only other ok mr mrs ms dr i'm i'd i'll i've i’m i’d i’ll "
    "i’ve"
)
_DATE_WORDS = {form for month in MONTHS for form in (month.lower(), month[:3].lower(), "sept")}  # these are amounts
_NO_NAMES = frozenset(_SMALL_WORDS.split()) | _DATE_WORDS
_ANSWERS = {"yes", "no"}
_GERMAN_WORDS = (
    "und der das ist nicht ein eine sich auch für dem des wird werden sind zu im mit auf von den die ich kann wie wann "
    "wer wo sie ihre ihr mein meine wir oder zum zur nach bei aus kein keine einen einer eines diese dieser über wenn "
    "können haben bitte nein"
)
_GERMAN = frozenset(_GERMAN_WORDS.split())


class Names(NamedTuple):
    """`sure`: capitalised within a sentence. `items`: words of short lines that are capitalised throughout, such as
    an answer of one word or an item of a list, and of a list's titles. `opening`: capitalised where a sentence may
    start. `small`: words that the text also writes without a capital. `words`: all words. Each in lower case."""

    sure: frozenset[str]
    items: frozenset[str]
    opening: frozenset[str]
    small: frozenset[str]
    words: frozenset[str]


def names_are_marked(text: str) -> bool:
    """Whether the capital letters of a text's language mark its names. A text without letters has no names."""
    if script(text) not in ("LATIN", "CYRILLIC", "GREEK", None):
        return False
    words = [word.lower() for word in _WORD.findall(text)]
    german = [word for word in words if word in _GERMAN]
    return len({*german}) < 3 or len(german) < 0.12 * len(words)


def names(text: str) -> Names:
    """The names of a text without code and addresses."""
    sure, items, opening = set[str](), set[str](), set[str]()
    for line in text.splitlines():
        bullet = _BULLET.match(line)
        rest = line[bullet.end() :] if bullet else line
        if _HEADING.match(line):
            opening |= {_folded(word) for word in _WORD.findall(rest)}
            continue
        lead = _LEAD_IN.match(rest)
        head = (lead[1] or lead[2]) if lead else rest
        if lead or bullet or len(text) == len(line):
            items |= _short_item(head)
        body = rest[lead.end() :] if lead else rest
        opening |= {_folded(word) for word in _WORD.findall(head)} if lead else set()
        if _is_title(body):
            (items if bullet else opening).update(_folded(word) for word in _content(body))
        else:
            _read_sentences(body, sure, opening)
    words = _WORD.findall(text)
    small = {_folded(word) for word in words if word[:1].islower()}
    return Names(*map(frozenset, (sure - small, items, opening, small, map(_folded, words))))


def missing_names(wanted: Iterable[str], words: Set[str]) -> list[str]:
    """The names that do not occur among `words`, not even with another ending: Italy's, Americans, Москве."""
    near: dict[str, list[str]] = defaultdict(list)
    for word in words:
        near[word[:3]].append(word)
    absent = [name for name in wanted if name not in words]
    return [name for name in absent if not any(_same(name, word) for word in near[name[:3]][:_MOST_ALIKE])]


def _read_sentences(line: str, sure: set[str], opening: set[str]) -> None:
    before = None
    for match in _WORD.finditer(line):
        word = match[0]
        gap = line[before.end() if before else 0 : match.start()]
        starts = before is None or bool(_MAY_START.search(gap))
        if starts and before and gap.strip() == "." and _ABBREVIATION.fullmatch(before[0]):
            starts = False
        before = match
        if word.casefold() in _NO_NAMES or not _is_capitalised(word):
            continue
        (sure if not starts or _is_coined(word) else opening).add(_folded(word))


def _is_capitalised(word: str) -> bool:
    return word[0].isupper() or _is_coined(word)


def _is_coined(word: str) -> bool:
    """NASA, iPhone, B12: a name wherever it stands."""
    letters = [sign for sign in word if sign.isalpha()]
    capitals = sum(sign.isupper() for sign in letters[1:])
    digits = any(sign.isdigit() for sign in word)
    return len(word) > 1 and word[0].isalpha() and bool(capitals or (digits and letters[0].isupper()))


def _is_title(line: str) -> bool:
    """Whether a line is written like a title or in capitals. Its capitals mark no names, but a list's titles are what
    it says."""
    long = [word for word in _WORD.findall(line) if len(word) > 3]
    ends = line.rstrip()[-1:] in (".", "!", "?")
    return not ends and len(long) >= 3 and sum(word[0].isupper() for word in long) > 0.7 * len(long)


def _content(line: str) -> list[str]:
    words = [word for word in _WORD.findall(line) if not word[0].isdigit()]
    return [word for word in words if word.casefold() not in _NO_NAMES - _ANSWERS]


def _short_item(head: str) -> set[str]:
    content = _content(head)
    if content and len(_WORD.findall(head)) <= _ITEM_WORDS and all(map(_is_capitalised, content)):
        return {_folded(word) for word in content}
    return set()


def _folded(word: str) -> str:
    return _POSSESSIVE.sub("", word).casefold()


def _same(name: str, word: str) -> bool:
    short, long = sorted((name, word), key=len)
    if long.startswith(short) and (len(short) >= 3 or short == long):
        return short == long or long[len(short) :] in _SUFFIXES
    same = next((at for at, (one, other) in enumerate(zip(name, word, strict=False)) if one != other), len(short))
    return not name.isascii() and same >= max(4, len(long) - 3)
