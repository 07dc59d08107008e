"""The gap between a model and the responses that it will train on: their negative log-likelihood before training."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StageError
from ..store.rows import RowFile
from ..types import Example, Rewrite, content_id, messages_json
from .likelihood import Scored

GapRow = dict[str, Any]
"""A line of gap.jsonl: an example's id, `original` and `rewrite` as nll and tokens (null if the rewrite was not
accepted), and which of the two is `chosen` for training."""

OFF_DISTRIBUTION = 10
"""The number of responses that are listed as furthest from the model's distribution."""
_QUANTILES = (0.05, 0.25, 0.75, 0.95)


def responses(rewrite: Rewrite, model: str) -> list[Example]:
    """The responses to score: the original and, if it was accepted, the rewrite. Both follow the data's own earlier
    turns. The id of a response is a digest of prompt, text and `model`, the model's identity."""
    example = rewrite.example
    texts = [(example.reference, example.thought)]
    if rewrite.source == "rewrite":
        texts.append((rewrite.response, rewrite.completion.thought))
    prompt = messages_json(example.prompt)
    return [
        Example(
            content_id(prompt, text, model, *([thought.text] if thought else [])), example.prompt, text, {}, thought
        )
        for text, thought in texts
    ]


def gap_rows(rewrites: Iterable[Rewrite], model: str, rows: RowFile) -> Iterator[GapRow]:
    """Yields the lines of gap.jsonl. Raises StageError if `rows` lacks a score."""
    for rewrite in rewrites:
        original, *rewritten = [_read(rows, example) for example in responses(rewrite, model)]
        yield {
            "id": rewrite.example.id,
            "original": original,
            "rewrite": rewritten[0] if rewritten else None,
            "chosen": rewrite.source,
        }


def _read(rows: RowFile, example: Example) -> GapRow:
    row = rows.get(example.id)
    if row is None:
        raise StageError(f"{rows.path} lacks the score of {example.id}; run `selfdistill rewrite` again.")
    return {key: value for key, value in row.items() if key != "id"}


@dataclass
class Distribution:
    """The scores of one kind of response. A row's score is the mean over its tokens; rows that could not be scored are
    counted by reason."""

    nlls: array[float] = field(default_factory=lambda: array("d"))
    tokens: int = 0
    nats: float = 0.0
    unscored: Counter[str] = field(default_factory=Counter)

    def add(self, nll: float | None, tokens: int, error: str | None = None) -> None:
        if nll is None:
            self.unscored[error or "not scored"] += 1
            return
        self.nlls.append(nll)
        self.tokens += tokens
        self.nats += nll * tokens

    def to_json(self) -> dict[str, Any]:
        """`nll`, `median` and `quantiles` are over rows; `token_nll` and `perplexity` are over tokens."""
        counts = {"rows": len(self.nlls), "tokens": self.tokens, "unscored": dict(self.unscored.most_common())}
        if not self.nlls:
            return {**dict.fromkeys(("nll", "median", "token_nll", "perplexity"), None), "quantiles": {}, **counts}
        values, token_nll = np.frombuffer(self.nlls), self.nats / self.tokens
        quantiles = zip(_QUANTILES, np.quantile(values, _QUANTILES).tolist(), strict=True)
        return {
            "nll": float(values.mean()),
            "median": float(np.median(values)),
            "token_nll": token_nll,
            "perplexity": math.exp(min(token_nll, 700.0)),
            "quantiles": {f"{share:g}": value for share, value in quantiles},
            **counts,
        }


class Gap:
    """Counts three kinds of responses: the originals, the accepted rewrites, and those chosen for training."""

    def __init__(self) -> None:
        self.original, self.rewritten, self.chosen = Distribution(), Distribution(), Distribution()
        self._furthest: list[tuple[float, str]] = []

    def count(self, rows: Iterable[GapRow]) -> Iterator[GapRow]:
        for row in rows:
            self.original.add(**row["original"])
            if row["rewrite"]:
                self.rewritten.add(**row["rewrite"])
            self.chosen.add(**row["original" if row["chosen"] == "original" else "rewrite"])
            if row["original"]["nll"] is not None:
                heapq.heappush(self._furthest, (row["original"]["nll"], row["id"]))
                if len(self._furthest) > OFF_DISTRIBUTION:
                    heapq.heappop(self._furthest)
            yield row

    def to_json(self) -> dict[str, Any]:
        return {
            "original": self.original.to_json(),
            "rewritten": self.rewritten.to_json(),
            "chosen": self.chosen.to_json(),
            "off_distribution": [row_id for _, row_id in sorted(self._furthest, reverse=True)],
        }


@dataclass(frozen=True)
class DatasetGap:
    """The gap of an unchanged dataset: `rows` drawn from `usable` rows (`bad` rows can't be used), their distribution,
    and the responses that are furthest off the model's distribution, the furthest first."""

    rows: int
    usable: int
    bad: int
    original: Mapping[str, Any]
    off_distribution: list[tuple[Scored, Example]]
