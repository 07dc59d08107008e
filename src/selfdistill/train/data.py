"""From conversations to the sequences that training sees: rendered once, checked before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import DataError, RenderError, StageError
from ..types import Messages, messages_json

if TYPE_CHECKING:
    import numpy as np

    from ..prompts import Renderer, TrainingRow
    from ..scoring import Scored

IGNORED = -100
"""The label of a token that no loss is taken on."""
_LISTED = 10


@dataclass
class TrainingData:
    """Sequences of token ids, and labels that are the ids where loss is taken and `IGNORED` elsewhere.

    A conversation is one sequence, or several where its template changes earlier turns. `too_long` sequences were over
    the limit: `cut` of them were shortened, the others are among the `dropped`. `untrained` ones had no trained token.
    `masked_tokens` have lost their loss to `mask_unlikely`.
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

    def add(self, row: TrainingRow, limit: int) -> None:
        """Takes in the row's first `limit` tokens, or drops it where none of them is trained."""
        import numpy as np

        ids = np.asarray(row.input_ids[:limit], dtype=np.int32)
        trained = np.asarray(row.trained[:limit], dtype=bool)
        if not trained[1:].any():  # the first token is predicted from nothing
            self.dropped += 1
            return
        self.cut += len(row.input_ids) > limit
        self.input_ids.append(ids)
        self.labels.append(np.where(trained, ids, IGNORED).astype(np.int32))
        self.tokens += len(ids)
        self.trained_tokens += int(trained[1:].sum())

    def counts(self) -> dict[str, Any]:
        names = ("rows", "tokens", "trained_tokens", "too_long", "untrained", "cut", "dropped", "masked_tokens")
        return {"sequences": len(self.input_ids), **{name: getattr(self, name) for name in names}}


def prepare(conversations: Iterable[Messages], renderer: Renderer, limit: int, allow_unusable: bool) -> TrainingData:
    """Renders every conversation. `limit` is the most tokens a sequence may have.

    Raises DataError where there is nothing to train on, StageError where rows are too long or train nothing and that
    is not allowed, or where no row is left.
    """
    data = TrainingData()
    listed: list[str] = []
    for index, messages in enumerate(conversations):
        data.rows += 1
        for row, reason in _rendered(messages, renderer):
            if row is None or not any(row.trained[1:]):
                data.untrained += 1
                reason = reason or "no token to train on"
            elif len(row.input_ids) > limit:
                data.too_long += 1
                reason = f"{len(row.input_ids):,} tokens"
            if reason and len(listed) < _LISTED:
                listed.append(f"row {index} ({reason}: {_first_words(messages)})")
            if row is None:
                data.dropped += 1
            else:
                data.add(row, limit)
    if not data.rows:
        raise DataError("There are no rows to train on; check the arm's data.")
    unusable = data.too_long + data.untrained
    if unusable and not allow_unusable:
        more = f", and {unusable - len(listed)} more" if unusable > len(listed) else ""
        raise StageError(
            f"{unusable} training rows are not usable as they are ({data.too_long} over the limit of {limit:,} tokens, "
            f"{data.untrained} that can't be trained): {'; '.join(listed)}{more}. Raise train.max_length (up to "
            "the model's context), mend the data, or set train.allow_unusable_rows=true to cut and drop them."
        )
    if not data.input_ids:
        raise StageError(
            f"None of the {data.rows} rows has a token to train on within {limit:,} tokens; raise train.max_length or "
            "check the data."
        )
    return data


def mask_unlikely(data: TrainingData, scores: Iterable[Scored], above: float) -> None:
    """Takes the loss off the tokens whose negative log-likelihood is `above` so many nats, by the `scores` of the
    sequences' tokens (Selective Token Masking, Wu et al. 2025, arXiv 2501.14315). Raises StageError."""
    import numpy as np

    for scored in scores:
        labels = data.labels[int(scored.id)]
        if len(scored.values) != len(labels) - 1:
            raise StageError(
                f"The tokens of sequence {scored.id} can't be scored ({scored.error}), so train.mask_above can't be "
                "applied; lower model.batch_tokens or train.max_length."
            )
        masked = (np.asarray(scored.values) > above) & (labels[1:] != IGNORED)
        labels[1:][masked] = IGNORED
        data.masked_tokens += int(masked.sum())
    data.trained_tokens -= data.masked_tokens
    if not data.trained_tokens:
        raise StageError(f"train.mask_above={above:g} leaves no token to train on; raise it (ln 2.5 = 0.916 is usual).")


def hashed(conversations: Iterable[Messages], digest: hashlib.blake2b) -> Iterator[Messages]:
    """Passes `conversations` through, and their content into `digest`."""
    for messages in conversations:
        digest.update(json.dumps(messages_json(messages), ensure_ascii=True).encode() + b"\n")
        yield messages


def _rendered(messages: Messages, renderer: Renderer) -> Iterable[tuple[TrainingRow | None, str | None]]:
    """The conversation's sequences, or None with the reason if it can't be trained."""
    if not any(message.role == "assistant" for message in messages):
        return [(None, None)]
    try:
        return [(row, None) for row in renderer.training_rows(messages)]
    except RenderError as error:
        return [(None, str(error))]


def _first_words(messages: Messages) -> str:
    text = next((message.content for message in messages if message.role == "user"), "")
    words = " ".join(text[:200].split())
    return repr(words if len(words) <= 40 else words[:39] + "…")
