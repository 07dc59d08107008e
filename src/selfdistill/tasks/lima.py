"""LIMA (Zhou et al. 2023): about 1,030 chosen questions and answers, a few in several turns. Trained on; filters is the
only check.

https://huggingface.co/datasets/GAIR/lima, CC BY-NC-SA. That copy is gated; where `datasets` can't load it, download its
train.jsonl and name that in `data.path`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..data import OnBad, read_conversations
from ..data.formats import FORMATS, Fields, read_conversation
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation
from . import Task, first_row, load_rows
from .alpaca import ask


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows as on the hub, whose conversations are lists of texts, or in any format that data has."""
    turns = first_row(source).get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return load_rows(source, _conversation, on_bad)
    return read_conversations(source, on_bad)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """The user speaks first, then both in turns."""
    turns = row["conversations"]
    if isinstance(turns, list):
        roles = ("user", "assistant")
        turns = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    conversation = read_conversation(FORMATS["sharegpt"], Fields({"conversations": turns}, {}))
    return replace(conversation, extra={"source": row["source"]} if "source" in row else {})


TASK = Task(
    name="lima",
    skill="instructions",
    ask=ask,
    grade=make_grader("none"),
    load=load,
    train=DataConfig(path="GAIR/lima", on_bad_row="skip"),  # all of it, as in the paper
    template="using",
)
