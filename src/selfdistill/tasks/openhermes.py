"""OpenHermes (Teknium 2023): 242,831 instructions, most with answers by GPT-4. Trained on; filters is the only check.

https://huggingface.co/datasets/teknium/openhermes, the set that the paper names. Its successor, teknium/OpenHermes-2.5
(conversations), is read too where `data.path` names it.
"""

from __future__ import annotations

from ..data import read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from . import Task
from .alpaca import ask

TASK = Task(
    name="openhermes",
    skill="instructions",
    ask=ask,
    grade=make_grader("none"),
    load=read_conversations,
    train=DataConfig(path="teknium/openhermes", n=20000, on_bad_row="skip"),  # as many as in the paper
    template="using",
)
