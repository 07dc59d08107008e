"""vLLM: paged attention, continuous batching, prefix caching, one adapter per request."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

from ..models.loading import load_renderer
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from . import Backend
from .batches import TokenRow, to_completion, to_row
from .cache import EngineCache
from .vllm_engine import LARGEST_RANK, Engine, needs_of, vllm_missing

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from ..models.renderer import Renderer


class VLLMBackend(Backend):
    """Answers with a vLLM engine, which starts on entering. An engine in the cache is used again if it fits.

    Prompts are sent as our token ids. Each row's sampling has its own seed, so that the answer does not depend on the
    order of the rows, except for rounding, which differs between batches. Entering raises ModelError if vLLM is not
    installed or does not start; `generate` raises ModelError if the engine dies. Answers that came before are kept.
    """

    has_weights = returns_logprobs = splits_model = True
    largest_rank = LARGEST_RANK
    _engines: EngineCache | None = None
    _engine: Engine | None = None
    _renderer: Renderer | None = None
    _lora: LoRARequest | None = None

    def __enter__(self) -> VLLMBackend:
        self._renderer = load_renderer(self._config)
        self._engines = engines = self._cache or EngineCache()
        needs = needs_of(self._config, self._adapter, engines.models)
        self._engine = engines.get(needs, lambda: Engine(needs))
        try:
            self._lora = self._engine.adapter(self._adapter) if self._adapter else None
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        self._engine = self._renderer = None
        if self._engines is not None and self._engines is not self._cache:
            self._engines.stop()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`. A few hundred prompts are rendered ahead, so that the engine never waits for one."""
        engine, adapter, renderer = self.loaded()
        waiting: dict[str, TokenRow] = {}
        try:
            for prompt in prompts:
                if prompt.id in done:
                    continue
                row = to_row(prompt, renderer, sampling, engine.context)
                if isinstance(row, Completion):
                    yield row
                    continue
                try:
                    waiting[engine.ask(row, sampling, renderer.stop_ids, adapter)] = row
                except ValueError as error:
                    yield Completion.failed(row.id, f"vLLM refuses the prompt: {error}")
                while len(waiting) >= engine.room:
                    yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)
        finally:
            engine.forget(waiting)

    def _finished(self, waiting: dict[str, TokenRow]) -> Iterator[Completion]:
        """Yield the answers that the engine's next step finished, and take them out of `waiting`."""
        engine, _, renderer = self.loaded()
        for name, ids, reason in engine.finished():
            row = waiting.pop(name)
            if reason in ("stop", "length", "repetition") and ids:
                yield to_completion(row, ids, renderer)
            else:
                yield Completion(row.id, "", "error", len(ids), f"vLLM ended the answer: {reason}", transient=True)

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        yield from vllm_missing()

    def loaded(self) -> tuple[Engine, LoRARequest | None, Renderer]:
        """Return the engine, the adapter of its requests, and the renderer of prompts."""
        if self._engine is None or self._renderer is None:
            raise RuntimeError("VLLMBackend is a context manager: with VLLMBackend(model) as backend: ...")
        return self._engine, self._lora, self._renderer
