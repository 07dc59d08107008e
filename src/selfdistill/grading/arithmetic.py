"""Worked arithmetic that contradicts itself, such as "6 + 6 = 10".

Only a sum that is certainly wrong is found: whatever can be read in another way (an unknown, a unit that changes, a
power, a time, a base other than ten) is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from .numerals import CURRENCY, Numeral, numerals, plain

_MOST_CHARACTERS = 50_000
_MOST_TERMS = 200
_INEXACT = Fraction(1, 200)  # for sums of numbers with decimals, which may have been rounded before
_FENCED = re.compile(r"```[^`]*+```")
_BULLET = re.compile(r"^[ \t>]{0,9}(?:[-*•+]|\(?\d{1,3}[.)])[ \t]+", re.MULTILINE)
_TIMES = re.compile(r"(?<=[\d)%]) ?[xX] ?(?=[\d($])(?<!0x)")
_SPELLED = (
    (re.compile(r"\\times|\\cdot|[×∗]"), "*"),
    (re.compile(r"\\div|÷"), "/"),
    (re.compile(r"(?<=[\d%)]) (?:multiplied by|times) (?=[\d$(])"), " * "),
    (re.compile(r"(?<=[\d%)]) divided by (?=[\d$(])"), " / "),
    (re.compile(r"(?<=[\d%)]) plus (?=[\d$(])"), " + "),
    (re.compile(r"(?<=[\d%)]) minus (?=[\d$(])"), " - "),
    (re.compile(r"(?<=[\d%)]) equals (?=[\d$(-])"), " = "),
    (re.compile(r"(?<=\d%) of (?=[\d$(])|(?<=\d %) of (?=[\d$(])"), " * "),
    (
        re.compile(r"\*\*(?![\d\s])|(?<![\d\s])\*\*|(?<=\d)\*\*(?=[\s.,]|$)|(?:^|(?<=\s))\*\*(?=\d)|<<[^<>\n]{0,99}>>"),
        " ",
    ),
)
_OTHER_RULES = re.compile(
    r"\b(?:binary|octal|hexadecimal|base[- ]?\d+|base (?:two|eight)|mod(?:ulo|ular)?|boolean|o'clock|concatenat\w*"
    r"|wrong|incorrect|false|mistaken?|joke|wrongly|not correct|remainder)\b",
    re.IGNORECASE,
)
_PIECE = re.compile(
    rf"(?P<space>[ \t{CURRENCY}]+)|(?P<operator>[-+*/](?![-+*/=>]))"
    r"|(?P<equals>(?<![<>!=:~≈≠])=(?![=>~]))|(?P<bracket>[()])"
)
_UNREAD = re.compile(r"[\d^!²³√π\\_{}\[\]|]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_AMBIGUOUS = re.compile(r"0\d.*|\d+[- ](?:and )?\d+/\d+|\d+ \d{3}|.*[kK]")
_UNIT = re.compile(r"([ -]?)(%|°?[A-Za-z]{2,20}(?:/[a-z]{1,20})?\b)")
_GLUED = frozenset(("cm", "mm", "km", "kg", "mg", "ml", "ft", "lb", "lbs", "oz", "mph", "hrs", "hr", "min", "°c", "°f"))
# Words behind a number that are not its unit.
_GOING_ON = "and or so which is are as in for then because but left to more total"
_GOES_ON = frozenset(_GOING_ON.split())
# Words behind which a number is not the start of a sum: "the square root of 16 + 2", "log 8 + 1".
_TAKES_A_NUMBER = re.compile(
    r"(?:\b(?:of|log|ln|sin|cos|tan|root|sqrt|mod|minus|negative|plus|times|by|half|twice|double|base|from|between|weeks?|days?"
    r"|steps?|chapters?|pages?|years?|questions?|parts?|levels?|grades?|rooms?|ages?|numbers?|problems?|sections?)"
    rf"[ {CURRENCY}]*|[\w\]}})|^²³!])$",
    re.IGNORECASE,
)
# A unit that changes the number, so that 2 dozen + 1 is not 3.
_SCALING_WORDS = "dozen hundred pair half halve third quarter score cent percent per squared cubed factorial mod"
_SCALING = frozenset(_SCALING_WORDS.split())


class _Term(NamedTuple):
    """A token of a sum: a number with its unit, an operator, a bracket or an equals sign. A number that can be read in
    two ways, 50 % as 0.5 or 50 and 1.500 as 1.5 or 1500, has both in `readings`."""

    kind: str
    text: str
    readings: tuple[Fraction, ...] = ()
    unit: str = ""


_Reading = tuple[int, int]
"""Which of the two readings is meant: of numbers with a per cent sign, and of other numbers."""
_READINGS: tuple[_Reading, ...] = ((0, 0), (1, 0), (0, 1), (1, 1))
_SCALES = {"thousand": 10**3, "million": 10**6, "trillion": 10**12, "billion": 10**9, "k": 10**3}


class _Unreadable(Exception):  # noqa: N818 (a signal within this file)
    """The tokens are not a sum that can be computed."""


def contradictions(text: str) -> list[str]:
    """The equations of a text that are wrong, as they stand there but for spaces. Rounded results are right, and so is
    a chain that goes on from its result, as in 6 + 6 = 12 + 1 = 13."""
    if "=" not in text and " equal" not in text:
        return []
    found = []
    for line in _lines(_FENCED.sub("\n", text[:_MOST_CHARACTERS])):
        if "=" in line and not _OTHER_RULES.search(line):
            found += [_written(sides) for run in _runs(line) for sides in pairwise(_sides(run)) if _wrong(*sides)]
    return found


def _lines(text: str) -> Iterator[str]:
    text = _BULLET.sub("", _TIMES.sub(" * ", plain(text).replace("&=", "=")))
    for pattern, spelled in _SPELLED:
        text = pattern.sub(spelled, text)
    return iter(re.sub(r"\n\s*(?==)", " ", text).splitlines())


def _runs(line: str) -> Iterator[list[_Term]]:
    """The stretches of a line that hold nothing but numbers with units, operators, brackets and equals signs."""
    starts = {numeral.start: numeral for numeral in numerals(line)}
    run: list[_Term] = []
    at = 0
    while at < len(line):
        numeral, piece = starts.get(at), _PIECE.match(line, at)
        if numeral is not None and isinstance(numeral.value, int | Fraction):
            if not run and _TAKES_A_NUMBER.search(line[max(0, at - 20) : at]):
                run.append(_Term("broken", ""))
            term, at = _number(line, numeral)
            run.append(term)
        elif piece is not None and piece.lastgroup == "space":
            at = piece.end()
        elif piece is not None:
            if not run and piece.lastgroup == "bracket" and _TAKES_A_NUMBER.search(line[max(0, at - 20) : at]):
                run.append(_Term("broken", ""))
            run.append(_Term(str(piece.lastgroup), piece[0]))
            at = piece.end()
        else:
            yield [*run, _Term("broken", "")] if _goes_on(line, at) else run
            run = [_Term("broken", "")] if _goes_on(line, at) else []
            at = numeral.end if numeral is not None else at + 1
    yield run


def _goes_on(line: str, at: int) -> bool:
    """Whether what can't be read belongs to the sum: an unknown, a power, a function, a digit of a time."""
    return _UNREAD.match(line, at) is not None


def _number(line: str, numeral: Numeral) -> tuple[_Term, int]:
    """The number with its unit, and where they end."""
    assert isinstance(numeral.value, int | Fraction)
    value, written = abs(Fraction(numeral.value)), line[numeral.start : numeral.end]
    match = _UNIT.match(line, numeral.end)
    unit = match[2].lower() if match else ""
    if unit == "%":
        return _Term("number", written, (value / 100, value), "%"), match.end() if match else numeral.end
    divided = "/" in written and line[: numeral.start].rstrip().endswith("/")  # 500 / 2/5
    if divided or _AMBIGUOUS.fullmatch(written) or (match and not match[1] and unit not in _GLUED):  # 0900, 2ab
        return _Term("broken", written), match.end() if match and not match[1] else numeral.end
    if not match or unit in _GOES_ON:
        unit, end = "", numeral.end
    else:
        end = match.end()
    readings = (value, value * 1000) if re.fullmatch(r"\d{1,3}\.\d{3}", written) else (value,)
    return _Term("number", written, readings, unit.rstrip("s")), end


def _sides(run: Sequence[_Term]) -> list[list[_Term]]:
    sides: list[list[_Term]] = [[]]
    for term in run:
        if term.kind == "equals":
            sides.append([])
        elif term.text == "-" and not sides[-1] and len(sides) == 1:
            sides[-1].append(_Term("broken", ""))  # not a sign: what it is taken from was not read
        else:
            sides[-1].append(term)
    return sides if len(run) <= _MOST_TERMS else []


def _wrong(left: list[_Term], right: list[_Term]) -> bool:
    """Whether left = right is wrong in every reading."""
    terms = [*left, *right]
    units = {term.unit for term in terms if term.unit}
    if not _operates(left) or _scaled(left) != _scaled(right) or len(units - {"%"}) > 1 or units & _SCALING:
        return False
    if "%" in units and any(term.text in ("+", "-") for term in terms):
        return False  # 10 + 10% is 11
    try:
        return not any(_right(left, right, reading) for reading in _READINGS)
    except (_Unreadable, ZeroDivisionError):
        return False


def _operates(side: list[_Term]) -> bool:
    """Whether a side is more than a number, which may be a label: 8 batches = 5.5 * 8."""
    return any(term.kind == "operator" or "/" in term.text for term in side)


def _scaled(side: list[_Term]) -> bool:
    return any(word in term.text for term in side for word in _SCALES)


def _right(left: list[_Term], right: list[_Term], reading: _Reading) -> bool:
    """Whether left = right is right in one reading. The right side may also go on from the result: its first number is
    the left side's value."""
    one, first = _value(left, reading), right[:1]
    results = [(right, _value(right, reading))]
    results += [(first, _value(first, reading))] if first[0].kind == "number" else []
    values = [one, one * 100] if any("/" in term.text for term in left) else [one]  # 3/4 = 75, in per cent
    return any(_equal(left, value, side, result, reading) for side, result in results for value in values)


def _equal(left: list[_Term], one: Fraction, right: list[_Term], other: Fraction, reading: _Reading) -> bool:
    difference, terms = abs(one - other), [*left, *right]
    if difference == 0:
        return True
    if any("." in term.text for term in terms) and difference <= _INEXACT * max(abs(one), abs(other)):
        return True
    return difference <= max(_last_place(right, one, reading), _last_place(left, other, reading))


def _last_place(side: list[_Term], exact: Fraction, reading: _Reading) -> Fraction:
    """How far a rounded or cut result may be from the exact one; 0 unless the side is one number. A whole number may
    stand for a result with decimals."""
    numbers = [term for term in side if term.kind == "number"]
    if len(numbers) != 1 or len(side) > 2 or "/" in numbers[0].text:
        return Fraction(0)
    written, percent = numbers[0].text, numbers[0].unit == "%" and reading[0] == 0
    size = next((size for word, size in _SCALES.items() if word in written.lower()), 1)
    scale = Fraction(size, 100 if percent else 1)
    if "." in written:
        decimals: int = 10 ** len(re.sub(r"\D", "", written.rpartition(".")[2]))
        return scale / decimals
    return scale * Fraction(99, 100) if exact.denominator != 1 or size > 1 else Fraction(0)


def _value(side: list[_Term], reading: _Reading) -> Fraction:
    value, rest = _sum(side, 0, reading)
    if rest != len(side):
        raise _Unreadable
    return value


def _sum(side: list[_Term], at: int, reading: _Reading) -> tuple[Fraction, int]:
    value, at = _product(side, at, reading)
    while at < len(side) and side[at].text in ("+", "-"):
        other, after = _product(side, at + 1, reading)
        value, at = (value + other if side[at].text == "+" else value - other), after
    return value, at


def _product(side: list[_Term], at: int, reading: _Reading) -> tuple[Fraction, int]:
    value, at = _factor(side, at, reading)
    divided = 0
    while at < len(side) and side[at].text in ("*", "/"):
        divided = divided + 1 if side[at].text == "/" else 0
        if divided > 1:
            raise _Unreadable  # 14 / 1 / 4
        other, after = _factor(side, at + 1, reading)
        value, at = (value * other if side[at].text == "*" else value / other), after
    return value, at


def _factor(side: list[_Term], at: int, reading: _Reading) -> tuple[Fraction, int]:
    if at >= len(side):
        raise _Unreadable
    term = side[at]
    if term.kind == "number":
        return term.readings[min(reading[term.unit != "%"], len(term.readings) - 1)], at + 1
    if term.text == "-" and at == 0:
        value, at = _factor(side, 1, reading)
        return -value, at
    if term.text == "(":
        value, at = _sum(side, at + 1, reading)
        if at < len(side) and side[at].text == ")":
            return value, at + 1
    raise _Unreadable


def _written(sides: tuple[list[_Term], list[_Term]]) -> str:
    return " = ".join(" ".join(term.text for term in side) for side in sides)
