"""LIMA (Zhou et al. 2023): about 1,030 selected questions and answers, a few with several turns. For training.

    {"conversations": ["Write a two-line poem about a slow train.", "It halts at every field to count the sheep, …",
     "Now one about a fast train.", "The fields are only green, the towns a blur; …"], "source": "multi_turn"}

Rewrites are checked for the facts of the reference, under `rewrite.preset: paper` by the filters only.
https://huggingface.co/datasets/GAIR/lima, CC BY-NC-SA. This copy is gated. If `datasets` can't load it, download its
train.jsonl and set `data.path` to the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..data import OnBad, read_conversations
from ..data.conversion import read_conversation
from ..data.formats import SHAREGPT
from ..recipe import DataConfig
from ..types import Conversation
from . import Task, first_row, load_rows


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows as on the hub, whose conversations are lists of texts, or in any data format."""
    turns = first_row(source).get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return load_rows(source, on_bad, convert=_conversation)
    return read_conversations(source, on_bad)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """A list of texts as turns. The first is the user's."""
    turns = row["conversations"]
    if isinstance(turns, list):
        roles = ("user", "assistant")
        turns = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    conversation = read_conversation(SHAREGPT, {"conversations": turns}, {})
    return replace(conversation, extra={"source": row["source"]} if "source" in row else {})


TASK = Task(
    name="lima",
    skill="instructions",
    grader="facts",
    paper_grader="none",
    load=load,
    train=DataConfig(path="GAIR/lima", on_bad_row="skip"),  # all rows, as in the paper
    template="own-words",
    paper_template="using",
)
