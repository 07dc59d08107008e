"""Numbers as people write them: thousands, decimals, fractions, powers of ten, LaTeX and typographic signs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from . import closed_forms
from .closed_forms import ClosedForm

Value = int | Fraction | ClosedForm


class Numeral(NamedTuple):
    """A number in a text. The value is None if it only looks like a number: 3:30, 1,2,3, 2x, 5/0, ±5, (3,4)."""

    start: int
    end: int
    value: Value | None


CURRENCY = "$€£¥₹"
_MOST_DIGITS = 1000

# `x2`, `v1.2` and `3rd` are not numbers.
_DIGITS = r"(?:[1-9]\d{0,2}(?: \d{3})++(?![\d'])(?:[.,]\d++)?+|\d++(?:[.,:']\d++)*+)"
_NUMERAL = re.compile(
    r"(?<![A-Za-z_./^\d])(?:(?P<whole>\d{1,9})(?: | and |-)(?=\d{1,3}/\d{1,3}(?![/.,]?\d)))?+"
    rf"(?P<above>{_DIGITS}|\.\d++)"
    r"(?:[eE](?P<power>[+-]?\d{1,3})(?!\w))?+"
    rf"(?:/(?P<below>{_DIGITS})(?P<date>/\d++)?+)?+"
    r"(?:\s?(?P<scale>thousand|million|billion|trillion)s?\b|(?P<kilo>[kK])\b|(?P<unknown>[xyzn])\b)?+"
    r"(?!(?:st|nd|rd|th)\b)"
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# How digits may be grouped, and the sign of the decimals. 1,000 and 1 000 are a thousand, 1.000 and 1,00 are one.
_SPELLINGS = (
    (re.compile(r"\d*(?:\.\d+)?"), "", "."),
    (re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?"), ",", "."),
    (re.compile(r"[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?"), " ", "."),
    (re.compile(r"[1-9]\d{0,2}(?:'\d{3})+(?:\.\d+)?"), "'", "."),
    (re.compile(r"[1-9]\d{0,2}(?: \d{3})+,\d+"), " ", ","),
    (re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}"), ".", ","),
    (re.compile(r"\d+,\d+"), "", ","),
)
_BEFORE_MINUS = " \t\n([{=:,*\"'`~≈<>|" + CURRENCY
_TWO_SIGNS = re.compile(rf"(?:[±∓]|\+/?-)[ {CURRENCY}]{{0,2}}$")
_PAIR_OPENS = re.compile(r"(?:[(\[]|\\\{)-?$")
_DECIMAL_COMMA = re.compile(r"\d+,\d+")
_MINUS_WORD = re.compile(r"\bnegative $|(?:^|[^\w\s]\s?|\b(?:is|was|be|to|of|equals|makes)\s)minus $", re.IGNORECASE)

# Invisible characters are removed, so that they do not split a number or separate its sign: soft hyphen, zero-width
# characters, direction marks, BOM.
_UNSEEN = "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_SYMBOLS = str.maketrans(
    {"−": "-", "－": "-", "–": "-", "，": ",", "．": ".", "／": "/", "⁄": "/", "％": "%", "＃": "#", "＄": "$"}
    | {"：": ":", "’": "'", "√": "\\sqrt", "π": "\\pi ", "⋅": "*", "·": "*"}
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | dict.fromkeys(_UNSEEN, "")
)
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_RAISED = re.compile("(?<=\\d)[⁰¹²³⁴-⁹⁻]+")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|textit|mbox)\{([^{}]*+)\}"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\!|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle"), ""),
    (re.compile(r"\\[,;: ()\[\]]|\\quad|(?<=\d)~"), " "),
    (re.compile(r"\\([$%#])"), r"\1"),
    (re.compile(r"\^\{?\\circ\}?"), "°"),
    (re.compile(r"\\(?:pm|mp)(?![a-z])"), "±"),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\[dtc]?frac\{"), r"\\frac{"),
    (re.compile(r"(?<=\d)\s?\\frac"), r" \\frac"),
    (re.compile(r"\\frac\{(-?\$?[\d.,]{1,99})\}\{([\d.,]{1,99})\}(?! ?(?:\\(?:pi|sqrt)|\())"), r"\1/\2"),
    (re.compile(r"\\sqrt\s?(\d)"), r"\\sqrt{\1}"),
)
_ROOT = re.compile(r"(?<!\\)\bsqrt ?\(([^()]{1,20}+)\)|\\sqrt\(([^()]{1,20}+)\)")
_POWER_OF_TEN = re.compile(r"(?<=\d) ?(?:[x×*]|\\times|\\cdot) ?10 ?\^ ?\{?(-?\d{1,3})\}?(?!\d)")
_CURRENCY_NAME = re.compile(r"\bRs\.? ?(?=\d)|\b(?:USD|EUR|GBP|INR|US\$) ?(?=[\d$])")


def plain(text: str) -> str:
    """Typographic and LaTeX spellings in ASCII: unicode minus, full-width signs, ½, \\frac{1}{2}, 1{,}000, √3."""
    if not text.isascii():
        text = _RAISED.sub(lambda sign: "^" + unicodedata.normalize("NFKC", sign[0]).replace("−", "-"), text)
        text = _VULGAR.sub(_written_out, text.translate(_SYMBOLS))
        text = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    if "\\" in text or "{,}" in text:
        for pattern, spelled in _LATEX:
            text = pattern.sub(spelled, text)
    if "sqrt" in text:
        text = _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2]}}}", text)
    if "^" in text:
        text = _POWER_OF_TEN.sub(r"e\1", text)
    return _CURRENCY_NAME.sub("$", text)


def numerals(text: str) -> Iterator[Numeral]:
    """The numbers of a text that went through `plain`, closed forms included, in order."""
    at = 0
    for start, end, form in closed_forms.find(text):
        yield from _numerals(text, at, start)
        yield Numeral(start, end, None if _has_two_signs(text, start) else form)
        at = end
    yield from _numerals(text, at, len(text))


def _numerals(text: str, start: int, end: int) -> Iterator[Numeral]:
    for match in _NUMERAL.finditer(text, start, end):
        if len(match[0]) <= _MOST_DIGITS:  # longer ones are not answers
            yield Numeral(match.start(), match.end(), _value(match))


def _value(match: re.Match[str]) -> int | Fraction | None:
    value, below = _spelled(match["above"]), _spelled(match["below"] or "1")
    if value is None or not below or match["date"] or match["unknown"]:
        return None
    if _has_two_signs(match.string, match.start()) or _is_pair(match):
        return None
    if match["below"]:
        value = Fraction(value) / below
    if match["power"]:
        value *= Fraction(10) ** int(match["power"])
    value = (value + int(match["whole"] or 0)) * (1000 if match["kilo"] else _SCALES.get(match["scale"], 1))
    return -value if _is_negative(match.string, match.start()) else value


def _has_two_signs(text: str, start: int) -> bool:
    return bool(_TWO_SIGNS.search(text[max(0, start - 5) : start]))


def _is_pair(match: re.Match[str]) -> bool:
    """Whether `3,4` stands in brackets: a point, not a decimal. (3,400) is a number."""
    if not _DECIMAL_COMMA.fullmatch(match[0]) or not isinstance(_spelled(match[0]), Fraction):
        return False
    text, start, end = match.string, match.start(), match.end()
    return text[end : end + 1] in (")", "]", "\\") and bool(_PAIR_OPENS.search(text[max(0, start - 3) : start]))


def _spelled(digits: str) -> int | Fraction | None:
    for pattern, thousands, decimals in _SPELLINGS:
        if pattern.fullmatch(digits):
            digits = digits.replace(thousands, "") if thousands else digits
            # Most answers are whole numbers, and a Fraction takes ten times as long to make.
            return int(digits) if digits.isdecimal() else Fraction(digits.replace(decimals, "."))
    return None


def _is_negative(text: str, start: int) -> bool:
    """Whether the number at `start` has a minus: `-5`, `-$5`, `$-5`, minus 5; not `3-5`, `page-5` or `3 - 5`."""
    at = start - 1
    if at >= 1 and text[at] in CURRENCY:
        at -= 1
    if at >= 0 and text[at] == "-":
        return at == 0 or text[at - 1] in _BEFORE_MINUS
    return bool(_MINUS_WORD.search(text[max(0, at - 20) : at + 1]))


def _written_out(vulgar: re.Match[str]) -> str:
    before = vulgar.string[vulgar.start() - 1 : vulgar.start()]
    return " " * before.isdigit() + unicodedata.normalize("NFKC", vulgar[0]).replace("⁄", "/")
