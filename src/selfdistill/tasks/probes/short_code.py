"""Short code, run in the sandbox: a Python function from its head and a sentence.

    def twice_plus(n: int) -> int:
        \"\"\"Return n times 2, plus 7.\"\"\"

The easy level asks for one operation, the medium one for two or three on a list or a text, the hard one for a small
procedure with several rules and a tie to break. An answer passes if its function returns the right values for eight
inputs, most of them hidden.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

from ...grading.functions import complete_function
from ...grading.programs import tested
from ...sandbox import Runner
from ...types import Example, Grade
from . import pools
from .items import ProbeItem, ask, probe

_ASKED = (
    "Complete this Python function. Answer with the whole function in one ```python code block, without examples.\n\n"
    "```python\n{head}\n```"
)
_INPUTS = 8


class Function(NamedTuple):
    """A function to write: its name, parameter and types, what it does, its body, and inputs for the tests."""

    name: str
    signature: str
    does: str
    body: str
    inputs: Callable[[Random], tuple[Any, ...]]


def grade(example: Example, text: str, *, run: Runner) -> Grade:
    """Whether the last complete definition in the text returns the right values. The tests run in a process of their
    own. Unjudged if the sandbox fails."""
    head, name, tests = (example.extra[key] for key in ("head", "name", "tests"))
    function = complete_function(head, name, text)
    return tested(name, function, f"{name} = function_of_the_program({name!r})\n{tests}", run)


def make(rng: Random, step: str) -> ProbeItem:
    function = rng.choice(_FUNCTIONS[step])(rng)
    head = f'def {function.name}({function.signature}:\n    """{function.does}"""'
    gold = f"```python\n{head}\n{function.body}\n```"
    values, right = _tests(rng, function)
    if len({json.dumps(value) for value in right}) < 2:
        return make(rng, step)
    tests = "".join(
        f"assert {function.name}(*{list(value)!r}) == {expected!r}\n"
        for value, expected in zip(values, right, strict=True)
    )
    other = f"```python\n{head}\n    return None\n```"
    constant = f"```python\n{head}\n    return {right[0]!r}\n```"
    wrong = (other, constant, "You can write this function with a loop and a condition.")
    extra = {"head": head, "name": function.name, "tests": tests}
    return ProbeItem(function.name, ask(_ASKED.format(head=head)), gold, wrong, extra)


def _tests(rng: Random, function: Function) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Inputs and the values that the right function returns. Only bodies that stand in this file are run here."""
    names: dict[str, Any] = {}
    exec(f"def {function.name}({function.signature}:\n{function.body}\n", names)
    values = [function.inputs(rng) for _ in range(_INPUTS)]
    return values, [names[function.name](*json.loads(json.dumps(value))) for value in values]


def _number(rng: Random) -> tuple[int]:
    return (rng.randint(-50, 99),)


def _numbers(rng: Random, least: int = 4, most: int = 9) -> tuple[list[int]]:
    return ([rng.randint(-30, 60) for _ in range(rng.randint(least, most))],)


def _words(rng: Random) -> tuple[list[str]]:
    return (pools.some(rng, (*pools.WORDS, *pools.FRUITS), rng.randint(4, 8)),)


def _text(rng: Random) -> tuple[str]:
    return (" ".join(pools.some(rng, (*pools.WORDS, *pools.FRUITS), rng.randint(3, 6))),)


# ---- easy: one operation, with numbers or words drawn


def _sum_easy(rng: Random) -> Function:
    a, b = rng.randint(2, 19), rng.randint(1, 99)
    words, code = rng.choice((
        (f"n times {a}, plus {b}", f"n * {a} + {b}"), (f"n plus {b}", f"n + {b}"), (f"n minus {b}", f"n - {b}"),
        (f"the remainder when n is divided by {a}", f"n % {a}"), (f"n times {b}", f"n * {b}"),
        (f"the greater one of n and {b}", f"max(n, {b})"), (f"the smaller one of n and {b}", f"min(n, {b})"),
    ))  # fmt: skip
    return Function("change", "n: int) -> int", f"Return {words}.", f"    return {code}", _number)


def _test_easy(rng: Random) -> Function:
    a = rng.randint(2, 60)
    words, code = rng.choice((
        (f"n is greater than {a}", f"n > {a}"), (f"n is divisible by {2 + a % 3}", f"n % {2 + a % 3} == 0"),
        (f"n is at most {a}", f"n <= {a}"), (f"n is even or greater than {a}", f"n % 2 == 0 or n > {a}"),
    ))  # fmt: skip
    return Function("check", "n: int) -> bool", f"Return True if {words}, else False.", f"    return {code}", _number)


def _text_easy(rng: Random) -> Function:
    word, count = rng.choice(pools.WORDS), rng.randint(2, 9)
    words, code = rng.choice((
        (f"the text with '{word}' added at its end", f"text + {word!r}"),
        (f"the first {count} characters", f"text[:{count}]"),
        (f"the last {count} characters", f"text[-{count}:]"), (f"the text repeated {count} times", f"text * {count}"),
        (f"the text with each space replaced by '{word}'", f"text.replace(' ', {word!r})"),
        (f"how often the letter '{word[0]}' is in the text", f"text.count({word[0]!r})"),
    ))  # fmt: skip
    return Function("edit", "text: str) -> object", f"Return {words}.", f"    return {code}", _text)


# ---- medium: two or three operations on a list


def _filtered(rng: Random) -> Function:
    a, b = rng.randint(-10, 30), rng.randint(2, 9)
    kept, test = rng.choice((
        (f"greater than {a}", f"value > {a}"), (f"not divisible by {2 + b % 3}", f"value % {2 + b % 3} != 0"),
        (f"between {a} and {a + 5 * b}, both included", f"{a} <= value <= {a + 5 * b}"),
    ))  # fmt: skip
    done, code = rng.choice((
        ("the sum of the values that are", "sum({})"), ("how many values are", "len({})"),
        ("the sorted list of the values that are", "sorted({})"),
    ))  # fmt: skip
    changed, value = rng.choice((("", "value"), (f", each multiplied by {b}", f"value * {b}")))
    inside = f"[{value} for value in values if {test}]"
    does = f"Return {done} {kept}{changed if 'how many' not in done else ''}."
    inside = inside if "how many" not in done else f"[value for value in values if {test}]"
    return Function("pick", "values: list[int]) -> object", does, f"    return {code.format(inside)}", _numbers)


def _word_list(rng: Random) -> Function:
    letter, count = rng.choice("aeionrlt"), rng.randint(4, 7)
    kept, test = rng.choice((
        (f"contain the letter '{letter}'", f"{letter!r} in word"),
        (f"have more than {count} letters", f"len(word) > {count}"),
        (f"end with '{letter}' or have {count} letters", f"word.endswith({letter!r}) or len(word) == {count}"),
    ))  # fmt: skip
    done, code = rng.choice((
        ("the words that {}, in alphabetical order", "sorted({})"),
        ("the words that {}, joined by a hyphen", "'-'.join({})"),
        ("the total number of letters of the words that {}", "sum(len(word) for word in {})"),
        ("the words that {}, each in capital letters", "[word.upper() for word in {}]"),
    ))  # fmt: skip
    inside = f"[word for word in words if {test}]"
    return Function(
        "choose",
        "words: list[str]) -> object",
        f"Return {done.format(kept)}.",
        f"    return {code.format(inside)}",
        _words,
    )


# ---- hard: a procedure


def _ledger(rng: Random) -> Function:
    start, fee, limit = rng.randint(20, 90), rng.randint(1, 4), rng.randint(10, 40)
    does = (
        f"Return the final balance. It starts at {start}. Each value is added to it. A value below zero also costs a "
        f"fee of {fee}, but if the balance would then be under {-limit}, the value and its fee are left out. After "
        "every third value that was not left out, the balance loses a tenth of itself, rounded towards zero, if it is "
        "positive."
    )
    body = f"""    balance, done = {start}, 0
    for value in values:
        new = balance + value - ({fee} if value < 0 else 0)
        if value < 0 and new < {-limit}:
            continue
        balance, done = new, done + 1
        if done % 3 == 0 and balance > 0:
            balance -= balance // 10
    return balance"""
    return Function("settle", "values: list[int]) -> int", does, body, partial(_numbers, least=7, most=14))


def _ranking(rng: Random) -> Function:
    vowel, count = rng.choice("aeiou"), rng.randint(2, 4)
    does = (
        f"Return {count} words, or fewer if there are not enough: those with the most letters '{vowel}' first, of "
        "equally many the shorter word first, of equally long ones the later in the alphabet first. Words without "
        f"'{vowel}' are left out, and of the chosen words every second one is written backwards."
    )
    body = f"""    known = sorted((word for word in words if {vowel!r} in word), reverse=True)
    known.sort(key=lambda word: (-word.count({vowel!r}), len(word)))
    return [word[::-1] if place % 2 else word for place, word in enumerate(known[:{count}])]"""
    return Function("rank", "words: list[str]) -> list[str]", does, body, _words)


def _runs(rng: Random) -> Function:
    size, factor = rng.randint(3, 6), rng.randint(2, 5)
    does = (
        f"Split the values into groups of {size} in order (the last may be shorter). From each group take the greatest "
        f"value minus the smallest, times {factor} if the group has a negative value; groups of one value count that "
        "value alone. Return the alternating sum of these results: plus the first, minus the second, plus the third..."
    )
    body = f"""    total = 0
    for place in range(0, len(values), {size}):
        group = values[place:place + {size}]
        if len(group) == 1:
            result = group[0]
        else:
            result = (max(group) - min(group)) * ({factor} if min(group) < 0 else 1)
        total += -result if place // {size} % 2 else result
    return total"""
    return Function("combine", "values: list[int]) -> int", does, body, partial(_numbers, least=5, most=16))


def _shift_letters(rng: Random) -> Function:
    step, word = rng.randint(2, 11), rng.choice(pools.WORDS)
    does = (
        f"Move each letter of the text {step} places on in the alphabet, from z on to a. Letters of the word '{word}' "
        "are moved back by as many places instead, and every space turns the direction of all moves after it around."
    )
    body = f"""    result, sign = [], 1
    for letter in text:
        if letter == ' ':
            sign = -sign
            result.append(letter)
            continue
        move = -{step} if letter in {word!r} else {step}
        result.append(chr((ord(letter) - 97 + sign * move) % 26 + 97))
    return ''.join(result)"""
    return Function("encode", "text: str) -> str", does, body, _text)


_FUNCTIONS: dict[str, tuple[Callable[[Random], Function], ...]] = {
    "easy": (_sum_easy, _test_easy, _text_easy),
    "medium": (_filtered, _word_list),
    "hard": (_ledger, _ranking, _runs, _shift_letters),
}

TASK = probe("code", "short code", make, grade, metric="pass@1", needs=frozenset({"sandbox"}))
