"""The tokens of the training rows, counted before anything is paid for: `check` reports them, and `run` stops at rows
that can't be trained on."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..data import BadRow, OnBad, draw, iter_conversations, read_rows
from ..errors import RenderError
from ..models.loading import load_context_length, load_renderer
from ..models.renderer import Renderer
from ..recipe import DataConfig
from ..types import Conversation, Example, Messages, shown_turns
from ..types.wording import counted
from .context import Context
from .rewrite import needs_rewrites, rewrites

_COUNTED = 100_000  # responses whose tokens are counted: the longest
_SAMPLED = 10_000  # further responses for the quantiles, if the data holds more than that
_NAMED = 3

Ints = npt.NDArray[np.int64]
Load = Callable[[DataConfig, OnBad], Iterator[Conversation]]


@dataclass(frozen=True)
class RowLengths:
    """The tokens of training sequences, with one entry per counted response.

    `rows` is the place of its row in train.jsonl (from 0), `prompts` the tokens before the response, `sequences` all
    tokens, and `typical` whether it is part of a sample of all responses. `unusable` has the reason for each row that
    can't be rendered or trained. `responses` and `conversations` count the data. `no_room` counts the rewriting prompts
    that leave no room for an answer, and `refused_prompts` those that the chat template refuses.
    """

    rows: Ints
    prompts: Ints
    sequences: Ints
    typical: npt.NDArray[np.bool_]
    unusable: Mapping[int, str]
    responses: int
    conversations: int
    no_room: int = 0
    refused_prompts: int = 0


@dataclass
class _Counts:
    """Fills the columns of `RowLengths`."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    prompts: array[int] = field(default_factory=lambda: array("q"))
    sequences: array[int] = field(default_factory=lambda: array("q"))
    typical: array[int] = field(default_factory=lambda: array("b"))
    unusable: dict[int, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, example: Example, renderer: Renderer, typical: bool) -> None:
        try:
            sequence = renderer.response_row(example.prompt, example.reference, example.thought)
        except RenderError as error:
            self.unusable.setdefault(row, str(error))
            return
        self.rows.append(row)
        self.prompts.append(sequence.trained.index(True))
        self.sequences.append(len(sequence.input_ids))
        self.typical.append(typical)


def measure_rows(
    context: Context, train: Path, progress: Callable[[int, int], None], replayed: bool = False
) -> RowLengths:
    """The lengths of the responses in `train`, a train.jsonl. All are counted, or of more than 100,000 the longest and
    a sample. Rewriting prompts are looked at too, unless the rows are `replayed`. Raises ModelError or RecipeError if
    tokenizer or configuration can't be read, if nothing marks the model's think traces, or if its template ignores
    tools that the rows have."""
    renderer, window = load_renderer(context.recipe.model), load_context_length(context.recipe.model)
    renderer.refuse_unmarked()
    rewriting = _rewriting(context, renderer, window) if needs_rewrites(context) and not replayed else None
    sizes = np.fromiter((_bytes(example) for _, example in examples_of(train)), np.int64)
    sampled = np.ones(len(sizes), np.bool_) if len(sizes) <= _COUNTED else draw(len(sizes), _SAMPLED, 0)
    wanted = sampled.copy()
    wanted[np.argsort(-sizes, kind="stable")[:_COUNTED]] = True
    counter, done, row = _Counts(), 0, -1
    for place, (row, example) in enumerate(examples_of(train)):
        renderer.refuse_tools(example.prompt)
        if not wanted[place]:
            continue
        if done % 1000 == 0:
            progress(done, int(wanted.sum()))
        done += 1
        counter.add(row, example, renderer, bool(sampled[place]))
        if rewriting:
            counter.asked[rewriting(example)] += 1
    return RowLengths(
        rows=np.array(counter.rows, np.int64),
        prompts=np.array(counter.prompts, np.int64),
        sequences=np.array(counter.sequences, np.int64),
        typical=np.array(counter.typical, np.bool_),
        unusable=counter.unusable,
        responses=len(sizes),
        conversations=row + 1,
        no_room=counter.asked["no room"],
        refused_prompts=counter.asked["refused"],
    )


def _rewriting(
    context: Context, renderer: Renderer, window: int | None
) -> Callable[[Example], Literal["fine", "no room", "refused"]]:
    """A function that tells whether an example's rewriting prompt can be asked. A prompt of few bytes has few tokens,
    so only long ones are tokenised."""
    answers = rewrites(context)
    rewriting, rewriter = load_renderer(answers.model, tokenizer=renderer.tokenizer), answers.rewriter

    def look(example: Example) -> Literal["fine", "no room", "refused"]:
        messages = rewriter.prompt(example).messages
        try:
            if window is None or len(rewriting.text(messages).encode()) < window:
                return "fine"
            return "no room" if len(rewriting.ids(messages)) >= window else "fine"
        except RenderError:
            return "refused"

    return look


def examples_of(train: Path) -> Iterator[tuple[int, Example]]:
    """Each response of a train.jsonl with the place of its row."""
    for row, conversation in enumerate(iter_conversations(train)):
        for example in conversation.examples():
            yield row, example


def _bytes(example: Example) -> int:
    texts = [*(text for _, text in shown_turns(example.prompt)), example.reference]
    texts += [example.thought.text] if example.thought else []
    return sum(len(text.encode()) for text in texts)


# ---- what the lengths mean for the arms


def unusable_rows(
    context: Context,
    arms: Iterable[str],
    lengths: RowLengths,
    train: Path,
    source: DataConfig,
    load: Load,
    drawn: npt.NDArray[np.bool_] | None = None,
) -> Iterator[tuple[bool, str]]:
    """A sentence about the rows that `arms` can't train on as they are, and whether the recipe allows that: then they
    are shortened or left out. `load` reads `source` again to say where these rows are. `drawn` marks the rows that are
    trained on, by default the draws of the arms."""
    window = load_context_length(context.recipe.model) or sys.maxsize
    named = partial(_named, train=train, source=source, load=load)
    groups: dict[tuple[int, bool], list[int]] = {}
    for arm in map(context.recipe.arms.__getitem__, arms):
        if arm.trained:
            settings = context.recipe.arm_train(arm)
            key = min(settings.max_length, window), settings.allow_unusable_rows
            groups.setdefault(key, []).append(arm.n or lengths.conversations)
    for (limit, allowed), sizes in groups.items():
        # A smaller draw is part of a larger one.
        among = draw(lengths.conversations, max(sizes), context.source.seed) if drawn is None else drawn
        long = np.flatnonzero((lengths.sequences > limit) & among[lengths.rows])
        if len(long):
            longest = long[np.argsort(-lengths.sequences[long], kind="stable")][:_NAMED]
            where = named({int(lengths.rows[i]): f"{lengths.sequences[i]:,} tokens" for i in longest})
            beyond = int(np.count_nonzero(lengths.sequences[long] > window))
            first = "Shorten these rows" if beyond == len(long) else "Raise train.max_length"
            first += f", shorten {counted(beyond, 'row')}" if 0 < beyond < len(long) else ""
            room = f" (the model's context has {window:,} tokens)" if window < sys.maxsize else ""
            advice = f"{first}{room}, or set train.allow_unusable_rows=true, which shortens them."
            done = (
                "They are shortened, or left out if no token to train on is left, because train.allow_unusable_rows is "
                "set."
            )
            yield (
                allowed,
                f"Training sequences of more than {limit:,} tokens: {len(long):,}, the longest is {where}. "
                f"{done if allowed else advice}",
            )
        if refused := {row: reason for row, reason in lengths.unusable.items() if among[row]}:
            where = named(dict(islice(refused.items(), _NAMED)))
            done = "They are left out, because train.allow_unusable_rows is set."
            advice = "Change these rows, or set train.allow_unusable_rows=true to leave them out."
            yield (
                allowed,
                f"{counted(len(refused), 'row')} can't be trained on ({where}). {done if allowed else advice}",
            )


def _named(rows: Mapping[int, str], train: Path, source: DataConfig, load: Load) -> str:
    """The rows by their place in the source, each with its text in `rows` and its first words."""
    texts = {row: found for row, found in enumerate(iter_conversations(train)) if row in rows}
    wanted, places, bad = {found.messages for found in texts.values()}, dict[Messages, int](), list[BadRow]()
    for number, conversation in enumerate(load(source, bad.append), 1):
        if conversation.messages in wanted:
            places.setdefault(conversation.messages, number + len(bad))
        if len(places) == len(wanted):
            break
    at, name = _places(source, {*places.values()}), Path(source.path).name
    named = []
    for row, text in rows.items():
        asked = next((message.content for message in texts[row].messages if message.role == "user"), "")
        words = " ".join(asked[:200].split())[:40]
        place = places.get(texts[row].messages)
        where = at.get(place, f"row {place} of {name}") if place else ""
        named.append(f"{where} ({text}: {words!r}…)" if where else f"training row {row + 1} ({text})")
    return "; ".join(named)


def _places(source: DataConfig, numbers: Set[int]) -> dict[int, str]:
    """Where the rows of a file with these numbers are, in the words of the messages on rows that can't be used, as in
    "rows.jsonl line 7". Empty for other sources."""
    if not Path(source.path).is_file():
        return {}
    read = islice(enumerate(read_rows(source), 1), max(numbers, default=0))
    return {number: where for number, (where, _) in read if number in numbers}
