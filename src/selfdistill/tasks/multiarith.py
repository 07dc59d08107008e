"""MultiArith (Roy and Roth 2015): word problems of two or more steps, graded by the final number. Evaluation only.

{"question": " There are 64 apples in 8 baskets. …", "final_ans": "16"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Message
from . import Task, first_row, load_rows
from .gsm8k import ask


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows as on the hub (question, final_ans), or in any data format."""
    if "final_ans" in first_row(source):
        return load_rows(source, on_bad, convert=_conversation)
    return read_conversations(source, on_bad)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    answer = f"The answer is {row['final_ans']}."
    return Conversation((Message("user", row["question"].strip()), Message("assistant", answer)))


TASK = Task(
    name="multiarith",
    skill="maths",
    ask=ask,
    grade=make_grader("final_number"),
    load=load,
    test=DataConfig(path="ChilleD/MultiArith", split="test"),
)
