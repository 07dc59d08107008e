"""The numbers that a text states: numerals, English number words, ordinals, and dates as their day, month and year."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from .closed_forms import ClosedForm
from .numerals import Numeral, numerals, plain

Amount = int | Fraction | str
"""A value without its sign; a closed form such as 2\\sqrt{3} is its LaTeX."""


class Amounts(NamedTuple):
    """`stated` has to be in a rewrite. `mentioned` holds also what can stand for it, such as "one" or "second".
    `claimed` are the numbers that nobody writes in passing: those in digits, and words above twelve.

    `markers` are the numbers of the items of lists, which do not count as mentioned. `enumerated` are stated numbers
    that only number the items of a list within a line, as in "1. wake up 2. eat": the markers of a list can stand for
    them."""

    stated: frozenset[Amount]
    mentioned: frozenset[Amount]
    claimed: frozenset[Amount]
    markers: frozenset[Amount]
    enumerated: frozenset[Amount]


_UNITS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_WORD = "|".join([*_UNITS, *_TENS, *_SCALES])
_WORDS = re.compile(rf"\b(?:{_WORD})(?:(?:[ -]| and )(?:{_WORD}))*\b", re.IGNORECASE)
_OTHER_WORDS: dict[str, Amount] = {
    "half": Fraction(1, 2), "quarter": Fraction(1, 4), "double": 2, "twice": 2, "both": 2, "pair": 2, "couple": 2,
    "dozen": 12, "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "single": 1, "zero": 0, "no": 0, "none": 0,
}  # fmt: skip
_OTHER = re.compile(rf"\b(?:{'|'.join(_OTHER_WORDS)})s?\b", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(\d{1,9})(?:st|nd|rd|th)\b")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH_NAMES = "|".join(f"{name[:3]}(?:t|{name[3:]})?" for name in MONTHS)
# "May" and "March" are also words, and so are short forms: these stand next to a day or a year.
_MONTH = re.compile(
    rf"\b\d{{1,2}}(?:st|nd|rd|th)?,?\s(?:of\s)?({_MONTH_NAMES})\b|\b({_MONTH_NAMES})\b\.?(?:\sof)?,?\s\d{{1,4}}"
    rf"|\b({'|'.join(name for name in MONTHS if name not in ('March', 'May'))})\b"
)
_DATE = re.compile(r"\b(\d{1,4})[-/.](\d{1,2})[-/.](\d{1,4})\b")
_ITEM = re.compile(r"^[ \t>#*•-]{0,9}\(?\d{1,3}[.):]\**(?=\s)", re.MULTILINE)
_INLINE = re.compile(r"(?<=\s)\(?(\d{1,2})[.)](?=\s)")
_LABEL = re.compile(r"\b(?:step|part|tip|option|day)\s\d{1,3}(?=\s?[:.)-])|\[\d{1,3}\]", re.IGNORECASE)
_GREEK_WORD = re.compile(r"[Ͱ-Ͽἀ-῿]{2,}")  # its π is not a number
_DIGITS = re.compile(r"\d{1,30}")
_LIST_SIZE = 12
_LEAST_ITEMS = 3
_MOST_KNOWN = 150


def amounts(text: str) -> Amounts:
    text = plain(_GREEK_WORD.sub(" ", text))
    markers, unlisted = _without_lists(text)
    unmarked = _LABEL.sub("\n", _ITEM.sub("\n", text))
    digits = frozenset((*_in_digits(unmarked), *_months(text)))
    words = frozenset(_in_words(unmarked))
    stated = digits | words - {1}
    mentioned = words | frozenset((*_in_digits(unlisted), *_months(text), *_in_passing(unlisted)))
    claimed = digits | {value for value in words if value > _LIST_SIZE}
    return Amounts(stated, mentioned, claimed, markers, (stated & markers) - mentioned)


def _without_lists(text: str) -> tuple[frozenset[int], str]:
    """The numbers of the items of lists, and the text without them. Within a line these are numbers that count from 1
    to at least 3: "She is 12. He is older." holds no list."""
    starting = {int(digits) for match in _ITEM.finditer(text) for digits in _DIGITS.findall(match[0])}
    rest = _ITEM.sub("\n", text)
    within = {int(match[1]) for match in _INLINE.finditer(rest)}
    counted = set[int]()
    while len(counted) + 1 in starting | within:
        counted.add(len(counted) + 1)
    if len(counted) < _LEAST_ITEMS:
        return frozenset(starting), rest
    return frozenset(starting | counted), _INLINE.sub(lambda m: "\n" if int(m[1]) in counted else m[0], rest)


def follows(value: Amount, known: Iterable[Amount]) -> bool:
    """Whether one operation on two numbers of `known` results in `value`: + − × ÷, a percentage, or a rounding."""
    if isinstance(value, str):
        return False
    numbers = [Fraction(each) for each in list(known)[:_MOST_KNOWN] if not isinstance(each, str)]
    have, hundred = {*numbers, Fraction(100)}, Fraction(100)
    near = _rounding(value)
    for a in numbers:
        exact = [value - a, a - value, value + a]
        exact += [value / a, a / value] if a and value else []
        exact += [value * hundred / a, a / value * hundred] if a and value else []
        if value * a in have or any(each in have for each in exact):
            return True
        if near and any(abs(_about(a, b, value) - value) <= near for b in have):
            return True
    return False


def _about(a: Fraction, b: Fraction, value: int | Fraction) -> Fraction:
    """The result of dividing or multiplying `a` and `b` that is nearest to `value`."""
    results = [a * b, a * b / 100, *([a / b, a / b * 100] if b else [])]
    return min(results, key=lambda result: abs(result - value))


def _rounding(value: int | Fraction) -> Fraction | None:
    """Half a unit of the last decimal of a number with decimals; None for a whole number and for 1/3."""
    denominator = Fraction(value).denominator
    for decimals in range(1, 7):
        if denominator != 1 and 10**decimals % denominator == 0:
            return Fraction(1, 2 * 10**decimals)
    return None


def _in_digits(text: str) -> Iterator[Amount]:
    for numeral in numerals(text):
        yield from _of(text, numeral)
    yield from (int(match[1]) for match in _ORDINAL.finditer(text))


def _months(text: str) -> Iterator[str]:
    for match in _MONTH.finditer(text):
        name = next(filter(None, match.groups()))[:3]
        yield next(f"month {number}" for number, month in enumerate(MONTHS, 1) if month.startswith(name))


def _of(text: str, numeral: Numeral) -> Iterator[Amount]:
    if isinstance(numeral.value, ClosedForm):
        yield str(numeral.value.latex)
    elif numeral.value is not None:
        yield numeral.value if numeral.value >= 0 else -numeral.value
    else:  # a time, a date, a point or 2x: its numbers
        yield from (int(digits) for digits in _DIGITS.findall(text[numeral.start : numeral.end]))


def _in_words(text: str) -> Iterator[int]:
    """Numbers in English words; a lone "thousand" is not one."""
    for match in _WORDS.finditer(text):
        total, current, last = 0, 0, ""
        for word in re.split(r"[ -]", match[0].lower()):
            if word == "and":
                joins = last in _SCALES
            elif word in _SCALES:
                scale = _SCALES[word]
                if scale == 100:
                    current *= 100
                else:
                    total, current = total + current * scale, 0
            else:
                value = _UNITS.get(word) or _TENS[word]
                extends = last in _SCALES or (last in _TENS and value < 10) or (last == "and" and joins)
                if not extends and (total or current):
                    yield total + current
                    total = current = 0
                current += value
            last = word
        if total or current:
            yield total + current


def _in_passing(text: str) -> Iterator[Amount]:
    """Values that a text also mentions: the numbers of steps, ordinal words, "half", 50 % as 0.5 and 0.5 as 50, the
    number of a month, and the months that a date in digits may mean."""
    for month in _months(text):
        yield int(month.removeprefix("month "))
    for match in _DATE.finditer(text):
        yield from (f"month {int(part)}" for part in match.groups())
    for numeral in numerals(text):
        for value in _of(text, numeral):
            yield value
            if isinstance(value, str):
                continue
            if text[numeral.end : numeral.end + 2].lstrip().startswith(("%", "per")):
                yield Fraction(value) / 100
            if 0 < value < 1:
                yield value * 100
    yield from (int(digits) for match in _LABEL.finditer(text) for digits in _DIGITS.findall(match[0]))
    for match in _OTHER.finditer(text):
        yield _OTHER_WORDS[match[0].lower() if match[0].lower() in _OTHER_WORDS else match[0].lower()[:-1]]
