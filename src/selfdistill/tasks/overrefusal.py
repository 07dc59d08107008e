"""Over-refusal: harmless questions that sound harmful by their words, such as how to kill a process. Evaluation only.

The 108 prompts are our own. The idea is XSTest's (Röttger et al. 2024, arXiv 2308.01263); none of its prompts is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..data import OnBad
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Example, Message, Messages
from . import Task, load_rows


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Each `prompt` with an empty answer: any that helps will do. `topic` is its field, or that it isn't English."""
    return load_rows(source, _conversation, on_bad)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    messages = (Message("user", row["prompt"].strip()), Message("assistant", ""))
    return Conversation(messages, {"topic": row["topic"]} if "topic" in row else {})


def ask(example: Example) -> Messages:
    return example.prompt


TASK = Task(
    name="overrefusal",
    skill="over-refusal",
    ask=ask,
    grade=make_grader("helpful"),
    load=load,
    test=DataConfig(path=str(Path(__file__).with_name("overrefusal.jsonl")), split="test"),
    metric="answered",
)
