"""The input and the output of a shift metric, and bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from ...backends.batches import TokenRow
from ...backends.prefill import padded
from ...errors import ExperimentError, SelfDistillError
from ...models.loading import load_model, load_renderer
from ...models.renderer import Renderer
from ...recipe import ModelConfig
from ...types import Completion, Grade, Prompt

if TYPE_CHECKING:
    import torch

_RESAMPLES = 9_999
_PIECE = 250  # resamples at a time, which bounds the memory
_NAMED = 3


class UnmeasuredError(SelfDistillError):
    """A metric can't be measured here; the message gives the reason and the next step."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """The seed's and the tuned model's answers to one prompt, and their grades if the task has a grader."""

    id: str
    seed: str
    tuned: str
    grades: tuple[Grade, Grade] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with the seed's own answer to it."""

    prompt: Prompt
    answer: Completion


class ModelPair(Protocol):
    """The seed and a tuned model whose distributions are compared."""

    config: ModelConfig
    renderer: Renderer
    tuned: Any

    def logits(self, rows: Sequence[TokenRow], keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The seed's and the tuned model's logits at the last `keep` positions of each row, each of shape (rows, keep,
        vocabulary)."""


def last_logits(model: Any, inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], keep: int) -> torch.Tensor:
    """A model's logits at the last `keep` positions of rows that are `padded`, of shape (rows, keep, vocabulary)."""
    import torch

    tokens, mask, positions = inputs
    with torch.inference_mode():
        logits: torch.Tensor = model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, logits_to_keep=keep, use_cache=False
        ).logits
    return logits


class BothModels:
    """The seed and the tuned model. With an adapter they share one set of weights. Raises ModelError."""

    def __init__(self, seed: ModelConfig, tuned: ModelConfig, adapter: str | None) -> None:
        self.config = seed
        self.renderer = load_renderer(seed)
        self.tuned: Any = load_model(tuned, adapter).eval()
        self.seed: Any = None if adapter else load_model(seed).eval()

    def logits(self, rows: Sequence[TokenRow], keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ModelPair`."""
        inputs = padded(rows, self.tuned.device)
        tuned = last_logits(self.tuned, inputs, keep)
        if self.seed is not None:
            return last_logits(self.seed, inputs, keep), tuned
        with self.tuned.disable_adapter():
            return last_logits(self.tuned, inputs, keep), tuned


@dataclass(frozen=True)
class Compared:
    """A tuned run and the seed.

    `pairs` are the texts to compare. The distributions are compared on `samples`, the seed's answers to the same
    prompts, and on `on_target`, the seed's answers to the target task's prompts if the target is a different task.
    `tuned` is the tuned model, or the seed if `adapter` is the folder of an adapter for the seed. `unlike` is the
    reason if only the texts can be compared; it is empty for models of one kind.
    """

    pairs: Sequence[AnswerPair]
    seed: ModelConfig
    tuned: ModelConfig
    adapter: str | None
    embedding: str = "sentence-transformers/all-MiniLM-L6-v2"
    samples: Sequence[Sample] = ()
    on_target: Sequence[Sample] = ()
    unlike: str = ""

    @cached_property
    def models(self) -> BothModels:
        """Loaded at first use and freed with this object. Raises ModelError."""
        return BothModels(self.seed, self.tuned, self.adapter)


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's `figures` (`mean`, its 95 % interval `low` to `high`, and others) and its value for each prompt."""

    figures: Mapping[str, Any]
    values: Sequence[float] = ()


def averaged(values: Sequence[float], **others: Any) -> Measured:
    """The mean over prompts with a bootstrap interval. Raises UnmeasuredError if there are no values."""
    mean, low, high = ratio(values, [1.0] * len(values))
    return Measured({"mean": mean, "low": low, "high": high, **others}, list(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Σ over / Σ under and its 95 % interval by a percentile bootstrap over prompts (Efron and Tibshirani 1993, chapter
    13); a single prompt has no interval. The bootstrap is seeded. Raises UnmeasuredError if there are no values, or if
    one is not finite."""
    import numpy as np

    n, table = len(over), np.array([over, under], dtype=float).T
    if n == 0 or table[:, 1].sum() == 0:
        raise UnmeasuredError("No prompt has an answer from both models; run `selfdistill evaluate` again.")
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
    """Raise ExperimentError if one model answered prompts that the other did not; the message names them."""
    differences = [
        f"{len(ids)} only by {name} ({', '.join(ids[:_NAMED])}{', …' if len(ids) > _NAMED else ''})"
        for name, own, other in (("the seed", seed, tuned), (run, tuned, seed))
        if (ids := [key for key in own if key not in other])
    ]
    if differences:
        raise ExperimentError(
            f"{run} and the seed answered different prompts of {task}, so they can't be compared: "
            f"{' and '.join(differences)}. Delete the wrong answers to {task} and run `selfdistill evaluate` again."
        )
