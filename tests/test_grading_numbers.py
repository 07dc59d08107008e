"""Which number a text ends in: the same answer in many phrasings and spellings, and what is not an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfdistill.grading import make_grader
from selfdistill.grading.numbers import extract_number
from selfdistill.types import Example, Grade

CASES = [json.loads(line) for line in (Path(__file__).parent / "data/final_numbers.jsonl").open(encoding="utf-8")]
KINDS = sorted({case["kind"] for case in CASES})


def judge(grader: str, reference: str, text: str) -> Grade:
    return make_grader(grader)(Example.of((), reference), text)


@pytest.mark.parametrize("kind", KINDS)
def test_each_spelling_passes_in_each_phrasing(kind: str) -> None:
    wrong = []
    for case in CASES:
        if case["kind"] == kind:
            verdict = judge("final_number", case["reference"], case["text"])
            if verdict.outcome != case["right"]:
                wrong.append((case, verdict))
    assert not wrong


@pytest.mark.parametrize("written", ["0.25416866041704156", "-12345.678901234567", "0.5", "3"])
def test_a_decimal_is_shown_as_one(written: str) -> None:
    assert judge("final_number", written, written).expected == written


# The number stands at {}. None holds another number that could be taken for the answer.
PHRASINGS = [
    "{}",
    "{}.",
    "**{}**",
    "#### {}",
    "\\boxed{{{}}}",
    "$\\boxed{{{}}}$",
    "= {}",
    "It is {}.",
    "Answer: {}",
    "**Answer:** {}",
    "**Answer: {}**",
    "Final answer: {}",
    "### Final answer\n\n{}",
    "The answer is {}.",
    "The final answer is ${}$.",
    "The answer is \\({}\\).",
    "The answer is therefore {}.",
    "The correct answer is: {}",
    "My answer would be {}.",
    "So she makes {} dollars.",
    "Thus, the total is {}.",
    "Therefore, they need **{}** boxes for 7 days.",
    "The answer is {} dollars.",
    "The answer is {} of the 7 boxes.",
    "The answer is {} (9 x 7).",
    "The answer is {}, not 7.",
    "The answer is not 7 but {}.",
    "The answer is 7. Wait, the answer is {}.",
    "5 + 9 = {}",
    "The answer is 5 + 9 = {}.",
    "The answer is {}, because 9 x 7 = 63.",
    "Answer: {}\n\nCheck: 63 / 9 = 7",
    "<answer>{}</answer>",
    "Step 7: we add. This makes {}.\n\nLet me know if I can help with anything else!",
    "The answer is {}. I hope this answer helps!",
]
AMBIGUOUS = [
    "The answer is {} or 7.", "The answer is either {} or 7.", "The answer is {}, 7.", "{} or 7", "{}, 7", "7; {}",
    "The answer is between {} and 7.", "Answer: {} to 7", "\\boxed{{{}, 7}}", "The answer is not {}.", "It isn't {}.",
    "The answer is neither {} nor 7.", "The answer is {} + 7.", "The answer is more than {}.",
    "The answer is under {}.",
]  # fmt: skip
NUMBERS = st.integers(10, 10**9) | st.fractions(0, 1000, max_denominator=1).map(int)
WRONG: list[Callable[[int], int]] = [
    lambda number: number + 1,
    lambda number: number * 10,
    lambda number: int(str(number)[::-1]),
    lambda number: -number,
]


@pytest.mark.parametrize("phrasing", PHRASINGS)
@given(number=NUMBERS, write=st.sampled_from(["{}", "{:,}", "{}.0", "${}"]))
def test_the_number_and_no_wrong_one_passes_in_any_phrasing(phrasing: str, number: int, write: str) -> None:
    assume(number not in (0, 7))
    if "$" in phrasing:
        write = write.replace("$", "\\$")
    assert judge("final_number", f"#### {number}", phrasing.format(write.format(number))).passed
    for change in WRONG:
        if change(number) != number:
            assert not judge("final_number", f"#### {number}", phrasing.format(write.format(change(number)))).passed


@pytest.mark.parametrize("phrasing", AMBIGUOUS)
@given(number=NUMBERS)
def test_no_number_passes_where_two_could_be_meant_or_it_is_negated(phrasing: str, number: int) -> None:
    assume(number not in (0, 7) and not 100 <= number < 1000)
    for meant in (number, 7):
        assert not judge("final_number", f"#### {meant}", phrasing.format(number)).passed


@given(
    st.fractions(-1000, 1000, max_denominator=99),
    st.sampled_from(["{}/{}", "\\frac{{{}}}{{{}}}", "\\boxed{{\\dfrac{{{}}}{{{}}}}}"]),
)
def test_fractions_are_read_exactly(value: Fraction, write: str) -> None:
    assert extract_number("The answer is " + write.format(value.numerator, value.denominator)) == value


FORM_PIECES = [
    "\\sqrt{",
    "\\frac{",
    "}{",
    "}",
    "^{",
    "^",
    "9",
    "99999",
    "(",
    ")",
    "\\pi",
    "+",
    "/",
    "-",
    "\\cdot",
    " ",
    "2",
]


@pytest.mark.timeout(120)
@given(st.lists(st.sampled_from(FORM_PIECES), max_size=24).map("".join))
def test_hostile_closed_forms_get_a_grade(form: str) -> None:
    assert judge("final_number", "#### 2", f"\\boxed{{{form}}}").outcome in ("pass", "fail")
    assert judge("final_number", form, form).outcome != "fail"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "form",
    [
        "9^{9^{9^9}}",
        "((9^{999})^{999})^{999}",
        "\\sqrt{" * 12 + "2" + "}" * 12,
        "999999999999^{999}",
        "\\sqrt{999999999989}",
        "2^" * 40 + "2",
    ],
)
def test_a_closed_form_that_would_take_long_is_not_computed(form: str) -> None:
    assert judge("final_number", "#### 2", f"\\boxed{{{form}}}").outcome == "fail"


def test_closed_forms_are_compared_in_threads() -> None:
    texts = [f"\\boxed{{{n}\\sqrt{{3}}}}" for n in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda text: judge("final_number", "\\boxed{\\sqrt{12}}", text).outcome, texts))
    assert verdicts == ["fail", "pass", *["fail"] * 6]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,000", 1000),
        ("The answer is $1,234.50.", Fraction("1234.5")),
        ("The answer is 18. I hope that helps 100%!", 18),
        ("The answer is:\n\n**18**", 18),
        ("The answer is:\n\n18 (of 20)", 18),
        ("The answer is 3 + 4 = 7.", 7),
        ("The answer is 12 x 3 = 36 eggs", 36),
        ("The answer is 7 (3 + 4 = 7).", 7),
        ("#### 5\nNo, wait. The answer is 6.\n", 6),
        ("The answer is 6.\n#### 5", 5),
        ("The answer is \\boxed{18\\text{ apples}}", 18),
        ("so $\\boxed{\\frac{3}{4}}$.", Fraction(3, 4)),
        ("\\boxed{1{,}000}", 1000),
        ("see page-5", 5),
        ("total--5", 5),
        ("it fell to -5", -5),
        ("it fell to −5", -5),
        ("a loss of -$5", -5),
        ("a loss of $-5", -5),
        ("１８", 18),
        ("ー１，８００．５", Fraction("1800.5")),
        ("答案是18个", 18),
        ("٣", 3),
        ("50%", 50),
        ("a half, 1/2", Fraction(1, 2)),
        ("5 1/2", Fraction(11, 2)),
        ("5½", Fraction(11, 2)),
        ("¾ of it", Fraction(3, 4)),
        (".5", Fraction(1, 2)),
        ("1.5e3", 1500),
        ("12 of them on the 3rd", 12),
        ("12 in room B7", 12),
        ("12.", 12),
    ],
)
def test_final_number_is_read(text: str, number: Fraction) -> None:
    assert extract_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "none", "24. The answer is unknown.", "The answer is 3 + 4", "5/0", "9" * 5000, "18 9"]
)
def test_a_text_without_a_final_number_has_none(text: str) -> None:
    assert extract_number(text) is None


@given(st.integers(-(10**9), 10**9), st.sampled_from(["#### {}", "The answer is {}.", "\\boxed{{{}}}", "It is ${}"]))
def test_any_integer_is_read_however_it_is_written(number: int, form: str) -> None:
    assert extract_number("5 + 5 = 10\n" + form.format(number)) == number
    assert extract_number("5 + 5 = 10\n" + form.format(f"{number:,}")) == number
    assert extract_number("5 + 5 = 10\n" + form.format(f"{number}.0")) == number


def test_final_number_names_its_reasons() -> None:
    assert judge("final_number", "#### 5", "so 5.0 apples").to_json() == {
        "outcome": "pass",
        "reason": "same number",
        "expected": "5",
        "found": "5",
    }
    assert judge("final_number", "#### 5", "so 6") == Grade("fail", "number differs", "5", "6")
    assert judge("final_number", "#### 5", "so five") == Grade("fail", "no number found", "5")
    assert judge("final_number", "many", "5").outcome == "unjudged"
    assert judge("final_number", "189", "18 9").outcome == "fail"


@pytest.mark.parametrize(
    ("reference", "text", "outcome"),
    [
        ("189", "18 9", "pass"),
        ("5", "5.0", "pass"),
        ("5", "5.5", "fail"),
        ("5", "18\n9", "fail"),
        ("1,000", "The answer is 1000.", "pass"),
        ("5", "5 and 6", "fail"),
        ("none", "none", "unjudged"),
    ],
)
def test_the_papers_number_rule_takes_the_last_number(reference: str, text: str, outcome: str) -> None:
    assert judge("final_number_paper", reference, text).outcome == outcome
