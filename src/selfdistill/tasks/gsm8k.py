"""GSM8K (Cobbe et al. 2021): grade-school word problems, graded by the final number.

    {"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How …",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\nNatalia sold 48+24 = <<48+24=72>>72 …\\n#### 72"}

https://github.com/openai/grade-school-math, MIT
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation, Example, Message, Messages
from . import Task

# The paper asks for this last sentence in the system prompt (figure 12). The wording is ours.
SYSTEM = (
    "You are an expert in mathematics. Solve the problem step by step, and end with a sentence of the form: "
    "The answer is N, where N is a number."
)
_CALCULATION = re.compile(r"<<[^<>]*+>>")
_FINAL = re.compile(r"\n#### ([^\n]+)\Z")


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows with the answers in the form that the paper trains on. Answers in that form are unchanged."""
    for conversation in read_conversations(source, on_bad):
        yield replace(conversation, messages=tuple(map(_as_in_paper, conversation.messages)))


def _as_in_paper(message: Message) -> Message:
    """Removes calculator annotations such as <<48/2=24>>, and turns `#### 72` into `The answer is 72.`"""
    if message.role != "assistant":
        return message
    text = _CALCULATION.sub("", message.content)
    final = _FINAL.search(text.rstrip())
    return replace(message, content=f"{text[: final.start()]}\nThe answer is {final[1]}." if final else text)


def ask(example: Example) -> Messages:
    """The problem, with `SYSTEM` before it if it has no system message."""
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
    paper_template="math",
)
# 1,209 of its test problems, checked again (Vendrow et al. 2025). https://huggingface.co/datasets/madrylab/gsm8k-platinum
PLATINUM = replace(
    TASK,
    name="gsm8k-platinum",
    test=DataConfig(path="madrylab/gsm8k-platinum", config="main", split="test"),
    train=None,
    template=None,
    paper_template=None,
)
