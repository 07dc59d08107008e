"""Alpaca (Taori et al. 2023): 52,002 instructions, answered by text-davinci-003. For training. Rewrites
are checked for the facts of the reference, under `rewrite.preset: paper` by the filters only.

    {"instruction": "Turn the sentence into the past tense.", "input": "The ferry leaves at noon.",
     "output": "The ferry left at noon.", "text": "Below is an instruction …"}

https://github.com/tatsu-lab/stanford_alpaca, CC BY-NC 4.0
"""

from __future__ import annotations

from ..data import read_conversations
from ..recipe import DataConfig
from . import Task

TASK = Task(
    name="alpaca",
    skill="instructions",
    grader="facts",
    paper_grader="none",
    load=read_conversations,
    # 2,000 rows as in the paper. Some rows on the hub have an empty output; they are set aside and counted.
    train=DataConfig(path="tatsu-lab/alpaca", n=2000, on_bad_row="skip"),
    template="own-words",
    paper_template="using",
)
