"""Dolly (Conover et al. 2023): 15,011 instructions and responses by Databricks' staff. For training. Rewrites
are checked for the facts of the reference, under `rewrite.preset: paper` by the filters only.

    {"instruction": "What colour is the old lighthouse?", "context": "The old lighthouse was painted red in 1911. …",
     "response": "Red.", "category": "closed_qa"}

https://huggingface.co/datasets/databricks/databricks-dolly-15k, CC BY-SA 3.0
"""

from __future__ import annotations

from collections.abc import Iterator

from ..data import OnBad, read_conversations
from ..recipe import DataConfig
from ..types import Conversation
from . import Task, first_row


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows as on the hub (Alpaca's form, with `context` for input and `response` for output), or in any data format."""
    if {"context", "response"} <= first_row(source).keys():
        columns = {"input": "context", "output": "response"}
        source = source.model_copy(update={"format": "alpaca", "columns": columns})
    return read_conversations(source, on_bad)


TASK = Task(
    name="dolly",
    skill="instructions",
    grader="facts",
    paper_grader="none",
    load=load,
    train=DataConfig(path="databricks/databricks-dolly-15k", n=2000, on_bad_row="skip"),  # as in the paper
    template="own-words",
    paper_template="using",
)
