"""The grader that fits the references, from a look at them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..grading import make_grader
from ..grading.calls import read_call
from ..grading.programs import python_blocks
from ..recipe import GraderSpec
from ..types import Example
from ..types.wording import counted

FIRST = 200
"""The references at the start of the data that `init` and `check` look at."""
_SURE = 0.95  # real data has a stray row in it
_NUMBER = re.compile(
    r"(####|\A|(?i:\banswer(?: is|:|\*\*:|:\*\*))|\\boxed\{)[\s:$*\\({]{0,9}(?:\b[dt]?frac\{)?-?[\d.,/}{]*\d\D{0,20}$"
)
_LETTER = re.compile(r"\(?[A-Z]\)?[.)]?|\(?[A-Z][.)]\s.+", re.DOTALL)


@dataclass(frozen=True)
class Guess:
    """A grader, the rewriting template that goes with it, and the reason."""

    grader: GraderSpec
    template: str
    what: str


def guess_from(examples: Sequence[Example]) -> Guess:
    """The first grader whose mark nearly all references contain, and which passes each as a rewrite of itself. Turns
    that call tools are left out: their calls are compared whatever the grader."""
    calling = [example for example in examples if example.calls]
    if calling and len(calling) == len(examples):
        return Guess("tool_calls", "own-words", "all responses call tools")
    examples = [example for example in examples if not example.calls]
    for spec, template, what, has_mark in _candidates(examples):
        grade = make_grader(spec)
        sure = [has_mark(example.reference) and grade(example, example.reference).passed for example in examples]
        if examples and sum(sure) >= _SURE * len(sure):
            return Guess(spec, template, f"{sum(sure)} of {len(sure)} references {what}")
    why = "numbers, names, quotations; {all_of: [facts, similar]} compares embeddings, see shift.embedding"
    return Guess("facts", "own-words", why)


def _candidates(examples: Sequence[Example]) -> list[tuple[GraderSpec, str, str, Callable[[str], bool]]]:
    candidates: list[tuple[GraderSpec, str, str, Callable[[str], bool]]] = [
        ("function_call", "call", "are one function call", lambda text: read_call(text) is not None),
        ("final_number", "math", "end in their answer as a number", lambda text: bool(_NUMBER.search(text.strip()))),
        ("python_code", "refer", "hold Python code", lambda text: bool(python_blocks(text))),
        ("json", "refer", "are JSON", lambda text: text.lstrip()[:1] in ("{", "[")),
        ("choice", "using", "choose a letter", lambda text: bool(_LETTER.fullmatch(text.strip()))),
    ]
    if labels := _labels([example.reference for example in examples]):
        spec = {"name": "choice", "labels": labels}
        candidates.append((spec, "using", f"are one of {len(labels)} labels", lambda text: len(text) <= 40))
    return candidates


def _labels(references: Sequence[str]) -> list[str]:
    """The labels, if the references are a few short texts that occur five times on average; else empty."""
    found: dict[str, str] = {}
    for text in references:
        label = text.strip().rstrip(".")
        found.setdefault(label.casefold(), label)
    few = 2 <= len(found) <= min(20, len(references) // 5)
    short = all(label and len(label) <= 30 and len(label.split()) <= 3 for label in found.values())
    return sorted(found.values()) if few and short else []


def unchecked_sentence(examples: Sequence[Example]) -> str | None:
    """How many references the grader `facts` can't compare, and what to do about them. None if it compares all."""
    unchecked = len(examples) - len(comparable(examples))
    if not unchecked:
        return None
    of = "the first " if len(examples) == FIRST else ""
    return (
        f"{unchecked} of {of}{counted(len(examples), 'reference')} add no fact that can be compared: their rewrites "
        "are kept, content not checked. To compare their meaning too, write grader: {all_of: [facts, similar]} "
        "(needs pip install 'selfdistill[shift]', and the embedding model that shift.embedding names)"
    )


def comparable(examples: Iterable[Example]) -> list[Example]:
    """The examples whose references add a fact that the grader `facts` compares."""
    grade = make_grader("facts")
    return [example for example in examples if grade(example, example.reference).checked]
