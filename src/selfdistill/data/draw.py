"""The experiment's own data: which rows are trained on, and which are held out."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..grading.traces import mark_in
from ..recipe import DataConfig
from ..store.rows import dump_line, id_number, read_lines
from ..types import Conversation, Progress, silent
from .bad_rows import BadRow, OnBad
from .contamination import NearDuplicates, near_duplicates, prompt_numbers
from .conversations import read_conversations
from .counts import DataCounts
from .markup import chat_markup

_FILES = ("train.jsonl", "heldout.jsonl", "bad_rows.jsonl")
_UNUSED, _TRAIN, _HELDOUT = 0, 1, 2
_REPORTED = 10_000  # rows between two reports of progress


def prepare(
    config: DataConfig,
    directory: Path,
    load: Callable[[DataConfig, OnBad | None], Iterator[Conversation]] = read_conversations,
    progress: Progress = silent,
) -> DataCounts:
    """Streams the source into `directory`: train.jsonl and heldout.jsonl (one `Conversation` per line), bad_rows.jsonl.

    A permutation with `config.seed` ranks the rows: the first `heldout` are held out, and the next `n` are trained on.
    With the same seed, a smaller draw is part of a larger one. Rows are written in the order of the source. A draw
    takes two passes over the source, and a search for near duplicates one over the written rows. Memory: about 16
    bytes per row, and the held-out rows. The files appear only when all of them are complete.
    Raises DataError as `load` does, and if no row is left to train on.
    """
    bad = 0
    with _writing(directory) as (train_file, heldout_file, bad_file):

        def keep(row: BadRow) -> None:
            nonlocal bad
            bad += 1
            bad_file.write(dump_line(row.to_json()))

        part = None
        if config.n is not None or config.heldout:
            part = _draw(sum(1 for _ in _reported(load(config, keep), partial(progress, "data, counting"))), config)
        conversations = load(config, keep if part is None else lambda row: None)  # bad rows are saved once
        reported = _reported(conversations, partial(progress, "data"), 0 if part is None else len(part))
        written = _write_train(reported, part, train_file)
        if part is not None and written.rows != len(part):
            raise DataError(
                f"{config.path} changed while it was read; run the command again when the file is complete."
            )
        train_file.flush()
        heldout, found = _kept(config, written, Path(train_file.name), progress)
        heldout_file.writelines(dump_line(conversation.to_json()) for conversation in heldout)
    return DataCounts(
        rows=written.rows,
        bad=bad,
        train=written.train,
        heldout=len(heldout),
        examples=len(written.ids),
        duplicates=len(written.ids) - len(np.unique(np.array(written.ids, dtype=np.uint64))),
        short=max((config.n or 0) - written.train, 0),
        untrained=written.untrained,
        reasoning=written.reasoning,
        markup=written.markup,
        markup_example=written.markup_example,
        think_marks=written.think_marks,
        think_mark=written.think_mark,
        **found,
    )


def iter_conversations(path: Path) -> Iterator[Conversation]:
    """The rows of a train.jsonl or heldout.jsonl. Raises ExperimentError if a line is damaged."""
    for row in read_lines(path):
        yield Conversation.from_json(row)


def _reported(
    rows: Iterator[Conversation], progress: Callable[[int, int], None], total: int = 0
) -> Iterator[Conversation]:
    done = 0
    for done, row in enumerate(rows, 1):
        yield row
        if done % _REPORTED == 0:
            progress(done, total)
    if total or done >= _REPORTED:
        progress(done, done)


@dataclass
class _Written:
    """The number of rows read, the held-out rows, and for the training rows: the ids of their examples and (for a draw)
    their prompts, as numbers, and the counts of `DataCounts`."""

    rows: int = 0
    train: int = 0
    ids: array[int] = field(default_factory=lambda: array("Q"))
    asked: array[int] = field(default_factory=lambda: array("Q"))
    heldout: list[Conversation] = field(default_factory=list)
    untrained: int = 0
    reasoning: int = 0
    markup: int = 0
    markup_example: str | None = None
    think_marks: int = 0
    think_mark: str | None = None

    def add(self, conversation: Conversation, draw: bool) -> None:
        self.train += 1
        self.ids.extend(id_number(example.id) for example in conversation.examples())
        if draw:
            self.asked.extend(prompt_numbers(conversation))
        self.untrained += len(conversation.untrained)
        self.reasoning += len(conversation.reasoning)
        if mark := chat_markup(conversation):
            self.markup += 1
            self.markup_example = self.markup_example or mark
        asked = (message.content for message in conversation.messages if message.role != "assistant")
        if thinks := next(filter(None, map(mark_in, asked)), None):
            self.think_marks += 1
            self.think_mark = self.think_mark or thinks


def _write_train(conversations: Iterator[Conversation], part: npt.NDArray[np.uint8] | None, file: BinaryIO) -> _Written:
    """Writes the training rows to `file`."""
    written = _Written()
    for conversation in conversations:
        place = _TRAIN if part is None else part[written.rows] if written.rows < len(part) else _UNUSED
        written.rows += 1
        if place == _TRAIN:
            file.write(dump_line(conversation.to_json()))
            written.add(conversation, draw=part is not None)
        elif place == _HELDOUT:
            written.heldout.append(conversation)
    return written


def _kept(
    config: DataConfig, written: _Written, train: Path, progress: Progress
) -> tuple[list[Conversation], dict[str, Any]]:
    """The held-out rows that are kept, and the counts of contaminated rows and near duplicates. Raises DataError."""
    drawn, settings = written.heldout, config.near_duplicates
    apart = _uncontaminated(drawn, np.array(written.asked, dtype=np.uint64))
    if drawn and not apart:
        raise DataError(
            f"All {len(drawn)} rows drawn for data.heldout have prompts that are trained on too; take repeated rows "
            "out of the data, raise data.heldout, or give the task heldout its own path."
        )

    def report(done: int) -> None:
        if done >= _REPORTED:
            progress("data, near duplicates", done, len(written.ids))

    near = NearDuplicates()
    if settings.threshold is not None and apart:
        near = near_duplicates(apart, iter_conversations(train), settings.threshold, report)
    kept = [row for place, row in enumerate(apart) if not (settings.drop and place in near.found)]
    if apart and not kept:
        raise DataError(
            f"All {len(apart)} rows drawn for data.heldout nearly repeat a training row; set "
            "data.near_duplicates.drop to false, raise its threshold, or give the task heldout its own path."
        )
    return kept, {
        "contaminated": len(drawn) - len(apart),
        "near_duplicates": len(near.found),
        "dropped": len(apart) - len(kept),
        "near_pair": near.pair,
    }


def draw(count: int, n: int | None, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each of `count` rows is in a draw of `n`. With the same seed, a smaller draw is part of a larger one."""
    # numpy keeps the stream of RandomState forever, and that of default_rng only within a version (NEP 19).
    drawn = np.zeros(count, dtype=np.bool_)
    drawn[np.random.RandomState(seed).permutation(count)[:n]] = True
    return drawn


def _draw(count: int, config: DataConfig) -> npt.NDArray[np.uint8]:
    """Whether each of `count` rows is trained on, held out, or not used."""
    if config.heldout >= count:
        raise DataError(
            f"{config.path} has {count} usable rows, and data.heldout sets {config.heldout} aside, so no row is left "
            "to train on; lower data.heldout."
        )
    order = np.random.RandomState(config.seed).permutation(count)
    end = count if config.n is None else config.heldout + config.n
    part = np.full(count, _UNUSED, dtype=np.uint8)
    part[order[: config.heldout]] = _HELDOUT
    part[order[config.heldout : end]] = _TRAIN
    return part


def _uncontaminated(heldout: list[Conversation], trained: npt.NDArray[np.uint64]) -> list[Conversation]:
    """The held-out rows whose last prompt is in no training row, each prompt once. Earlier turns may be shared, because
    many chats open with the same greeting."""
    asked = np.array([prompt_numbers(conversation)[-1] for conversation in heldout], dtype=np.uint64)
    seen = set(asked[np.isin(asked, trained)].tolist())
    kept = []
    for conversation, number in zip(heldout, asked.tolist(), strict=True):
        if number not in seen:
            kept.append(conversation)
            seen.add(number)
    return kept


@contextmanager
def _writing(directory: Path) -> Iterator[list[BinaryIO]]:
    """The open files of `_FILES`. They get their names when the block ends without an error."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = {name: directory / f"{name}.partial" for name in _FILES}
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(path.open("wb")) for path in partial.values()]
        for name, path in partial.items():
            os.replace(path, directory / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
