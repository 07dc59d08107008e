"""OpenHermes (Teknium 2023): 242,831 instructions, most with answers by GPT-4. For training. Rewrites
are checked for the facts of the reference, under `rewrite.preset: paper` by the filters only.

    {"instruction": "Explain in one sentence what a heat pump does.", "input": "",
     "output": "It moves heat from a colder place to a warmer one, at the cost of some work."}

https://huggingface.co/datasets/teknium/openhermes is the set that the paper names. Its successor,
teknium/OpenHermes-2.5 (conversations), can be named in `data.path`.
"""

from __future__ import annotations

from ..data import read_conversations
from ..recipe import DataConfig
from . import Task

TASK = Task(
    name="openhermes",
    skill="instructions",
    grader="facts",
    paper_grader="none",
    load=read_conversations,
    train=DataConfig(path="teknium/openhermes", n=20000, on_bad_row="skip"),  # as in the paper
    template="own-words",
    paper_template="using",
)
