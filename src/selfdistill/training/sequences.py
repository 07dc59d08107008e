"""Turn responses into the token sequences to train on. Each is rendered once and checked before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import DataError, RenderError, StageError
from ..types import Example, Thought, messages_from_json, messages_json

if TYPE_CHECKING:
    import numpy as np

    from ..measure.likelihood import Scored
    from ..models.renderer import Renderer, TrainingRow

IGNORED = -100
"""The label of a token without a loss."""
_LISTED = 10


@dataclass
class TrainingData:
    """Sequences of token ids, and labels: the id for a token with a loss, `IGNORED` for the other tokens.

    Each of the `rows` is one response with its prompt, and one sequence unless it was `dropped`. `too_long` rows
    exceeded the limit: `cut` of them were shortened, the rest are counted in `dropped`. `untrained` rows had no token
    to train on. `mask_unlikely` removed the loss of `masked_tokens` tokens; `masked_rows` rows have no loss left.
    """

    rows: int = 0
    input_ids: list[np.ndarray[Any, Any]] = field(default_factory=list)
    labels: list[np.ndarray[Any, Any]] = field(default_factory=list)
    too_long: int = 0
    untrained: int = 0
    cut: int = 0
    dropped: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    masked_tokens: int = 0
    masked_rows: int = 0

    def add(self, row: TrainingRow, limit: int) -> None:
        """Add the row's first `limit` tokens, or drop the row if none of these tokens is trained."""
        import numpy as np

        ids = np.asarray(row.input_ids[:limit], dtype=np.int32)
        trained = np.asarray(row.trained[:limit], dtype=bool)
        if not trained[1:].any():  # nothing predicts the first token
            self.dropped += 1
            return
        self.cut += len(row.input_ids) > limit
        self.input_ids.append(ids)
        self.labels.append(np.where(trained, ids, IGNORED).astype(np.int32))
        self.tokens += len(ids)
        self.trained_tokens += int(trained[1:].sum())

    def counts(self) -> dict[str, Any]:
        counted = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        return {"sequences": len(self.input_ids), **counted}


def prepare(examples: Iterable[Example], renderer: Renderer, limit: int, allow_unusable: bool) -> TrainingData:
    """Render each example: `prompt`, then its think block if the model thinks, then `reference`, which is trained on. A
    sequence has at most `limit` tokens.

    Raises DataError if there are no rows, and StageError if rows are too long or have no token to train on and
    `allow_unusable` is False, or if no row is left.
    """
    data = TrainingData()
    listed: list[str] = []
    for example in examples:
        data.rows += 1
        row, reason = None, ""
        try:
            row = renderer.response_row(example.prompt, example.reference, example.thought)
        except RenderError as error:
            reason = str(error)
        if row is None or not any(row.trained[1:]):
            data.untrained += 1
            reason = reason or "no token to train on"
        elif len(row.input_ids) > limit:
            data.too_long += 1
            reason = f"{len(row.input_ids):,} tokens"
        if reason and len(listed) < _LISTED:
            first_words = " ".join(example.instruction[:200].split())[:40]
            listed.append(f"response {data.rows} ({reason}: {first_words!r})")
        if row is None:
            data.dropped += 1
        else:
            data.add(row, limit)
    if not data.rows:
        raise DataError("There are no rows to train on; check the recipe's data and the arm's n.")
    unusable = data.too_long + data.untrained
    if unusable and not allow_unusable:
        more = f", and {unusable - len(listed)} more" if unusable > len(listed) else ""
        raise StageError(
            f"{unusable} training rows can't be used ({data.too_long} over the limit of {limit:,} tokens, "
            f"{data.untrained} without a token to train on): {'; '.join(listed)}{more}. Raise train.max_length (up to "
            "the model's context), fix the data, or set train.allow_unusable_rows=true to shorten or drop these rows."
        )
    if not data.input_ids:
        raise StageError(
            f"None of the {data.rows} rows has a token to train on within {limit:,} tokens; raise train.max_length or "
            "check the data."
        )
    return data


def mask_unlikely(data: TrainingData, scores: Iterable[Scored], above: float) -> None:
    """Remove the loss of tokens whose negative log-likelihood is over `above` nats (Selective Token Masking, Wu et al.
    2025, arXiv 2501.14315). `scores` has one entry per sequence. Raises StageError if a sequence has no score, or if no
    token with a loss is left."""
    import numpy as np

    for scored in scores:
        labels = data.labels[int(scored.id)]
        if len(scored.values) != len(labels) - 1:
            raise StageError(
                f"The tokens of row {scored.id} can't be scored ({scored.error}), so train.mask_above can't be "
                "applied; lower model.batch_tokens or train.max_length, or set model.score_dtype=bfloat16."
            )
        masked = (np.asarray(scored.values) > above) & (labels[1:] != IGNORED)
        labels[1:][masked] = IGNORED
        data.masked_tokens += int(masked.sum())
        data.masked_rows += bool((labels[1:] == IGNORED).all())
    data.trained_tokens -= data.masked_tokens
    if not data.trained_tokens:
        raise StageError(f"train.mask_above={above:g} leaves no token to train on; raise it (ln 2.5 = 0.916 is usual).")


def trained_row(example: Example, response: str, source: str, thought: Thought | None = None) -> dict[str, Any]:
    """A line of an arm's data.jsonl: the response to train on, the prompt before it, the source of the response, and
    for a model that thinks its think block."""
    row = {"id": example.id, "source": source, "prompt": messages_json(example.prompt), "response": response}
    return row if thought is None else {**row, "thought": thought.to_json()}


def trained_example(row: dict[str, Any]) -> Example:
    """The example to train on, from a row that `trained_row` returned."""
    thought = Thought(**row["thought"]) if "thought" in row else None
    return Example(row["id"], messages_from_json(row["prompt"]), row["response"], thought=thought)


def hashed(examples: Iterable[Example], digest: hashlib.blake2b) -> Iterator[Example]:
    """Yield the examples unchanged, and add the prompt, the response and the thought of each example to `digest`."""
    for example in examples:
        thought = [example.thought.to_json()] if example.thought else []
        digest.update(json.dumps([messages_json(example.prompt), example.reference, *thought]).encode() + b"\n")
        yield example
