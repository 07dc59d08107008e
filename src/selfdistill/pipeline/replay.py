"""The rows that arms replay, read before anything is paid for. `check` reports them, `run` stops if they don't fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..data import (
    asked_last,
    asks_any,
    draw,
    iter_conversations,
    prepare,
    prompt_key,
    read_conversations,
    reading_setting,
    unused_columns,
    unused_sentence,
)
from .context import Context
from .data import data_warnings
from .lengths import measure_rows, unusable_rows
from .train import replay_source, too_few_to_replay


def replayed_rows(context: Context, name: str, data: Path, rows: int) -> Iterator[tuple[bool, str]]:
    """A sentence about each property of the rows that the arm `name` replays, and whether it allows a run. `data` is
    the folder with train.jsonl and heldout.jsonl, `rows` the number of training rows. Raises DataError if they can't be
    read, and ModelError if the tokenizer can't be."""
    arm = context.recipe.arms[name]
    if arm.replay is None:
        return
    task, source = replay_source(arm.replay)
    load, of_arm = task.load if task else read_conversations, min(arm.n or rows, rows)
    held = {asked_last(row) for row in iter_conversations(data / "heldout.jsonl")}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        counts = prepare(source.model_copy(update={"heldout": 0, "n": None}), path.parent, load)
        usable = np.flatnonzero([not asks_any(row, held) for row in iter_conversations(path)])
        wanted = round(arm.replay.share * of_arm)
        if len(usable) < wanted:
            yield False, too_few_to_replay(arm.replay, source, len(usable), of_arm)
        drawn = np.zeros(counts.train, np.bool_)
        drawn[usable[draw(len(usable), wanted, context.source.seed)]] = True
        notes = [*data_warnings(context, counts, path.parent)]
        items = _held_out_items(context)
        if asked := sum(asks_any(row, items) for row in compress(iter_conversations(path), drawn)):
            notes.append(f"{asked:,} of them ask an item of heldout, so its score may be too high for this arm.")
        unused = unused_columns(iter_conversations(path), task.reads if task else ())
        setting = reading_setting(source, unused, f"arms.{name}.replay.columns")
        if sentence := unused_sentence(unused, counts.train, setting):
            notes.append(f"{sentence[0].upper()}{sentence[1:]}.")
        yield from ((True, f"Rows that {name} replays: {note}") for note in notes)
        lengths = measure_rows(context, path, lambda _done, _total: None, replayed=True)
        for allowed, sentence in unusable_rows(context, [name], lengths, path, source, load, drawn):
            yield allowed, f"Rows that {name} replays: {sentence}"


def _held_out_items(context: Context) -> set[str]:
    """The `prompt_key` of each item of heldout that is in a separate file. Held-out rows of data.path are left out of
    the replayed rows anyway."""
    tasks = [task for task in context.tasks.values() if task.task.own_rows and task.source is not None]
    rows = (row for task in tasks for row in task.task.load(task.source, lambda _: None))
    return {prompt_key(row.examples()[-1].prompt) for row in rows}
