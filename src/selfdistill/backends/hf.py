"""transformers in this process: batches by length under a token budget, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ..config import ModelConfig, Sampling
from ..models import context_length, free_memory, load_model, load_renderer, out_of_memory
from ..types import Completion, Prompt
from .batches import Row, batches, windows
from .decoding import decode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..prompts import Renderer


class HFBackend:
    """A model folder or hub name, and the folder of a LoRA adapter over it where given. Loaded on entering.

    Raises ModelError (on entering) where the model can't be loaded or is no chat model.
    """

    def __init__(self, model: ModelConfig, adapter: str | None = None) -> None:
        self._config, self._adapter = model, adapter
        self._model: PreTrainedModel | None = None
        self._renderer: Renderer | None = None

    def __enter__(self) -> HFBackend:
        self._renderer = load_renderer(self._config)
        self._model = load_model(self._config, self._adapter).eval()
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
        for window in windows(prompts):
            if all(prompt.id in done for prompt in window):
                continue
            rows, failed = self._rows(window, sampling)
            for batch in batches(rows, self._config.batch_tokens):
                if any(row.id not in done for row in batch):
                    yield from (answer for answer in self._answer(batch, sampling) if answer.id not in done)
            yield from (completion for completion in failed if completion.id not in done)

    def _rows(self, prompts: list[Prompt], sampling: Sampling) -> tuple[list[Row], list[Completion]]:
        """The prompts as token ids; and an error for each that can't be rendered or has no room for an answer."""
        from jinja2 import TemplateError

        model, renderer = self.loaded()
        context = context_length(model.config)
        rows, failed = [], []
        for prompt in prompts:
            try:
                ids = renderer.ids(prompt.messages)
            except TemplateError as error:
                failed.append(_failure(prompt.id, f"the chat template refuses the prompt: {error}"))
                continue
            room = sampling.max_new_tokens if context is None else min(sampling.max_new_tokens, context - len(ids))
            if not ids:
                failed.append(_failure(prompt.id, "the prompt is empty"))
            elif room < 1:
                failed.append(_failure(prompt.id, f"prompt of {len(ids)} tokens exceeds the context of {context}"))
            else:
                rows.append(Row(prompt.id, ids, room))
        return rows, failed

    def _answer(self, batch: list[Row], sampling: Sampling) -> list[Completion]:
        model, renderer = self.loaded()
        try:
            answers = decode(model, batch, sampling, renderer.stop_ids)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            return [self._completion(row, ids) for row, ids in zip(batch, answers, strict=True)]
        # Below the handler, whose traceback would hold on to the memory that is to be freed.
        free_memory()
        if len(batch) == 1:
            return [_failure(batch[0].id, f"out of memory for one prompt of {len(batch[0].ids)} tokens")]
        half = (len(batch) + 1) // 2
        return self._answer(batch[:half], sampling) + self._answer(batch[half:], sampling)

    def _completion(self, row: Row, ids: list[int]) -> Completion:
        """The text before the stop token. Other special tokens are shown, so that hygiene sees a leaked marker."""
        _, renderer = self.loaded()
        stopped = ids[-1] in renderer.stop_ids
        text = renderer.tokenizer.decode(
            ids[:-1] if stopped else ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Completion(row.id, str(text), "stop" if stopped else "length", len(ids))

    def loaded(self) -> tuple[PreTrainedModel, Renderer]:
        """The model, its adapter applied, and what renders its prompts, for those who need more than answers."""
        if self._model is None or self._renderer is None:
            raise RuntimeError("HFBackend is a context manager: with HFBackend(model) as backend: ...")
        return self._model, self._renderer


def _failure(name: str, reason: str) -> Completion:
    return Completion(name, "", "error", error=reason)
