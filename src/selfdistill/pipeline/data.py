"""Step 1, the data: the rows to train on and the held-out rows, drawn from the source and written to data/.

Reads the recipe's data source. Writes data/train.jsonl, data/heldout.jsonl and data/bad_rows.jsonl.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from ..data import DataCounts, data_notes, iter_conversations, prepare
from ..store.experiment import Experiment
from ..store.identity import source_identity
from ..store.rows import read_lines
from ..store.stage import Stage
from ..types import Example, Progress
from ..types.wording import counted
from .context import Context
from .reasoning import reasoning_use

_log = logging.getLogger(__name__)

TRAIN, HELDOUT_ROWS, BAD_ROWS = "data/train.jsonl", "data/heldout.jsonl", "data/bad_rows.jsonl"


def data_stage(context: Context) -> Stage:
    source = context.source
    settings = {
        "task": context.recipe.task,
        "source": context.identity(source_identity, source),
        **source.deciding("data"),
    }
    return Stage("data", TRAIN, settings, on_change="unread", other_outputs=(HELDOUT_ROWS, BAD_ROWS))


def prepare_data(experiment: Experiment, context: Context, progress: Progress) -> None:
    """Reads and draws the rows, unless that is done, or the recipe needs none."""
    stage = data_stage(context)
    if context.recipe.evaluates_only or experiment.finished(stage):
        return
    with experiment.run_stage(stage) as run:
        progress("data", 0, 0)
        run.counts = prepare(context.source, experiment.path("data"), context.task.load, progress).to_json()
    for note in data_notes({**experiment.counts(stage.name), **reasoning_use(context)}, str(experiment.path(BAD_ROWS))):
        _log.warning("%s", note)


def train_examples(experiment: Experiment) -> Iterator[Example]:
    """An example for each response of the training rows, duplicates included."""
    for conversation in iter_conversations(experiment.path(TRAIN)):
        yield from conversation.examples()


def data_warnings(context: Context, counts: DataCounts, folder: Path) -> Iterator[str]:
    """Warnings about rows that a run will leave out, and about other properties of the data."""
    if counts.bad:
        first = next(read_lines(folder / "bad_rows.jsonl"))
        yield (
            f"{counted(counts.bad, 'row')} can't be used and will be left out, the first is {first['where']}: "
            f"{first['reason']}. A run lists them in data/bad_rows.jsonl."
        )
    yield from data_notes({**counts.to_json(), **reasoning_use(context), "bad": 0})
