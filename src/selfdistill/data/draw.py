"""An experiment's own data: which rows are trained on and which are held out, and a conversation put together again."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ..config import DataConfig
from ..errors import DataError
from ..rows import dump_line, id_number, read_lines
from ..types import Conversation, Example, Message, Messages, Progress, content_id, messages_json, silent
from .conversations import read_conversations
from .sources import BadRow, OnBad

_FILES = ("train.jsonl", "heldout.jsonl", "bad_rows.jsonl")
_UNUSED, _TRAIN, _HELDOUT = 0, 1, 2
_TOLD = 10_000  # rows after which progress is told


@dataclass(frozen=True)
class DataCounts:
    """What `prepare` found and wrote. `rows` are the usable rows of the source, `bad` the others.

    `train` and `heldout` are rows, `examples` the assistant turns in `train`, `duplicates` those of them that occur
    before. `contaminated` rows were drawn for `heldout` but ask what is trained on, or what another of them asks, so
    they were left out. `short` is how many rows fewer than `n` there were.
    """

    rows: int
    bad: int
    train: int
    heldout: int
    examples: int
    duplicates: int
    contaminated: int
    short: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def prepare(
    config: DataConfig,
    directory: Path,
    load: Callable[[DataConfig, OnBad | None], Iterator[Conversation]] = read_conversations,
    progress: Progress = silent,
) -> DataCounts:
    """Streams the source into `directory`: train.jsonl and heldout.jsonl (a `Conversation` a line) and bad_rows.jsonl.

    Rows are ranked by a permutation with `config.seed`: the first `heldout` are held out, the next `n` trained on, so
    that for a seed a smaller draw is part of a larger. The order is the source's. A draw takes two passes over the
    source. Memory: about 16 bytes a row, and the held-out rows. Nothing is written unless all is.
    Raises DataError as `load` does and where no row is left to train on.
    """
    bad = 0
    with _writing(directory) as (train_file, heldout_file, bad_file):

        def keep(row: BadRow) -> None:
            nonlocal bad
            bad += 1
            bad_file.write(dump_line(row.to_json()))

        part = None
        if config.n is not None or config.heldout:
            part = _draw(sum(1 for _ in _told(load(config, keep), partial(progress, "data, counting"))), config)
        conversations = load(config, keep if part is None else _ignore)
        told = _told(conversations, partial(progress, "data"), 0 if part is None else len(part))
        rows, train, ids, asked, heldout = _write_train(told, part, train_file)
        if part is not None and rows != len(part):
            raise DataError(f"{config.path} changed while it was read; run again when it is whole.")
        kept = _uncontaminated(heldout, asked)
        if heldout and not kept:
            raise DataError(
                f"All {len(heldout)} rows drawn for data.heldout ask what is trained on too; take repeated rows out of "
                "the data, raise data.heldout, or give the task heldout a path of its own."
            )
        heldout_file.writelines(dump_line(conversation.to_json()) for conversation in kept)
    return DataCounts(
        rows=rows,
        bad=bad,
        train=train,
        heldout=len(kept),
        examples=len(ids),
        duplicates=len(ids) - len(np.unique(ids)),
        contaminated=len(heldout) - len(kept),
        short=max((config.n or 0) - train, 0),
    )


def iter_conversations(path: Path) -> Iterator[Conversation]:
    """The rows of a train.jsonl or heldout.jsonl. Raises ExperimentError where a line is damaged."""
    for row in read_lines(path):
        yield Conversation.from_json(row)


def assemble(conversation: Conversation, response_of: Callable[[Example], str]) -> Messages:
    """`conversation` with every assistant turn replaced by the response chosen for its example."""
    chosen = iter(conversation.examples())
    return tuple(
        Message("assistant", response_of(next(chosen))) if message.role == "assistant" else message
        for message in conversation.messages
    )


def _told(rows: Iterator[Conversation], progress: Callable[[int, int], None], total: int = 0) -> Iterator[Conversation]:
    done = 0
    for done, row in enumerate(rows, 1):
        yield row
        if done % _TOLD == 0:
            progress(done, total)
    if total or done >= _TOLD:
        progress(done, done)


def _write_train(
    conversations: Iterator[Conversation], part: npt.NDArray[np.uint8] | None, file: BinaryIO
) -> tuple[int, int, npt.NDArray[np.uint64], npt.NDArray[np.uint64], list[Conversation]]:
    """Writes the training rows; gives the count of rows, of training rows, their example ids and (for a draw) prompt
    ids as numbers, and the held-out rows."""
    rows, train, ids, asked, heldout = 0, 0, array("Q"), array("Q"), list[Conversation]()
    for conversation in conversations:
        place = _TRAIN if part is None else part[rows] if rows < len(part) else _UNUSED
        rows += 1
        if place == _TRAIN:
            train += 1
            file.write(dump_line(conversation.to_json()))
            ids.extend(id_number(example.id) for example in conversation.examples())
            if part is not None:
                asked.extend(_prompt_numbers(conversation))
        elif place == _HELDOUT:
            heldout.append(conversation)
    return rows, train, np.array(ids, dtype=np.uint64), np.array(asked, dtype=np.uint64), heldout


def draw(count: int, n: int | None, seed: int) -> npt.NDArray[np.bool_]:
    """Which of `count` rows a draw of `n` holds; with the same seed a smaller draw is part of a larger."""
    # RandomState, because numpy promises its stream for ever and default_rng's only within a version (NEP 19).
    drawn = np.zeros(count, dtype=np.bool_)
    drawn[np.random.RandomState(seed).permutation(count)[:n]] = True
    return drawn


def _draw(count: int, config: DataConfig) -> npt.NDArray[np.uint8]:
    """For each of `count` rows whether it is trained on, held out, or not used."""
    if config.heldout >= count:
        raise DataError(
            f"{config.path} has {count} usable rows, and data.heldout sets {config.heldout} aside, so none is left to "
            "train on; lower data.heldout."
        )
    order = np.random.RandomState(config.seed).permutation(count)
    end = count if config.n is None else config.heldout + config.n
    part = np.full(count, _UNUSED, dtype=np.uint8)
    part[order[: config.heldout]] = _HELDOUT
    part[order[config.heldout : end]] = _TRAIN
    return part


def _uncontaminated(heldout: list[Conversation], trained: npt.NDArray[np.uint64]) -> list[Conversation]:
    """The held-out rows whose last turn answers a prompt that no training row holds, each such prompt once. Earlier
    turns may be shared: many chats open with the same greeting."""
    asked = np.array([_prompt_numbers(conversation)[-1] for conversation in heldout], dtype=np.uint64)
    seen = set(asked[np.isin(asked, trained)].tolist())
    kept = []
    for conversation, number in zip(heldout, asked.tolist(), strict=True):
        if number not in seen:
            kept.append(conversation)
            seen.add(number)
    return kept


def _prompt_numbers(conversation: Conversation) -> list[int]:
    return [id_number(content_id(messages_json(example.prompt))) for example in conversation.examples()]


def _ignore(row: BadRow) -> None:
    """The first pass has kept it."""


@contextmanager
def _writing(directory: Path) -> Iterator[list[BinaryIO]]:
    """The files of `_FILES`, which take their names when the block has ended without an error."""
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
