"""Texts of 100,000 characters on which a careless regular expression or loop never ends."""

from __future__ import annotations

from collections.abc import Iterator

LENGTH = 100_000

UNITS = [
    "1", "1,", "1.", "1/", "-1", " ", "\n", " \n", "\t", "\r", "!", ".", ",", ":", "$", "(", ")", "[", "{", "[{", '{"a":',
    '"', "'", "\\", "\\'", "`", "```", "```\n", "```python\n", "a", "A", "é", "٣", "１", "a ", "a.", "a(", "f(1)\n", "f('",
    "(A", "(A)", "####", "#### ", "####:", "\n#### ", "answer is ", "Answer:", "label:", "\\boxed{", "\\frac{1", "\\text{",
    "1e", "5 1/2 ", "- f(", "1. a ", "\n1. a", "I'm ", "I cannot ", "I'm sorry ", "as an AI ", "<|", "<", "<<", "<a ",
    "\x1b[", "\x1b[0;", "verdict ", "verdict: a\n", "my final ", "tie ", "def f():\n", "    ", "x = (\n", "import a\n",
    "@a\n", "if 1:\n", "lambda: ", "=", "==", "{x}", "{", "{instruction}", "reference answer:", "the instruction ",
    "你", "ab1", "{},[],", "0,", "[],1,", "e\u0301", "\u200b", "\u202e", "😀", "\ud800",
]  # fmt: skip

# What stands before and after, so that a search that has come to the end has to go back.
FRAMES = [
    ("", ""),
    ("", "x"),
    ("", "th"),
    ("x", "\ny"),
    ("\n#### ", "\ny"),
    ("f(", ")"),
    ("[", "0]"),
    ("```python\n", ""),
]


def long_texts(every_pair: bool = False) -> Iterator[tuple[str, str]]:
    """A name and a text for every unit in every frame; with `every_pair` also for every two units in turns."""
    for unit in UNITS:
        for before, after in FRAMES:
            yield f"{before!r} {unit!r}* {after!r}", before + _filled(unit) + after
    if every_pair:
        for first in UNITS:
            for second in UNITS:
                if first != second:
                    yield f"({first!r} {second!r})*", _filled(first + second)
                    yield f"{first!r}* {second!r}*", _filled(first, LENGTH // 2) + _filled(second, LENGTH // 2)


def _filled(unit: str, length: int = LENGTH) -> str:
    return (unit * (length // len(unit) + 1))[:length]
