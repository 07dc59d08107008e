"""The part of `check` that is about the data: every row is read and counted as a run would do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from ...data import (
    DataCounts,
    duplicates_note,
    fullest_prompts,
    iter_conversations,
    prepare,
    prompt_key,
    reading_setting,
    unused_columns,
    unused_sentence,
)
from ...types import Conversation, Example, Progress
from ..context import Context
from ..grader_guess import FIRST


def read_data(context: Context, folder: Path, progress: Progress) -> DataCounts:
    """Reads all rows into `folder`. Raises DataError as a run would."""
    return prepare(context.source, folder, context.task.load, progress)


def data_lines(context: Context, counts: DataCounts, folder: Path) -> Iterator[str]:
    held = f", {counts.heldout:,} held out" if counts.heldout else ""
    yield f"rows      {counts.train:,} to train on with {counts.examples:,} responses{held}"
    if counts.duplicates:
        yield f"repeated  {duplicates_note(counts.duplicates, counts.examples)}"
    rows = chain.from_iterable(iter_conversations(folder / name) for name in ("train.jsonl", "heldout.jsonl"))
    unused = unused_columns(rows, context.task.reads)
    if sentence := unused_sentence(unused, counts.train + counts.heldout, reading_setting(context.source, unused)):
        yield f"unused    {sentence}"


def first_references(context: Context) -> list[Example]:
    """The first examples of the source in its order, held-out rows included: those that `init` counts too."""
    rows = context.task.load(context.source, lambda _: None)
    return list(islice(chain.from_iterable(row.examples() for row in rows), FIRST))


def first_example(context: Context, rows: Sequence[Conversation]) -> Example:
    """The first example, of a row that fills the optional fields such as context and system if there is one."""
    full = fullest_prompts(context.source)
    chosen = (example for row in rows for example in row.examples()[:1] if prompt_key(example.prompt) in full)
    return next(chosen, rows[0].examples()[0])


def marked_rows(train: Path, marks: Sequence[str]) -> int:
    """In how many rows one of the marks stands as text."""
    rows = iter_conversations(train)
    return sum(any(mark in message.text for message in row.messages for mark in marks) for row in rows)
