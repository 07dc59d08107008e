"""MagiCoder's OSS-Instruct (Wei et al. 2023): programming problems and solutions, written by GPT-3.5 from snippets of
open source. Trained on; a rewrite must hold Python code that parses.

https://github.com/ise-uiuc/magicoder, MIT. With `rewrite.grader: python_asserts` the asserts of a solution are run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Example, Message, Messages
from . import Task, first_row, load_rows


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The Python rows of OSS-Instruct (problem, solution, lang), which are 38,284 of 75,197; those in other languages
    belong to no task here. Rows in another form, such as Evol-Instruct's (instruction, response), are all read."""
    if not {"problem", "response"} & set(first_row(source)):
        yield from read_conversations(source, on_bad)
        return
    for conversation in load_rows(source, _conversation, on_bad):
        if conversation.extra.get("lang", "python") == "python":
            yield conversation


def _conversation(row: Mapping[str, Any]) -> Conversation:
    names = ("instruction", "response") if "response" in row else ("problem", "solution")
    problem, solution = (row[name].strip() for name in names)
    if not problem or not solution:
        raise TypeError
    extra = {"lang": row["lang"]} if "lang" in row else {}
    return Conversation((Message("user", problem), Message("assistant", solution)), extra)


def ask(example: Example) -> Messages:
    return example.prompt


TASK = Task(
    name="magicoder",
    skill="code",
    ask=ask,
    grade=make_grader("python_code"),
    load=load,
    train=DataConfig(path="ise-uiuc/Magicoder-OSS-Instruct-75K", split="train", n=2000),
    template="refer",
)
