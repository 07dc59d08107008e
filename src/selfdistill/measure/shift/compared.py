"""What the metrics compare, and what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ExperimentError, SelfDistillError
from ...recipe import ModelConfig
from ...types import Completion, Grade, Prompt

if TYPE_CHECKING:
    from .kl import BothModels

_RESAMPLES = 9_999
_PIECE = 250  # resamples at a time, so that memory stays bounded
_NAMED = 3


class UnmeasuredError(SelfDistillError):
    """A metric that can't be measured here; the sentence says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The seed's and the tuned model's answers to one prompt, and where there are any their grader's grades."""

    id: str
    seed: str
    tuned: str
    grades: tuple[Grade, Grade] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with the seed's own answer to it."""

    prompt: Prompt
    answer: Completion


@dataclass(frozen=True)
class Compared:
    """A tuned run against the seed.

    `pairs` are the texts; `samples` the seed's answers on which the distributions are compared (to the same prompts),
    and `on_target` those to the target task's prompts where that is another task. `tuned` is the tuned weights, or the
    seed's with an `adapter` folder over them.
    """

    pairs: Sequence[Pair]
    seed: ModelConfig
    tuned: ModelConfig
    adapter: str | None
    embedding: str = "sentence-transformers/all-MiniLM-L6-v2"
    samples: Sequence[Sample] = ()
    on_target: Sequence[Sample] = ()

    @cached_property
    def models(self) -> BothModels:
        """Loaded at first use, and freed with this object."""
        from .kl import BothModels

        return BothModels(self.seed, self.tuned, self.adapter)


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's figures (`mean`, its 95 % interval `low` and `high`, others of its own), and one value a prompt."""

    figures: Mapping[str, Any]
    values: Sequence[float] = field(default=())


def averaged(values: Sequence[float], **others: Any) -> Measured:
    """The mean over prompts, with a bootstrap interval. Raises UnmeasuredError where there are none."""
    mean, low, high = ratio(values, [1.0] * len(values))
    return Measured({"mean": mean, "low": low, "high": high, **others}, list(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Σ over / Σ under, with the percentiles of a bootstrap over prompts (Efron and Tibshirani 1993, chapter 13); no
    interval of a single prompt. Seeded: the same values give the same interval. Raises UnmeasuredError where there are
    no values."""
    import numpy as np

    n, table = len(over), np.array([over, under], dtype=float).T
    if n == 0 or table[:, 1].sum() == 0:
        raise UnmeasuredError("No prompt has an answer of both models.")
    if not np.isfinite(table).all():
        raise UnmeasuredError("Some values are not finite; look at the tuned model's answers and its training log.")
    mean = float(table[:, 0].sum() / table[:, 1].sum())
    if n < 2:
        return mean, None, None
    rng, draws = np.random.default_rng(0), []
    for start in range(0, _RESAMPLES, _PIECE):
        size = min(_PIECE, _RESAMPLES - start)
        sums = rng.multinomial(n, np.full(n, 1 / n), size=size) @ table
        draws.append(sums[:, 0] / np.where(sums[:, 1] == 0, np.nan, sums[:, 1]))
    low, high = np.nanpercentile(np.concatenate(draws), [2.5, 97.5])
    return mean, min(float(low), mean), max(float(high), mean)


def check_same_prompts(seed: Mapping[str, Any], tuned: Mapping[str, Any], run: str, task: str) -> None:
    """Raises ExperimentError that names what only one of the two has answered."""
    lacking = [(name, [key for key in has if key not in other]) for name, has, other in (
        ("the seed", seed, tuned), (run, tuned, seed)
    )]  # fmt: skip
    said = [
        f"{len(ids)} only by {name} ({', '.join(ids[:_NAMED])}{', …' if len(ids) > _NAMED else ''})"
        for name, ids in lacking
        if ids
    ]
    if said:
        raise ExperimentError(
            f"{run} and the seed answered other prompts of {task}, so they can't be compared: {' and '.join(said)}; "
            f"delete the answers to {task} of the one that is wrong, and evaluate again."
        )
