"""GSM8K (Cobbe et al. 2021): grade-school word problems, graded by the final number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Example, Message, Messages
from . import Task

# The paper asks for such a last sentence in the system prompt (figure 12); the wording is ours.
SYSTEM = (
    "You are an expert in mathematics. Solve the problem step by step, and end with a sentence of the form: "
    "The answer is N, where N is a number."
)
_CALCULATION = re.compile(r"<<[^<>]*+>>")
_FINAL = re.compile(r"\n#### ([^\n]+)\Z")


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows with the answers as the paper trains on them; those in that form already stay."""
    for conversation in read_conversations(source, on_bad):
        yield replace(conversation, messages=tuple(map(_as_in_paper, conversation.messages)))


def _as_in_paper(message: Message) -> Message:
    """Calculator annotations such as <<48/2=24>> left out, and `#### 72` as the sentence `The answer is 72.`"""
    if message.role != "assistant":
        return message
    text = _CALCULATION.sub("", message.content)
    final = _FINAL.search(text.rstrip())
    return replace(message, content=f"{text[: final.start()]}\nThe answer is {final[1]}." if final else text)


def ask(example: Example) -> Messages:
    """The problem, under a system message of its own only where it brings none."""
    if example.prompt[0].role == "system":
        return example.prompt
    return (Message("system", SYSTEM), *example.prompt)


TASK = Task(
    name="gsm8k",
    skill="maths",
    ask=ask,
    grade=make_grader("final_number"),
    load=load,
    train=DataConfig(path="openai/gsm8k", config="main", split="train"),
    test=DataConfig(path="openai/gsm8k", config="main", split="test"),
    template="math",
)
