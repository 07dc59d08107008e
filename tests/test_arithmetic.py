"""The filter of worked arithmetic: wrong sums are found, and correct ones in any notation never are."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.grading.arithmetic import contradictions
from selfdistill.grading.filters import check
from selfdistill.recipe import Filters
from selfdistill.types import Completion, Example, Message

WRONG = """
6 + 6 = 10
12 * 3 = 35
So $12 × 3 = $35.
1,000 + 500 = 1,600
50% of 10 = 6
\\(6 + 6 = 10\\)
6 + 6 = 12 + 1 = 14
48/2 = 25
$$\\frac{12}{4} = 4$$
6 apples + 6 apples = 10 apples
- 6 + 6 = 10
1. 6 + 6 = 10
12 ÷ 4 = 4
(3 + 4) * 2 = 15
10 / 3 = 3.53
3 - 5 = 2
12 x 3 = 35
In words, 6 plus 6 equals 10.
**6 + 6 = 10**
He has 5 + 3 = 9 apples left.
20 * 0.15 = 4
1/2 + 1/4 = 1/2
$5.50 + $2.25 = $8.75
""".strip().splitlines()
RIGHT = """
6 + 6 = 12
10 / 3 = 3.33
10 / 3 ≈ 3
10 / 3 = 3
7 / 2 = 3 remainder 1
50% of 10 = 5
From 2020 - 2021 it rose by 5 - 10 %.
6 + 6 = 12 + 1 = 13
10 + 10% = 11
x + 3 = 7
2x + 3 = 7
3 + 2ab = 7
f(2) + 3 = 7
12 = 3 * x
x - 3 + 2 = 7
sqrt(16) + 2 = 6
\\sqrt{16} + 2 = 6
The square root of 16 + 2 = 6.
log 8 + 1 = 4
2^3 + 1 = 9
5! = 120
1.500 + 500 = 2.000
2 + 2 = 5 is wrong
1 + 1 = 10 in binary
17 % 5 = 2
3:30 + 1:15 = 4:45
0900 - 0130 = 0730
1 hour + 30 minutes = 90 minutes
2 dozen + 1 = 25
5 feet * 12 = 60 inches
$2.50 - $2.24 = 26 cents
5 x 1/2 = 10 halves
30/40 = 75%
(45-36)/36*100 = 25%
20 / 240 = 8.333...%
1/3 = 33.3%
32 / 2 = $16 million
1,234 * 987 = 1.22 million
2400 / 200 = 12 200-page books
8 batches = 5.5 * 8 = 44 cups
Week 1 + Week 2 = 35 + 35 = 70
3 - 5 = -2
-3 + 5 = 2
5 - -3 = 8
0.1 + 0.2 = 0.3
if x == 3 + 1
<<6+6=12>>12
""".strip().splitlines()


@pytest.mark.parametrize("text", WRONG)
def test_wrong_sums_are_found(text: str) -> None:
    assert contradictions(text)


@pytest.mark.parametrize("text", RIGHT)
def test_sums_that_are_right_or_can_be_read_in_another_way_are_not(text: str) -> None:
    assert contradictions(text) == []


OPERATORS = {"+": ["+", " + ", " plus "], "-": ["-", " - ", " − "], "*": [" * ", " × ", " x ", " \\times "]}


def written(value: int, draw: st.DrawFn) -> str:
    style = draw(st.sampled_from(["{}", "{:,}", "${:,}", "{}.00", "\\${}"]))
    return style.format(value)


@st.composite
def sums(draw: st.DrawFn, off: int = 0) -> str:
    a, b = draw(st.integers(2, 99_999)), draw(st.integers(2, 99))
    sign = draw(st.sampled_from("+-*"))
    result = {"+": a + b, "-": a + b, "*": a * b}[sign]
    left = (a + 2 * b, b) if sign == "-" else (a, b)
    operator = draw(st.sampled_from(OPERATORS[sign]))
    before = draw(st.sampled_from(["", "So ", "- ", "Then we have: ", "**", "1. ", "(", "\\( "]))
    return before + operator.join(written(each, draw) for each in left) + f" = {written(result + off, draw)}"


@given(sums())
def test_correct_sums_pass_in_any_notation(text: str) -> None:
    assert contradictions(text) == []


@given(st.integers(1, 9999), st.integers(1, 99), st.integers(0, 6), st.booleans())
def test_rounded_and_cut_quotients_pass(a: int, b: int, decimals: int, cut: bool) -> None:
    scaled = Fraction(a, b) * 10**decimals
    digits = str(int(scaled) if cut else round(scaled)).zfill(decimals + 1)
    shown = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    assert contradictions(f"{a} / {b} = {shown}") == []


@given(st.integers(2, 9999), st.integers(2, 9999), st.integers(1, 9999), st.sampled_from("+*"))
def test_whole_sums_that_are_off_are_found(a: int, b: int, off: int, sign: str) -> None:
    result = (a + b if sign == "+" else a * b) + off
    assert contradictions(f"So {a} {sign} {b} = {result}.")


@given(st.text(max_size=80) | st.text(st.sampled_from("0123456789+-*/=().,% $xk\n\\{}^"), max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert contradictions(text) == contradictions(text)


@pytest.mark.parametrize("piece", ["1+", "1=", "(", "1 + 1 = ", "=", "1/2 ", "** ", "$1 x ", "1.", "a b "])
def test_no_text_takes_long(piece: str) -> None:
    contradictions((piece * 60_000)[:60_000] + "=1")


def rejected(text: str, reference: str, prompt: str = "How many?", **keys: bool) -> str | None:
    example = Example.of((Message("user", prompt),), reference)
    return check(example, Completion(example.id, text, "stop"), Filters(**keys))


def test_a_rewrite_that_contradicts_itself_is_rejected_although_its_answer_is_right() -> None:
    text = "First 6 + 6 = 10, so the answer is 12."
    assert rejected(text, "The answer is 12.") == "arithmetic that contradicts itself"
    assert rejected(text, "The answer is 12.", arithmetic=False) is None
    assert rejected(text, "6 + 6 = 10? No. The answer is 12.") is None, "the reference has it too"
    assert rejected(text, "The answer is 12.", "Is 6 + 6 = 10?") is None, "the prompt has it too"


@pytest.mark.skipif("SELFDISTILL_DATA" not in os.environ, reason="needs SELFDISTILL_DATA")
def test_real_worked_answers_are_hardly_ever_rejected() -> None:
    rows = json.loads((Path(os.environ["SELFDISTILL_DATA"]) / "sdft" / "gsm8k_test.json").read_text(encoding="utf-8"))
    found = [row for row in rows if contradictions(row["answer"])]
    assert len(found) <= 3, "two are known, whose answers are wrong"
