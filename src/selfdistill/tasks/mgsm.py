"""MGSM (Shi et al. 2023): 250 problems of GSM8K in each of ten languages, graded by the final number. Evaluation only.

    {"question": "Jan hat 5 Äpfel und kauft 4 weitere. Wie viele Äpfel hat Jan?", "answer_number": 9}

Without a `config` all languages are asked. https://huggingface.co/datasets/juletxara/mgsm, CC BY-SA 4.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ..data import OnBad
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Message
from . import Task, load_rows

_HUB = "juletxara/mgsm"
LANGUAGES = ("bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
_END = "Solve the problem step by step, and end with a sentence of the form: The answer is N."


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The problems of the languages, in the order of `LANGUAGES`; the rows of a file as they stand."""
    names = LANGUAGES if source.path == _HUB and source.config is None else (source.config,)
    for name in names:
        part = source.model_copy(update={"config": name})
        yield from load_rows(part, on_bad, convert=partial(_conversation, name))


def _conversation(language: str | None, row: Mapping[str, Any]) -> Conversation:
    prompt = Message("user", f"{row['question'].strip()}\n\n{_END}")
    reference = Message("assistant", f"The answer is {row['answer_number']}.")
    return Conversation((prompt, reference), {"kind": language} if language else {})


TASK = Task(
    name="mgsm",
    skill="maths, ten languages",
    grade=make_grader("final_number"),
    load=load,
    test=DataConfig(path=_HUB, split="test"),
)
