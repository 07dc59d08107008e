"""transformers in this process: batches by length under a token budget, halved where memory runs out.

A small model on a CPU has little to do for each of its operations, which more threads make no faster: of such a model
each thread computes a batch of its own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import partial
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING

from ..models.loading import context_length, free_memory, load_model, load_renderer, out_of_memory
from ..recipe import Sampling
from ..types import Completion, Prompt
from . import Backend
from .attention import attend_on_cpu
from .batches import Row, batches, windows
from .decoding import decode
from .rendered import to_completion, to_row
from .side_by_side import Task, side_by_side

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models.renderer import Renderer


_SMALL = 100_000_000  # parameters
_MOST_AT_ONCE = 4  # batches: each has a cache, and all wait for one interpreter between their operations


class HFBackend(Backend):
    """A model folder or hub name, and the folder of a LoRA adapter over it where given. Loaded on entering.

    Raises ModelError (on entering) where the model can't be loaded or is no chat model.
    """

    has_weights = returns_logprobs = forms_batches = True
    _model: PreTrainedModel | None = None
    _renderer: Renderer | None = None

    def __enter__(self) -> HFBackend:
        self._renderer = load_renderer(self._config)
        self._model = load_model(self._config, self._adapter).eval()
        attend_on_cpu(self._model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model = self._renderer = None
        free_memory()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`. A batch of which nothing is done is computed, one of which all is done is skipped, and one
        that was interrupted is computed whole, so that its answers are those of an uninterrupted run."""
        tasks = self._tasks(prompts, sampling, done)
        for answers in side_by_side(tasks, self._at_once()):
            yield from (answer for answer in answers if answer.id not in done)

    def _tasks(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]
    ) -> Iterator[Task[list[Completion]]]:
        for window in windows(prompts):
            if all(prompt.id in done for prompt in window):
                continue
            rows, failed = self._rows(window, sampling)
            for batch in batches(rows, self._config.batch_tokens):
                if any(row.id not in done for row in batch):
                    yield partial(self._answer, batch, sampling)
            yield partial(_known, failed)

    def _at_once(self) -> int:
        """How many batches are computed side by side."""
        import torch

        model, _ = self.loaded()
        if model.device.type != "cpu" or model.num_parameters() > _SMALL:
            return 1
        return min(torch.get_num_threads(), _MOST_AT_ONCE)

    def _rows(self, prompts: list[Prompt], sampling: Sampling) -> tuple[list[Row], list[Completion]]:
        """The prompts as token ids; and an error for each that can't be rendered or has no room for an answer."""
        model, renderer = self.loaded()
        context = context_length(model.config)
        made = [to_row(prompt, renderer, sampling, context) for prompt in prompts]
        return [row for row in made if isinstance(row, Row)], [row for row in made if isinstance(row, Completion)]

    def _answer(self, batch: list[Row], sampling: Sampling, abandoned: Event) -> list[Completion]:
        model, renderer = self.loaded()
        try:
            answers = decode(model, batch, sampling, renderer.stop_ids, abandoned)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            return [to_completion(row, ids, renderer) for row, ids in zip(batch, answers, strict=True)]
        # Below the handler, whose traceback would hold on to the memory that is to be freed.
        free_memory()
        if len(batch) == 1:
            reason = f"out of memory for one prompt of {len(batch[0].ids)} tokens"
            # Another time more may be free: a batch beside this one has some.
            return [Completion(batch[0].id, "", "error", error=reason, transient=True)]
        half = (len(batch) + 1) // 2
        return self._answer(batch[:half], sampling, abandoned) + self._answer(batch[half:], sampling, abandoned)

    def loaded(self) -> tuple[PreTrainedModel, Renderer]:
        """The model, its adapter applied, and what renders its prompts, for those who need more than answers."""
        if self._model is None or self._renderer is None:
            raise RuntimeError("HFBackend is a context manager: with HFBackend(model) as backend: ...")
        return self._model, self._renderer


def _known(answers: list[Completion], abandoned: Event) -> list[Completion]:
    return answers
