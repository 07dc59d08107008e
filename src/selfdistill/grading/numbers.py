"""Final numbers: ours, which compares by value, and the paper's."""

from __future__ import annotations

import re
from decimal import Decimal

from ..types import Grade
from . import closed_forms
from .announcements import announced
from .closed_forms import ClosedForm
from .numerals import CURRENCY, Numeral, Value, numerals, plain

_MOST_DIGITS = 1000
_JUNK = " \t\n\r:*_$`(\"'>"
_DIGIT = re.compile(r"\d|\\(?:pi|sqrt)")
_UNKNOWN = r"[a-z](?:_\{?\d\}?)?\s?=\W{0,5}"
_ENDS_IN_OR = re.compile(rf"\b(?:or|nor|and|to)\W{{0,5}}(?:{_UNKNOWN})?$|[,;]\W{{0,5}}{_UNKNOWN}$", re.IGNORECASE)
_OR_EQUALS = re.compile(rf"\d\W{{0,3}}\sor\W{{1,5}}{_UNKNOWN}$", re.IGNORECASE)
_LONGEST_SENTENCE = 2_000  # answers stand in short ones

_SENTENCE_END = re.compile(r"\n|[.!?](?=[\s*_\"')]|$)|[。！？]")
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|rather than|instead of)|n't)\s"
    rf"(?:(?:be|equal(?: to)?|simply|just|the)\s){{0,2}}[*_({CURRENCY}]{{0,3}}-?",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"\W*(?:(?:therefore|thus|hence|then|also|indeed|now|still|just|only|simply|exactly|precisely|approximately|approx"
    r"|about|around|roughly|nearly|almost|at least|at most|up to|a total of|equal to|the number|minus|negative"
    r"|[a-z])\b\W*)*",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"\W*(?:(?:more|less|fewer|greater|smaller|higher|lower) than|over|under|above|below)\b", re.IGNORECASE
)
_OPERATOR = re.compile(rf"[\s)}}\w]{{0,20}}?(?:[-+*/×÷xX]|\\times|\\cdot|\\div)\s*[({CURRENCY}]?\s?\d")
_EQUALS = re.compile(r"[=≈]|\\approx")
_EXPLAINS = re.compile(
    r"[(=:;>]|\b(?:of|for|from|in|per|at|after|on|with|by|because|since|as|which|that|so|if|when|each|every|than|before"
    r"|during|while|given|left|more|less|to (?=[a-z]))\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\([^()\n]*+\)")
_BOLD = re.compile(r"\*\*([^*\n]++)\*\*")
_ALTERNATIVE = re.compile(r"\W{0,9}(?:\w{1,30}\W{1,9})?(?:or|nor|and|to|[-/,;&])\W{0,9}|\W{0,9}", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:step|part|question|problem|example|case|day)\s\d{1,3}\W{0,3}:|^[\s>*#-]{0,9}\d{1,3}\)(?=\s\S)", re.IGNORECASE
)
_PLEASANTRY = re.compile(
    r"[\W_]{0,9}(?:let me know|(?:please )?feel free|i hope (?:this|that|it|these) (?:help|clarif|explain)"
    r"|if you (?:have|need) (?:(?:\d{1,3}|any|an?|some|more|further|other|additional) ){0,3}"
    r"(?:question|doubt|help|clarif))",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"(?:[.!?…]|\n|—|–|^)\W{0,9}(?:no[,.!]? )?(?:wait|scratch that|correction|oops|sorry|my mistake"
    r"|i made (?:a mistake|an error)|(?:that|this|it)(?:'s| is| was) (?:wrong|not right|incorrect))\b",
    re.IGNORECASE,
)
_AFTERWARDS = re.compile(
    r"\n\W{0,9}(?:check|checking|verification|verify|proof|note|to check|to verify)\b", re.IGNORECASE
)


def final_number(reference: str, text: str) -> Grade:
    """Whether both texts end in the same number, compared by value (eq. 4, Extract for maths).

    The final number is announced by the last "the answer is", "Answer:", `####` or `\\boxed{}`. Without an
    announcement, it is taken from the last sentence with a number: the result of the sentence's equation, its only bold
    number, or else its last number. If the text takes its announced answer back ("No wait, it's 20"), what follows
    counts, unless the answer is boxed. A closing "Let me know if you have 2 questions" is ignored. Two different
    numbers that could both be meant ("18 9", "18 or 20", "±5"), a point (3,4), a negated number ("not 18"), a bound
    ("more than 18") and an unfinished sum are not an answer. Units, currency and per cent signs are ignored (50% is
    50); 1,234.50, 1 234.5 and 1.234,50 are the same number; 5 1/4 is 5.25; 1 million is 1000000. Closed forms such as
    2\\sqrt{3} are compared by math-verify. A reference without a number is unjudged.
    """
    return _compared(extract_number(reference), extract_number(text))


def _compared(expected: Value | None, found: Value | None) -> Grade:
    if expected is None:
        return Grade("unjudged", "no number in the reference")
    if found is None:
        return Grade("fail", "no number found", _show(expected))
    if closed_forms.same(expected, found):
        return Grade("pass", "same number", _show(expected), _show(found))
    return Grade("fail", "number differs", _show(expected), _show(found))


def extract_number(text: str) -> Value | None:
    """The final number of `text`. None if the text has no number, several numbers that could be meant, or an
    announcement without a number."""
    text = plain(text)
    silent = True
    for said in announced(text):
        silent = False
        *_, retracted = [None, *_RETRACTED.finditer(said.text)]
        if retracted and not said.boxed and _has_numeral(said.text[retracted.end() :]):
            return _concluded(said.text[retracted.end() :])
        sentence = _SENTENCE_END.split(said.text.lstrip(_JUNK), maxsplit=1)[0]
        if said.boxed or _opens(sentence):
            return _opening(said.text if said.boxed else sentence)
        if said.verb and _has_numeral(sentence):
            only_bound = _BOUND.match(sentence) and len({numeral.value for numeral in numerals(sentence)}) == 1
            return None if only_bound else _concluding(sentence)
        if _has_numeral(said.text):
            return _concluded(said.text)
    return _concluded(text) if silent else None


def _opens(sentence: str) -> bool:
    """Whether a sentence starts with a number, apart from words such as "exactly" or "a total of"."""
    first = next(numerals(sentence), None)
    opening = _OPENING.match(sentence)
    return first is not None and opening is not None and first.start <= opening.end()


def _has_numeral(text: str) -> bool:
    return next(numerals(text), None) is not None


def _opening(sentence: str) -> Value | None:
    """The number that a sentence opens with, or the result if the sentence opens with a sum such as `3 + 4 = 7`."""
    sentence = _without_asides(sentence[:_LONGEST_SENTENCE])
    meant = _meant(sentence)
    if not meant:
        return None
    first = meant[0]
    if _OPERATOR.match(sentence, first.end):
        *_, result = _EQUALS.split(sentence)
        return _opening(result) if len(result) < len(sentence) else None
    other = next((numeral for numeral in meant if numeral.value != first.value), None)
    if other is None:
        return first.value
    between = sentence[first.end : other.start]
    return first.value if _EXPLAINS.search(between) and not _ENDS_IN_OR.search(between) else None


def _concluded(text: str) -> Value | None:
    """The number of the last sentence that has a number that isn't negated. A check of the answer at the end of the
    text is ignored."""
    check = _AFTERWARDS.search(text)
    if check and _has_numeral(text[: check.start()]):
        text = text[: check.start()]
    for sentence in reversed(_SENTENCE_END.split(text)):
        if _PLEASANTRY.match(sentence):
            continue
        if _DIGIT.search(sentence) and _meant(unlabelled := _LABEL.sub(" ", sentence[-_LONGEST_SENTENCE:])):
            return _concluding(unlabelled)
    return None


def _concluding(sentence: str) -> Value | None:
    sentence = _without_asides(sentence[-_LONGEST_SENTENCE:])
    *_, result = _EQUALS.split(sentence)
    if len(result) < len(sentence) and _has_numeral(result):
        found, before = _opening(result), sentence[: len(sentence) - len(result)]
        two = _OR_EQUALS.search(before) and found not in [numeral.value for numeral in numerals(before)][-1:]
        return None if two else found
    for bold in _BOLD.findall(sentence):
        if len({numeral.value for numeral in _meant(bold)}) == 1 and not bold.endswith(":"):
            return _opening(bold)
    meant = _meant(sentence)
    if not meant:
        return None
    last = meant[-1]
    other = next((numeral for numeral in reversed(meant) if numeral.value != last.value), None)
    if other is None:
        return last.value
    between = sentence[other.end : last.start]
    either = _ALTERNATIVE.fullmatch(between) or _OPERATOR.match(sentence, other.end)
    return None if either else last.value


def _meant(sentence: str) -> list[Numeral]:
    """The numbers of a sentence, without negated numbers as in "not 18"."""
    negated = {match.end() for match in _NEGATED.finditer(sentence)}
    return [found for found in numerals(sentence) if found.start not in negated]


def _without_asides(sentence: str) -> str:
    """The text without brackets and their content, unless the only numbers are there."""
    without = _ASIDE.sub(" ", sentence)
    return without if _has_numeral(without) else sentence


def _show(value: Value) -> str:
    if isinstance(value, ClosedForm):
        return value.latex
    if isinstance(value, int):
        return str(value)
    if 10**20 % value.denominator == 0:  # the digits of a float are among these
        return f"{Decimal(value.numerator) / value.denominator:f}"
    return str(value)


_PAPER_NUMBER = re.compile(r"-?\d+(?:[,\s]\d+)*(?:\.\d+)?")


def final_number_paper(reference: str, text: str) -> Grade:
    """The rule of the paper's code: the last integer of each text, where "18 9" is 189 and a decimal is not a number.

    In the paper's code a text without an integer passes if the reference has none either. Here, such a reference is
    unjudged.
    https://github.com/sail-sg/sdft (eval/utils.py)
    """
    return _compared(_paper_integer(reference), _paper_integer(text))


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
