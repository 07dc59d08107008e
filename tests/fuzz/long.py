"""Texts of 100,000 characters on which a careless regular expression or loop never ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from answers import FUZZED, OPTIONS, ran
from inputs import example

from selfdistill.backends.fake import _plausible
from selfdistill.cli.show import visible
from selfdistill.errors import RecipeError
from selfdistill.grading import GRADERS, filters, make_grader
from selfdistill.grading.functions import complete_function
from selfdistill.grading.judged import read_pairwise, read_safety
from selfdistill.models.slots import fill
from selfdistill.pipeline.grader_guess import _LETTER, _NUMBER
from selfdistill.recipe import Filters
from selfdistill.tasks import demo_skills as demo
from selfdistill.tasks import gsm8k
from selfdistill.types import Completion, Message

LENGTH = 100_000

UNITS = [
    "1", "1,", "1.", "1/", "-1", " ", "\n", " \n", "\t", "\r", "!", ".", ",", ":", "$", "(", ")", "[", "{", "[{",
    '{"a":',
    '"', "'", "\\", "\\'", "`", "```", "```\n", "```python\n", "a", "A", "é", "٣", "１", "a ", "a.", "a(", "f(1)\n",
    "f('",
    "(A", "(A)", "####", "#### ", "####:", "\n#### ", "answer is ", "Answer:", "label:", "\\boxed{", "\\frac{1",
    "\\text{",
    "1e", "5 1/2 ", "- f(", "1. a ", "\n1. a", "I'm ", "I cannot ", "I'm sorry ", "as an AI ", "<|", "<", "<<", "<a ",
    "\x1b[", "\x1b[0;", "verdict ", "verdict: a\n", "my final ", "tie ", "def f():\n", "    ", "x = (\n",
    "import a\n",
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


def long_texts() -> Iterator[tuple[str, str]]:
    """A name and a text for every unit in every frame."""
    for unit in UNITS:
        for before, after in FRAMES:
            yield f"{before!r} {unit!r}* {after!r}", before + (unit * (LENGTH // len(unit) + 1))[:LENGTH] + after


def _graded(name: str) -> Callable[[str], object]:
    """As the answer to two references, and as its own reference."""
    grade = make_grader({"name": name, **OPTIONS.get(name, {})}, ran)  # type: ignore[arg-type]
    references = example("f(a=1)"), example("#### 12")
    return lambda text: [grade(reference, text) for reference in (*references, example(text))]


def _hygiene(text: str) -> None:
    for reference in ("short", text):
        filters.check(example(reference), Completion("0" * 16, text, "stop"), Filters())


def _schema(text: str) -> None:
    grade = make_grader(
        {"name": "json", "schema": {"type": "array", "uniqueItems": True, "items": {"pattern": "(?:a|aa)+$"}}}
    )
    grade(example(""), text)


def _pattern(text: str) -> None:
    with suppress(RecipeError):
        make_grader({"name": "regex", "pattern": text})


_CALLS, _CHOICE = GRADERS["function_call"], GRADERS["choice"]
READERS: dict[str, Callable[[str], object]] = {
    **{f"grader {name}": _graded(name) for name in FUZZED},
    "parameters of a call": lambda text: _CALLS("f(a=1)", "f(a=1)", instruction="\nParameters:\n" + text),
    "labels": lambda text: _CHOICE("yes", text, labels=["yes", "no"]),
    "schema": _schema,
    "pattern": _pattern,
    "filters": _hygiene,
    "function in an answer": lambda text: complete_function("def f(x):\n    'd'\n", "f", text),
    "judge's replies": lambda text: (read_pairwise([text, text]), read_safety([text])),
    "templates": lambda text: fill(text, {"x": "1", "instruction": "2"}),
    "gsm8k's answers": lambda text: gsm8k._as_in_paper(Message("assistant", text)),
    "demo's lists": lambda text: demo.LISTS.grade(example("r", answer="a, b"), text),
    "demo's programs": lambda text: demo.CODE.grade(example("r", answer="assert f(2) == (lambda x: x * 2)(2)"), text),
    "init's guess": lambda text: (_NUMBER.search(text.strip()), _LETTER.fullmatch(text.strip())),
    "terminal": visible,
    "fake backend": lambda text: _plausible((Message("user", "reference answer:" + text),)),
}
"""What reads long texts: all that has a regular expression or a loop over what a model or a dataset wrote."""
