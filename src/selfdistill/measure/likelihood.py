"""The likelihood of responses under a model: a forward pass over the tokens that have a loss in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import compress, islice
from typing import TYPE_CHECKING, Any

from ..backends.batches import TokenRow, batches, windows
from ..backends.hf import HFBackend
from ..errors import RenderError, StageError
from ..models.loading import context_length, free_memory, load_model, load_renderer, out_of_memory
from ..recipe import ModelConfig
from ..store.rows import RowFile, first_occurrences
from ..types import LOADING, Example, Report, Thought

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models.renderer import Renderer


OUT_OF_MEMORY = "out of memory"
_CPU_TOKENS = 2048  # per batch on a CPU; a batch that fits into the caches is 1.5 times as fast


@dataclass(frozen=True, slots=True)
class Scored:
    """`nll` is the mean negative log-likelihood in nats over a response's `tokens` tokens, with its end of turn.
    `values` has one value per token. If the response can't be scored, `nll` is None and `error` is the reason."""

    id: str
    nll: float | None
    tokens: int
    values: tuple[float, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without `values`."""
        row = {"id": self.id, "nll": self.nll, "tokens": self.tokens}
        return row if self.error is None else {**row, "error": self.error}


@dataclass(frozen=True)
class _Scorable(TokenRow):
    """The token ids of prompt and response; `start` is the index of the first token to score."""

    start: int


def score(
    examples: Iterable[Example],
    model: PreTrainedModel,
    renderer: Renderer,
    batch_tokens: int,
    done: Container[str] = (),
) -> Iterator[Scored]:
    """−log f_θ(y | c, x) of each example's `reference` given its `prompt` (eq. 2), and its think block if the model
    thinks, per token, in batches of at most `batch_tokens` tokens. In float32 it equals the loss of transformers for
    every batch size.

    Examples whose id is in `done` are skipped, but the batches are formed as if no example was skipped, so that a
    resumed run has the same values. If memory is full, the batch is halved. Raises any other error of the model.
    """
    context, budget = context_length(model.config), _budget(model, batch_tokens)
    for window in windows(examples):
        if all(example.id in done for example in window):
            continue
        rows, failed = _rows(window, renderer, context)
        for batch in batches(rows, budget):
            if any(row.id not in done for row in batch):
                yield from (scored for scored in _score(model, batch) if scored.id not in done)
        yield from (scored for scored in failed if scored.id not in done)


def score_tokens(sequences: Iterable[Sequence[int]], model: PreTrainedModel, batch_tokens: int) -> Iterator[Scored]:
    """−log f_θ of each token given the tokens before it, for sequences of token ids. `values` starts at the second
    token; the `id` is the index of the sequence. Raises what `score` raises."""
    rows = (_Scorable(str(place), list(ids), 0, 1) for place, ids in enumerate(sequences))
    for window in windows(rows):
        for batch in batches(window, _budget(model, batch_tokens)):
            yield from _score(model, batch)


@contextmanager
def loaded_to_score(config: ModelConfig) -> Iterator[PreTrainedModel]:
    """The model on its device in `score_dtype`, for likelihoods that decide the training data: a dtype chosen by the
    hardware would decide differently on other machines. Raises ModelError and StageError (too little memory)."""
    import torch

    try:
        model = load_model(config, dtype=getattr(torch, config.score_dtype)).eval()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise StageError(f"There is too little memory to score with the seed.{advice(config)}") from error
    try:
        yield model
    finally:
        del model
        free_memory()


def advice(config: ModelConfig) -> str:
    """The settings to change if scoring in `score_dtype` needs too much memory."""
    half = " Set model.score_dtype=bfloat16, which needs half the memory." if config.score_dtype == "float32" else ""
    return f"{half} Or lower model.batch_tokens, or set model.device=cpu."


def _budget(model: PreTrainedModel, batch_tokens: int) -> int:
    return min(batch_tokens, _CPU_TOKENS) if model.device.type == "cpu" else batch_tokens


def score_missing(
    examples: Callable[[], Iterable[Example]],
    model: ModelConfig,
    rows: RowFile,
    progress: Report,
    deciding: bool = False,
    adapter: str | None = None,
) -> None:
    """Append to `rows` the score of each example that has none yet; equal examples are scored once. If any is missing,
    the model is loaded: in `score_dtype` and without `adapter` if the scores are `deciding` the training data, else as
    for answering, with the adapter in the folder `adapter`. Raises ModelError, and for `deciding` scores StageError
    (too little memory)."""
    first = first_occurrences(example.id for example in examples())
    total = int(first.sum())
    missing = sum(example.id not in rows for example in compress(examples(), first))
    progress(total - missing, total)
    if not missing:
        return
    progress(total - missing, total, LOADING)
    with ExitStack() as stack:
        if deciding:
            loaded = stack.enter_context(loaded_to_score(model)), load_renderer(model)
        else:
            loaded = stack.enter_context(HFBackend(model, adapter)).loaded()
        scores = score(compress(examples(), first), *loaded, model.batch_tokens, done=rows)
        for done, scored in enumerate(scores, total - missing + 1):
            if deciding and scored.error == OUT_OF_MEMORY:
                raise StageError(f"There is too little memory to score a response.{advice(model)}")
            rows.append(scored.to_json())
            progress(done, total)


def _rows(examples: list[Example], renderer: Renderer, context: int | None) -> tuple[list[_Scorable], list[Scored]]:
    """The examples as token ids, and a `Scored` with an error for each example that can't be scored."""
    rows, failed = [], []
    for example in examples:
        try:
            rendered = renderer.response_row(example.prompt, example.reference, _untrained(example.thought))
        except RenderError as error:
            failed.append(Scored(example.id, None, 0, error=str(error)))
            continue
        start = max(rendered.trained.index(True), 1)  # nothing predicts the first token
        end = len(rendered.trained) - rendered.trained[::-1].index(True)
        if end == start:
            failed.append(Scored(example.id, None, 0, error="no token to score"))
        elif context is not None and end > context:
            failed.append(Scored(example.id, None, end - start, error="longer than the model's context"))
        else:
            rows.append(_Scorable(example.id, rendered.input_ids[:end], 0, start))
    return rows, failed


def _untrained(thought: Thought | None) -> Thought | None:
    """The thought as context: the answer is scored, given its trace."""
    return thought and replace(thought, trained=False)


def _score(model: PreTrainedModel, batch: list[_Scorable]) -> list[Scored]:
    try:
        values = _token_nlls(model, batch)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return [_scored(row, own) for row, own in zip(batch, values, strict=True)]
    # Outside the handler, whose traceback keeps the memory in use.
    free_memory()
    if len(batch) == 1:
        return [Scored(batch[0].id, None, len(batch[0].ids) - batch[0].start, error=OUT_OF_MEMORY)]
    half = (len(batch) + 1) // 2
    return _score(model, batch[:half]) + _score(model, batch[half:])


def _scored(row: _Scorable, values: list[float]) -> Scored:
    mean = math.fsum(values) / len(values)
    if not math.isfinite(mean):
        return Scored(row.id, None, len(values), error="no finite likelihood")
    return Scored(row.id, mean, len(values), tuple(values))


def _token_nlls(model: PreTrainedModel, batch: list[_Scorable]) -> list[list[float]]:
    """The negative log-likelihoods of each row's scored tokens. Rows are padded on the right, which causal attention
    does not see, so no mask is needed. Logits start one position before the first scored token of any row."""
    import torch
    from torch.nn.functional import cross_entropy

    longest, first = max(len(row.ids) for row in batch), min(row.start for row in batch)
    tokens = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in batch], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=longest - first + 1).logits
        parts = [
            # Position p of the logits predicts the token at `first` + p.
            cross_entropy(
                own[row.start - first : len(row.ids) - first].float(), ids[row.start : len(row.ids)], reduction="none"
            )
            for row, own, ids in zip(batch, logits, tokens, strict=True)
        ]
        values = iter(torch.cat(parts).tolist())  # one transfer from the device
    return [list(islice(values, len(part))) for part in parts]
