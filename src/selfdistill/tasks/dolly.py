"""Dolly (Conover et al. 2023): 15,011 instructions and responses by Databricks' staff. Trained on; filters is
the only check.

https://huggingface.co/datasets/databricks/databricks-dolly-15k, CC BY-SA 3.0
"""

from __future__ import annotations

from collections.abc import Iterator

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..recipe import DataConfig
from ..types import Conversation
from . import Task, first_row
from .alpaca import ask


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows as on the hub, which are Alpaca's with `context` for input and `response` for output, or in any format that
    data has."""
    if not source.columns and {"context", "response"} <= first_row(source).keys():
        columns = {"input": "context", "output": "response"}
        source = source.model_copy(update={"format": "alpaca", "columns": columns})
    return read_conversations(source, on_bad)


TASK = Task(
    name="dolly",
    skill="instructions",
    ask=ask,
    grade=make_grader("none"),
    load=load,
    train=DataConfig(path="databricks/databricks-dolly-15k", n=2000, on_bad_row="skip"),  # as many as in the paper
    template="using",
)
