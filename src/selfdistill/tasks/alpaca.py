"""Alpaca (Taori et al. 2023): 52,002 instructions, answered by text-davinci-003. Trained on; filters is the only check.

https://github.com/tatsu-lab/stanford_alpaca, CC BY-NC 4.0
"""

from __future__ import annotations

from ..data import read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Example, Messages
from . import Task


def ask(example: Example) -> Messages:
    return example.prompt


TASK = Task(
    name="alpaca",
    skill="instructions",
    ask=ask,
    grade=make_grader("none"),
    load=read_conversations,
    # 2,000 as in the paper. The hub's copy holds rows with an empty output, which are set aside and counted.
    train=DataConfig(path="tatsu-lab/alpaca", n=2000, on_bad_row="skip"),
    template="using",
)
