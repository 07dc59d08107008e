"""Sentences about the gap before training: how unlikely the training responses are under the seed model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..types.wording import counted, per_cent


def distribution_lines(counts: Mapping[str, Any]) -> list[str]:
    """A `measure.gap.Distribution` in words."""
    lines = []
    if counts["rows"]:
        spread = ", ".join(
            f"{value:.2f} at {per_cent(float(share), 0)}" for share, value in counts["quantiles"].items()
        )
        lines = [
            f"Mean per token: {counts['token_nll']:.2f} nats, perplexity {counts['perplexity']:.4g}, over "
            f"{counted(counts['tokens'], 'token')} of {counted(counts['rows'], 'response')}.",
            f"Mean per response: {counts['nll']:.2f} nats on average, median {counts['median']:.2f}; {spread}.",
        ]
    return lines + [f"{number:,} not scored: {reason}." for reason, number in counts["unscored"].items()]


def gap_sentence(counts: Mapping[str, Any]) -> str:
    """The counts of the stage `gap` in words."""
    original, chosen = counts["original"], counts["chosen"]
    text, rewritten = "no response could be scored", counts["rewritten"]
    rewrites = f"the kept rewrites {rewritten['token_nll']:.2f}, " if rewritten["rows"] else ""
    if original["rows"] and chosen["rows"]:
        text = (
            f"under the seed, the originals cost {original['token_nll']:.2f} nats per token, {rewrites}the responses "
            f"that SDFT trains on {chosen['token_nll']:.2f}"
        )
    for name, key in (("originals", "original"), ("rewrites", "rewritten")):
        for reason, number in counts[key]["unscored"].items():
            text += f"; {number:,} of the {name} not scored ({reason})"
    return text


@dataclass(frozen=True)
class RecordedGap:
    """A measured gap in nats per token, and the forgetting after training on these responses: how many of the `others`
    tasks were forgotten, and the mean loss in points, for training on the originals (`vanilla`) and on the rewrites."""

    model: str
    data: str
    original: float
    rewritten: float
    others: int = 0
    vanilla: tuple[int, float] = (0, 0.0)
    sdft: tuple[int, float] = (0, 0.0)


# From "The demo" in docs/log.md. Only measured numbers may stand here.
RECORD = (
    RecordedGap("the demo's seed", "demo-maths", 1.25, 0.17, others=8, vanilla=(8, 77.2), sdft=(3, 4.9)),
    RecordedGap("the demo's seed", "demo-tool", 3.06, 0.26),
)


def record_sentences() -> list[str]:
    """The consequences of such gaps in recorded runs, and how far they can be trusted."""
    sentences = []
    for run in RECORD:
        said = (
            f"{run.data} under {run.model}: {run.original} nats per token for the originals, {run.rewritten} rewritten"
        )
        if run.others:
            said += (
                f". Over three LoRA runs on the originals, {run.vanilla[0]} of {run.others} other tasks were "
                f"forgotten, with a mean loss of {run.vanilla[1]} points over all {run.others}; over three runs on the "
                f"rewrites, {run.sdft[0]} of {run.others}, with {run.sdft[1]} points over all {run.others}"
            )
        else:
            said += "; no training on record"
        sentences.append(said + " (docs/log.md).")
    return [
        *sentences,
        "All of these numbers are from one toy model in a synthetic world. They show a direction, not a threshold for "
        "your model.",
        "The paper (arXiv 2402.13669, section 5.1, figures 7 and 8) finds that the larger the share of rewritten "
        "responses, the less the tuned model moves from the seed and the less it forgets. It reports no gap in nats.",
    ]
