"""The gap: the negative log-likelihood of the training responses under the seed model, in nats, before any training."""

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
"""A line of gap.jsonl: the example's id, `original` and `rewrite` as nll and tokens (null if the rewrite was not
accepted), and `chosen`, the one of the two to train on."""

OFF_DISTRIBUTION = 10
"""The number of most off-distribution responses to list."""
_QUANTILES = (0.05, 0.25, 0.75, 0.95)


def responses(rewrite: Rewrite, model: str) -> list[Example]:
    """The responses to score: the original, and the rewrite if it was accepted, both after the original prompt. An id
    is a digest of prompt, response and `model`, the model's identity."""
    example = rewrite.example
    texts = [example.reference, *([rewrite.response] if rewrite.source == "rewrite" else [])]
    prompt = messages_json(example.prompt)
    return [Example(content_id(prompt, text, model), example.prompt, text) for text in texts]


def gap_rows(rewrites: Iterable[Rewrite], model: str, rows: RowFile) -> Iterator[GapRow]:
    """One row per rewrite, with the scores in `rows`. Raises StageError if a score is missing."""
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
    """The likelihoods of one kind of response: the mean over tokens for each response, and for responses that could not
    be scored a count per reason."""

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
        """`nll`, `median` and `quantiles` are over responses; `token_nll` and `perplexity` are over tokens."""
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
    """The distributions of the originals, the accepted rewrites, and the responses that SDFT trains on."""

    def __init__(self) -> None:
        self.original, self.rewritten, self.chosen = Distribution(), Distribution(), Distribution()
        self._farthest: list[tuple[float, str]] = []

    def count(self, rows: Iterable[GapRow]) -> Iterator[GapRow]:
        """Pass the rows through and count them."""
        for row in rows:
            self.original.add(**row["original"])
            if row["rewrite"]:
                self.rewritten.add(**row["rewrite"])
            self.chosen.add(**row["original" if row["chosen"] == "original" else "rewrite"])
            if row["original"]["nll"] is not None:
                heapq.heappush(self._farthest, (row["original"]["nll"], row["id"]))
                if len(self._farthest) > OFF_DISTRIBUTION:
                    heapq.heappop(self._farthest)
            yield row

    def to_json(self) -> dict[str, Any]:
        return {
            "original": self.original.to_json(),
            "rewritten": self.rewritten.to_json(),
            "chosen": self.chosen.to_json(),
            "foreign": [row_id for _, row_id in sorted(self._farthest, reverse=True)],
        }


@dataclass(frozen=True)
class DatasetGap:
    """The gap of a dataset without rewriting: `rows` were drawn from `usable` rows, and `bad` rows can't be used.
    `original` is a `Distribution` as JSON, `off_distribution` the responses with the highest nll, highest first."""

    rows: int
    usable: int
    bad: int
    original: Mapping[str, Any]
    off_distribution: list[tuple[Scored, Example]]


def distribution_lines(counts: Mapping[str, Any]) -> list[str]:
    """A `Distribution` in words."""
    lines = []
    if counts["rows"]:
        spread = ", ".join(f"{value:.2f} at {float(share):.0%}" for share, value in counts["quantiles"].items())
        lines = [
            f"A token costs the model {counts['token_nll']:.2f} nats: perplexity {counts['perplexity']:.4g} over "
            f"{counts['tokens']:,} tokens of {counts['rows']:,} responses.",
            f"A response's mean: {counts['nll']:.2f} on average, median {counts['median']:.2f}; {spread}.",
        ]
    return lines + [f"{number:,} not scored: {reason}." for reason, number in counts["unscored"].items()]


def gap_sentence(counts: Mapping[str, Any]) -> str:
    """What the manifest counts of the stage `gap` come to."""
    original, chosen = counts["original"], counts["chosen"]
    if original["rows"] and chosen["rows"]:
        text = (
            f"the originals cost the seed {original['token_nll']:.2f} nats a token, the responses SDFT trains on "
            f"{chosen['token_nll']:.2f}"
        )
    else:
        text = "no response could be scored"
    for what, key in (("originals", "original"), ("rewrites", "rewritten")):
        for reason, number in counts[key]["unscored"].items():
            text += f"; of the {what} {number:,} not scored ({reason})"
    return text


@dataclass(frozen=True)
class Recorded:
    """A gap that was measured, in nats a token, and what training on these responses then cost on other tasks: how many
    of them were forgotten and by how many points on average, on the originals and on the rewrites."""

    model: str
    data: str
    original: float
    rewritten: float
    others: int = 0
    vanilla: tuple[int, float] = (0, 0.0)
    sdft: tuple[int, float] = (0, 0.0)


# From docs/log.md: the gaps are in "The demo seed" (mean NLL of a target token), what was forgotten is in "The demo
# with 800 rows". Nothing stands here that wasn't measured.
RECORD = (
    Recorded("the demo's seed", "demo-maths", 1.91, 0.06, others=8, vanilla=(8, 88.6), sdft=(4, 3.2)),
    Recorded("the demo's seed", "demo-tool", 3.06, 0.26),
)


def record_sentences() -> list[str]:
    """What such gaps have meant so far, and what that is worth."""
    sentences = []
    for run in RECORD:
        said = f"{run.data} under {run.model}: {run.original} nats a token as it is, {run.rewritten} rewritten"
        if run.others:
            said += (
                f". In one training run of each, after LoRA on the originals {run.vanilla[0]} of {run.others} other "
                f"tasks were forgotten, with a loss of {run.vanilla[1]} points on average over all {run.others}; on "
                f"the rewrites {run.sdft[0]} of {run.others}, with {run.sdft[1]} points over all {run.others}"
            )
        else:
            said += "; no training on record"
        sentences.append(said + " (docs/log.md).")
    return [
        *sentences,
        "All of that is one toy model in a synthetic world. It shows a direction, and no threshold for your model.",
        "The paper (arXiv 2402.13669, section 5.1, figures 7 and 8) finds that the larger the share of rewritten "
        "responses, the less the tuned model moves from the seed and the less it forgets. It gives no gap in nats.",
    ]
