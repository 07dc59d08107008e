"""AlpacaEval (Li et al. 2023): 805 open instructions; a judge compares the answers. Evaluation only.

    {"dataset": "koala", "instruction": "Name a fruit.", "output": "An apple.", "generator": "text_davinci_003"}

`alpacaeval` compares with the answers of text-davinci-003, as the paper does with GPT-4 as the judge.
`alpacaeval-vs-seed` compares the same answers with the seed's answers, which shows what fine-tuning changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data import OnBad, is_hub_name
from ..errors import DataError, first_line
from ..grading.judged import PAIRWISE_REFERENCE, PAIRWISE_SEED
from ..models.hub import ask_hub
from ..recipe import DataConfig
from ..types import Conversation, Message
from . import Task, load_rows


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows with `instruction` and `output` (the reference answer), from a local file or the hub."""
    return load_rows(_local(source), on_bad, convert=_conversation)


def _local(source: DataConfig) -> DataConfig:
    """A local copy of the hub's JSON file. `datasets` can't load it, because the dataset has a loading script."""
    if Path(source.path).expanduser().exists() or not is_hub_name(source.path):
        return source
    from huggingface_hub import hf_hub_download

    ask_hub()
    file = f"{source.config or 'alpaca_eval'}.json"
    try:
        return source.model_copy(update={"path": hf_hub_download(source.path, file, repo_type="dataset")})
    except Exception as error:  # the hub client passes on errors of several libraries
        raise DataError(
            f"{file} of the hub dataset {source.path} can't be loaded ({first_line(error)}); check the network, or "
            "give the task a `path` to a local copy."
        ) from error


def _conversation(row: Mapping[str, Any]) -> Conversation:
    extra = {"dataset": row["dataset"]} if "dataset" in row else {}
    return Conversation((Message("user", row["instruction"]), Message("assistant", row["output"])), extra)


TASK = Task(
    name="alpacaeval",
    skill="helpfulness",
    load=load,
    test=DataConfig(path="tatsu-lab/alpaca_eval", config="alpaca_eval", split="eval"),
    metric="win rate",
    judge=PAIRWISE_REFERENCE,
)
AGAINST_SEED = replace(
    TASK,
    name="alpacaeval-vs-seed",
    metric="win rate against the seed",
    judge=PAIRWISE_SEED,
    answers_of="alpacaeval",
)
