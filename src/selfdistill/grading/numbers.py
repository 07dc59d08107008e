"""Final numbers: ours, which compares by value, and the paper's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction

from ..types import Verdict

_Number = int | Fraction

# Where an answer is announced. The last announcement in the text counts.
_MARKER = re.compile(r"####|\banswer\s{1,3}is\b|\\boxed\{", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")

# Digits in any script, thousands by comma, a quotient of two, and 5 1/2. `18 9` is two; `x2` and `3rd` are none.
_DIGITS = r"(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?+"
_NUMBER = re.compile(
    r"(?<![A-Za-z_./\d])(?:(?P<whole>\d{1,9}) (?=\d{1,3}/\d{1,3}(?![/.,]?\d)))?+"
    rf"(?:{_DIGITS}|\.\d++)"
    r"(?:[eE][+-]?\d{1,3}(?!\w))?+"
    rf"(?:/(?P<below>{_DIGITS})(?!/))?+"
    r"(?!(?:st|nd|rd|th)\b)"
)
_OPERATOR = re.compile(r"\s*(?:[-+*/×÷xX^]|\\times|\\cdot|\\div)\s*[$€£¥₹]?\d")
_CURRENCY = "$€£¥₹"
_BEFORE_MINUS = " \t\n([{=:,*\"'`~≈<>|" + _CURRENCY
_MOST_DIGITS = 1000

# What can't be seen parts no number, nor its sign: soft hyphen, what has no width, direction marks, BOM.
_UNSEEN = "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_SYMBOLS = str.maketrans(
    {"−": "-", "－": "-", "，": ",", "．": ".", "／": "/", "⁄": "/", "％": "%", "＃": "#", "＄": "$"}
    | dict.fromkeys(_UNSEEN, "")
)
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_LATEX = (
    (re.compile(r"\\[dt]?frac\{(-?\d{1,99})\}\{(\d{1,99})\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*+)\}"), r"\1"),
    (re.compile(r"\{,\}|\\[,!;]"), ","),
    (re.compile(r"\\([$%#])"), r"\1"),
)


def final_number(reference: str, text: str) -> Verdict:
    """Whether both texts end in the same number, compared by value (eq. 4, Extract for maths).

    The number is the one that the last `####`, "the answer is" or `\\boxed{}` announces, else the last of the text.
    Units, currency and per cent signs don't count (50% is 50); 1,234.50 is 1234.5 and 1/2 is 0.5; "18 9" is two
    numbers. A reference without a number is unjudged.
    """
    return _compared(extract_number(reference), extract_number(text), _show)


def _compared(expected: _Number | None, found: _Number | None, show: Callable[[_Number], str]) -> Verdict:
    if expected is None:
        return Verdict("unjudged", "no number in the reference")
    if found is None:
        return Verdict("fail", "no number found", show(expected))
    if found == expected:
        return Verdict("pass", "same number", show(expected), show(found))
    return Verdict("fail", "number differs", show(expected), show(found))


def extract_number(text: str) -> _Number | None:
    """The final number of `text`, None where it holds none or announces something that is no number."""
    text = _plain(text)
    marker = None
    for marker in _MARKER.finditer(text):  # noqa: B007 (the last one is what is wanted)
        pass
    if marker is None:
        return _last(text)
    tail = text[marker.end() :].lstrip(" \t\n:*_$`(\"'")
    if marker[0] == "\\boxed{":
        tail = tail.partition("}")[0]
        return _announced(tail)
    end = _SENTENCE_END.search(tail)
    sentence, rest = (tail[: end.start()], tail[end.end() :]) if end else (tail, "")
    # "The answer is, therefore:" and the number on a later line: still what the marker announces.
    return _announced(sentence) if _has_number(sentence) else _last(rest)


def _announced(sentence: str) -> _Number | None:
    """The number a sentence opens with; where that is a sum such as `3 + 4 = 7`, what it comes to."""
    first = next(_matches(sentence), None)
    if first is not None and _OPERATOR.match(sentence, first.end()):
        _, equals, result = sentence.rpartition("=")
        first = next(_matches(result), None) if equals else None
        return _value(result, first) if first else None
    return _value(sentence, first) if first else None


def _last(text: str) -> _Number | None:
    last = None
    for last in _matches(text):  # noqa: B007
        pass
    return _value(text, last) if last else None


def _has_number(text: str) -> bool:
    return next(_matches(text), None) is not None


def _matches(text: str) -> Iterator[re.Match[str]]:
    """The numbers of `text`; those of absurd length are no answers."""
    return (match for match in _NUMBER.finditer(text) if len(match[0]) <= _MOST_DIGITS)


def _value(text: str, match: re.Match[str]) -> _Number | None:
    above, _, below = match[0].replace(",", "").rpartition(" ")[2].partition("/")
    # Most answers are whole numbers, and a Fraction takes ten times as long to make.
    value: _Number = int(above) if above.isdecimal() else Fraction(above)
    if below:
        if not Fraction(below):
            return None
        value /= Fraction(below)
    value += int(match["whole"] or 0)
    return -value if _is_negative(text, match.start()) else value


def _is_negative(text: str, start: int) -> bool:
    """Whether the number at `start` has a minus: `-5`, `-$5`, `$-5`; not `3-5`, `page-5` or `3 - 5`."""
    at = start - 1
    if at >= 1 and text[at] in _CURRENCY:
        at -= 1
    return at >= 0 and text[at] == "-" and (at == 0 or text[at - 1] in _BEFORE_MINUS)


def _plain(text: str) -> str:
    """Typographic and LaTeX spellings in ASCII: unicode minus, full-width signs, ½, \\frac{1}{2}, 1{,}000."""
    if not text.isascii():
        text = _VULGAR.sub(_written_out, text.translate(_SYMBOLS))
    if "\\" in text or "{,}" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return text


def _written_out(vulgar: re.Match[str]) -> str:
    before = vulgar.string[vulgar.start() - 1 : vulgar.start()]
    return " " * before.isdigit() + unicodedata.normalize("NFKC", vulgar[0]).replace("⁄", "/")


def _show(value: _Number) -> str:
    if 10**12 % value.denominator == 0:
        return f"{Decimal(value.numerator) / value.denominator:f}"
    return str(value)


_PAPER_NUMBER = re.compile(r"-?\d+(?:[,\s]\d+)*(?:\.\d+)?")


def final_number_paper(reference: str, text: str) -> Verdict:
    """The rule of the paper's code: the last integer of each text, where "18 9" is 189 and a decimal is no number.

    Unlike there, a reference without an integer is unjudged; the code passed a text that had none either.
    https://github.com/sail-sg/sdft (eval/utils.py)
    """
    return _compared(_paper_integer(reference), _paper_integer(text), str)


def _paper_integer(text: str) -> int | None:
    numbers = _PAPER_NUMBER.findall(text.strip())
    if not numbers:
        return None
    whole, _, decimals = numbers[-1].replace(",", "").replace(" ", "").partition(".")
    if decimals.strip("0") or len(whole) > _MOST_DIGITS:
        return None
    try:
        return int(whole)
    except ValueError:  # a line break within, as in "18\n9"
        return None
