"""How likely a model finds given responses: a forward pass over just the tokens that training takes its loss on."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import compress, islice
from typing import TYPE_CHECKING, Any

from ..backends.batches import Row, batches, windows
from ..backends.hf import HFBackend
from ..errors import RenderError, StageError
from ..models.loading import context_length, free_memory, load_model, load_renderer, out_of_memory
from ..recipe import ModelConfig
from ..store.rows import RowFile, first_occurrences
from ..types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models.renderer import Renderer


OUT_OF_MEMORY = "out of memory"
_CPU_TOKENS = 2048  # a batch for a CPU: what stays in its caches is half as fast again


@dataclass(frozen=True, slots=True)
class Scored:
    """`nll` is the mean negative log-likelihood in nats of a response's `tokens` tokens, its end of turn included, and
    `values` that of each of them. Of a response that can't be scored `nll` is None, and `error` says why."""

    id: str
    nll: float | None
    tokens: int
    values: tuple[float, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without `values`."""
        row = {"id": self.id, "nll": self.nll, "tokens": self.tokens}
        return row if self.error is None else {**row, "error": self.error}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Scored:
        return cls(**row)


@dataclass(frozen=True)
class _Row(Row):
    """Prompt and response; `start` is the place of the first token to score."""

    start: int


def score(
    examples: Iterable[Example],
    model: PreTrainedModel,
    renderer: Renderer,
    batch_tokens: int,
    done: Container[str] = (),
) -> Iterator[Scored]:
    """−log f_θ(y | c, x) of each example's `reference` given its `prompt` (eq. 2), a token at a time, in batches of at
    most `batch_tokens` tokens. In fp32 it is the loss of transformers, whatever the batch.

    Those whose id is in `done` are left out, but shape the batches as if they weren't, so that what was interrupted
    goes on with the same figures. Raises what the model raises, but for too little memory: then the batch is halved.
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
    """−log f_θ of each token of sequences of token ids, given those before it: `values` from the second token on. The
    `id` is the sequence's place. Raises as `score` does."""
    rows = (_Row(str(place), list(ids), 0, 1) for place, ids in enumerate(sequences))
    for window in windows(rows):
        for batch in batches(window, _budget(model, batch_tokens)):
            yield from _score(model, batch)


@contextmanager
def loaded_to_score(config: ModelConfig) -> Iterator[PreTrainedModel]:
    """The model on its device in `score_dtype`, for likelihoods that decide what is trained: a dtype that followed the
    hardware would decide otherwise elsewhere. Raises ModelError, and StageError if there is too little memory."""
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
    """What to set if scoring in `score_dtype` takes too much memory."""
    half = " Set model.score_dtype=bfloat16, which takes half of it." if config.score_dtype == "float32" else ""
    return f"{half} Or lower model.batch_tokens, or set model.device=cpu."


def _budget(model: PreTrainedModel, batch_tokens: int) -> int:
    return min(batch_tokens, _CPU_TOKENS) if model.device.type == "cpu" else batch_tokens


def score_missing(
    examples: Callable[[], Iterable[Example]],
    model: ModelConfig,
    rows: RowFile,
    progress: Callable[[int, int], None],
    deciding: bool = False,
) -> None:
    """Appends to `rows` the score of each example, of which several may be the same, that isn't there yet. The model is
    loaded if there is one: as it answers, or for `deciding` scores in its `score_dtype`. Raises ModelError, and for
    deciding scores StageError if there is too little memory."""
    first = first_occurrences(example.id for example in examples())
    total = int(first.sum())
    missing = sum(example.id not in rows for example in compress(examples(), first))
    progress(total - missing, total)
    if not missing:
        return
    with ExitStack() as stack:
        if deciding:
            loaded = stack.enter_context(loaded_to_score(model)), load_renderer(model)
        else:
            loaded = stack.enter_context(HFBackend(model)).loaded()
        scores = score(compress(examples(), first), *loaded, model.batch_tokens, done=rows)
        for done, scored in enumerate(scores, total - missing + 1):
            if deciding and scored.error == OUT_OF_MEMORY:
                raise StageError(f"There is too little memory to score a response.{advice(model)}")
            rows.append(scored.to_json())
            progress(done, total)


def _rows(examples: list[Example], renderer: Renderer, context: int | None) -> tuple[list[_Row], list[Scored]]:
    """The examples as token ids; and an error for each that can't be rendered or is longer than the model's context."""
    rows, failed = [], []
    for example in examples:
        try:
            rendered = renderer.response_row(example.prompt, example.reference)
        except RenderError as error:
            failed.append(Scored(example.id, None, 0, error=str(error)))
            continue
        start = max(rendered.trained.index(True), 1)  # the first token is predicted from nothing
        end = len(rendered.trained) - rendered.trained[::-1].index(True)
        if end == start:
            failed.append(Scored(example.id, None, 0, error="no token to score"))
        elif context is not None and end > context:
            failed.append(Scored(example.id, None, end - start, error="longer than the model's context"))
        else:
            rows.append(_Row(example.id, rendered.input_ids[:end], 0, start))
    return rows, failed


def _score(model: PreTrainedModel, batch: list[_Row]) -> list[Scored]:
    try:
        values = _token_nlls(model, batch)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return [_scored(row, own) for row, own in zip(batch, values, strict=True)]
    # Below the handler, whose traceback would hold on to the memory that is to be freed.
    free_memory()
    if len(batch) == 1:
        return [Scored(batch[0].id, None, len(batch[0].ids) - batch[0].start, error=OUT_OF_MEMORY)]
    half = (len(batch) + 1) // 2
    return _score(model, batch[:half]) + _score(model, batch[half:])


def _scored(row: _Row, values: list[float]) -> Scored:
    mean = math.fsum(values) / len(values)
    if not math.isfinite(mean):
        return Scored(row.id, None, len(values), error="no finite likelihood")
    return Scored(row.id, mean, len(values), tuple(values))


def _token_nlls(model: PreTrainedModel, batch: list[_Row]) -> list[list[float]]:
    """Padded on the right, where causal attention never looks, so that no mask is needed and every row stands where it
    stands alone. Logits are made from the place before the first token that any row is scored on."""
    import torch
    from torch.nn.functional import cross_entropy

    longest, first = max(len(row.ids) for row in batch), min(row.start for row in batch)
    tokens = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in batch], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=longest - first + 1).logits
        parts = [
            # What stands at place p of the logits predicts the token at `first` + p.
            cross_entropy(
                own[row.start - first : len(row.ids) - first].float(), ids[row.start : len(row.ids)], reduction="none"
            )
            for row, own, ids in zip(batch, logits, tokens, strict=True)
        ]
        values = iter(torch.cat(parts).tolist())  # brought over at once
    return [list(islice(values, len(part))) for part in parts]
