"""vLLM in this process's care: paged attention, continuous batching, prefix caching, adapters by request."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ..models.loading import load_renderer
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from .batches import Row
from .engine import Engine
from .rendered import failure, to_completion, to_row
from .sharing import acquire, release

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from ..models.renderer import Renderer


class VLLMBackend:
    """A model folder or hub name, and the folder of a LoRA adapter over it where given. The engine starts on entering;
    within `sharing.sharing` one that is up is used again.

    Prompts are our own token ids. Each row's sampling has its own seed, so that its answer does not depend on the order
    of the rows but for rounding, which differs between batches. Raises ModelError (on entering) where vLLM is missing
    or does not start, and from `generate` where it dies; what it answered is kept.
    """

    def __init__(self, model: ModelConfig, adapter: str | None = None) -> None:
        self._config, self._folder = model, adapter
        self._engine: Engine | None = None
        self._renderer: Renderer | None = None
        self._adapter: LoRARequest | None = None

    def __enter__(self) -> VLLMBackend:
        self._renderer = load_renderer(self._config)
        self._engine = acquire(self._config, self._folder)
        try:
            self._adapter = self._engine.adapter(self._folder) if self._folder else None
        except BaseException:
            release(self._engine)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engine, self._engine, self._renderer = self._engine, None, None
        if engine is not None:
            release(engine)

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`. A few hundred prompts are rendered ahead of the engine, which never waits for them."""
        engine, renderer = self._opened()
        waiting: dict[str, Row] = {}
        try:
            for prompt in prompts:
                if prompt.id in done:
                    continue
                row = to_row(prompt, renderer, sampling, engine.context)
                if isinstance(row, Completion):
                    yield row
                    continue
                try:
                    waiting[engine.ask(row, sampling, renderer.stop_ids, self._adapter)] = row
                except ValueError as error:
                    yield failure(row.id, f"vLLM refuses the prompt: {error}")
                while len(waiting) >= engine.room:
                    yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)
        finally:
            engine.forget(waiting)

    def _finished(self, waiting: dict[str, Row]) -> Iterator[Completion]:
        """What has come out of `waiting` with the engine's next step."""
        engine, renderer = self._opened()
        for name, ids, reason in engine.finished():
            row = waiting.pop(name)
            if reason in ("stop", "length") and ids:
                yield to_completion(row, ids, renderer)
            else:
                yield Completion(row.id, "", "error", len(ids), f"vLLM ended the answer: {reason}", transient=True)

    def loaded(self) -> tuple[Engine, LoRARequest | None, Renderer]:
        """The engine, the adapter to ask it with, and what renders prompts, for those who need more than answers."""
        engine, renderer = self._opened()
        return engine, self._adapter, renderer

    def _opened(self) -> tuple[Engine, Renderer]:
        if self._engine is None or self._renderer is None:
            raise RuntimeError("VLLMBackend is a context manager: with VLLMBackend(model) as backend: ...")
        return self._engine, self._renderer
