"""MagiCoder's OSS-Instruct (Wei et al. 2023): programming problems and solutions, written by GPT-3.5. For training.

    {"lang": "python", "raw_index": 1, "index": 10, "seed": "def area(", "openai_fingerprint": "…", "problem": "Write a
     function `shelf_space(widths, shelf)` that …", "solution": "```python\\ndef shelf_space(widths, shelf):\\n …"}

A rewrite must hold Python code that parses. With `rewrite.grader: python_asserts`, the asserts of a solution are run.
https://github.com/ise-uiuc/magicoder, MIT
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Message
from . import Task, first_row, load_rows


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The Python rows of OSS-Instruct (problem, solution, lang): 38,284 of 75,197. All rows in any other form, such as
    Evol-Instruct's (instruction, response)."""
    if not {"problem", "response"} & set(first_row(source)):
        yield from read_conversations(source, on_bad)
        return
    for conversation in load_rows(source, on_bad, convert=_conversation):
        if conversation.extra.get("lang", "python") == "python":
            yield conversation


def _conversation(row: Mapping[str, Any]) -> Conversation:
    names = ("instruction", "response") if "response" in row else ("problem", "solution")
    problem, solution = (row[name].strip() for name in names)
    if not problem or not solution:
        raise TypeError
    extra = {"lang": row["lang"]} if "lang" in row else {}
    return Conversation((Message("user", problem), Message("assistant", solution)), extra)


TASK = Task(
    name="magicoder",
    skill="code",
    grade=make_grader("python_code"),
    load=load,
    train=DataConfig(path="ise-uiuc/Magicoder-OSS-Instruct-75K", split="train", n=2000),
    template="refer",
    paper_template="refer",
)
