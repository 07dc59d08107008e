"""The part of `check` that is about the data: every row is read and counted as a run would do it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...data import DataCounts, data_notes, iter_conversations, prepare, unused_columns, unused_sentence
from ...models.renderer import Renderer
from ...store.rows import read_lines
from ...types import Example, Progress
from ..context import Context
from ..rewrite import needs_rewrites, rewrites
from .templates import prompt_ids, training_row

_COUNTED = 100_000  # responses whose tokens are counted: the longest
_OVERHEAD = 1000  # bytes that a template adds at most to a prompt; a token is at least one byte
_NAMED = 3


def read_data(context: Context, folder: Path, progress: Progress) -> DataCounts:
    """Reads all rows into `folder`. Raises DataError as a run would."""
    return prepare(context.source, folder, context.task.load, progress)


def data_lines(counts: DataCounts, folder: Path) -> Iterator[str]:
    held = f", {counts.heldout:,} held out" if counts.heldout else ""
    yield f"rows      {counts.train:,} to train on with {counts.examples:,} responses{held}"
    unused = unused_columns(iter_conversations(folder / "train.jsonl"))
    if sentence := unused_sentence(unused, counts.train):
        yield f"unused    {sentence}"


def data_warnings(counts: DataCounts, folder: Path) -> Iterator[str]:
    """Warnings about rows that a run will leave out, and about other properties of the data."""
    if counts.bad:
        first = next(read_lines(folder / "bad_rows.jsonl"))
        yield (
            f"{counts.bad:,} rows can't be used and will be left out, the first is {first['where']}: "
            f"{first['reason']}. A run lists them in data/bad_rows.jsonl."
        )
    yield from data_notes({**counts.to_json(), "bad": 0})


@dataclass
class Lengths:
    """How many training sequences and rewriting prompts are longer than their limits, and the longest of them."""

    counted: int = 0
    too_long: int = 0
    longest: list[tuple[int, int, str]] = field(default_factory=list)  # tokens, number of the row, its first words
    no_room: int = 0

    def add(self, tokens: int, row: int, example: Example) -> None:
        self.too_long += 1
        words = " ".join(example.instruction[:200].split())
        self.longest = heapq.nlargest(_NAMED, [*self.longest, (tokens, row, words[:40])])

    def named(self) -> str:
        return "; ".join(f"training row {row} ({tokens:,} tokens: {words!r}…)" for tokens, row, words in self.longest)


def measure(
    context: Context,
    train: Path,
    renderer: Renderer,
    rewriting: Renderer | None,
    limit: int | None,
    window: int | None,
    progress: Callable[[int, int], None],
) -> Lengths:
    """Counts the tokens of the rows that could be too long: of a response's training sequence (more than `limit`) and
    of its rewriting prompt (`window` or more). A text of fewer bytes than the limit has fewer tokens, so short rows
    are not tokenized; of more than 100,000 others the longest are."""
    rewriter, rewritten = rewrites(context).rewriter, needs_rewrites(context)
    template = len(repr(rewriter.template).encode())
    least = min([*([limit] if limit else []), *([window - template] if window else [])], default=0) - _OVERHEAD
    sizes = ((_bytes(example), place) for place, (_, example) in enumerate(_examples(train)))
    candidates = heapq.nlargest(_COUNTED, ((size, place) for size, place in sizes if size > least))
    wanted, lengths = {place for _, place in candidates}, Lengths()
    for place, (row, example) in enumerate(_examples(train)):
        if place not in wanted:
            continue
        lengths.counted += 1
        if lengths.counted % 1000 == 0:
            progress(lengths.counted, len(wanted))
        trained = training_row(renderer, example) if limit else None
        if limit and trained and len(trained.input_ids) > limit:
            lengths.add(len(trained.input_ids), row, example)
        asked = None
        if rewriting and rewritten:
            asked = prompt_ids(rewriting, rewriter.prompt(example).messages)
        lengths.no_room += bool(window and asked and len(asked) >= window)
    return lengths


def _examples(train: Path) -> Iterator[tuple[int, Example]]:
    for number, conversation in enumerate(iter_conversations(train), 1):
        for example in conversation.examples():
            yield number, example


def _bytes(example: Example) -> int:
    return sum(len(message.content.encode()) for message in example.prompt) + len(example.reference.encode())


def marked_rows(train: Path, marks: Sequence[str]) -> int:
    """In how many rows one of the marks stands as text."""
    rows = iter_conversations(train)
    return sum(any(mark in message.content for message in row.messages for mark in marks) for row in rows)
