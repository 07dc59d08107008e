"""Answers such as 2\\sqrt{3}, \\pi/4 and 2^{10}: found in a text, and compared by value with math-verify."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class ClosedForm:
    latex: str


# math-verify's time limits use signals, which work only in the main thread. So its input is bounded here: short texts,
# numbers of at most 12 digits, powers of at most 3 digits that are not raised again, no letters except in commands.
_LONGEST = 100
_RUN = re.compile(r"(?:\\(?:sqrt(?:\[\d{1,2}\])?|pi\b|frac|cdot|times)|[\d.+*/^(){} -])++")
_MARK = re.compile(r"\\sqrt|\\pi\b|\\frac|\d ?\^")
_POWER = re.compile(r"\d ?\^ ?(?:\{-?\d{1,3}(?:/\d{1,2})?\}|-?\d{1,3})(?! ?\^)")
_UNREADABLE = re.compile(r"\d{13}|[)}] ?\^|\( ?\)|\{ ?\}")
_lock = threading.Lock()


def find(text: str) -> Iterator[tuple[int, int, ClosedForm]]:
    """The closed forms of a text with their start and end."""
    if not _MARK.search(text):
        return
    for run in _RUN.finditer(text):
        if _MARK.search(run[0]):
            latex = run[0].strip(" +*/.-") if not run[0].lstrip().startswith("-") else run[0].strip(" +*/.")
            start = run.start() + run[0].index(latex)
            yield start, start + len(latex), ClosedForm(_balanced(latex))


def _balanced(latex: str) -> str:
    """`latex` without closing brackets at its end that have no opening bracket in it."""
    while latex[-1:] in (")", "}", " ") and (
        latex.endswith(" ") or latex.count(")") > latex.count("(") or latex.count("}") > latex.count("{")
    ):
        latex = latex[:-1]
    return latex


def same(one: int | Fraction | ClosedForm, other: int | Fraction | ClosedForm) -> bool:
    """Whether two values are equal. A closed form that can't be read equals only itself as written."""
    if one == other or not (isinstance(one, ClosedForm) or isinstance(other, ClosedForm)):
        return one == other
    written = [_latex(value) for value in (one, other)]
    return all(map(_readable, written)) and _verified(*written)


def _latex(value: int | Fraction | ClosedForm) -> str:
    if isinstance(value, ClosedForm):
        return value.latex
    return str(value) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _readable(latex: str) -> bool:
    powers = len(_POWER.findall(latex))
    return len(latex) <= _LONGEST and powers == latex.count("^") <= 2 and not _UNREADABLE.search(latex)


def _verified(one: str, other: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # its warning that there is no time limit
    latex = [LatexExtractionConfig()]
    try:
        with _lock:
            values = [parse(f"${text}$", latex, parsing_timeout=None) for text in (one, other)]
            return all(values) and bool(verify(*values, timeout_seconds=None))
    except Exception:  # sympy raises many kinds of errors for odd expressions; equality is then not proven
        return False
