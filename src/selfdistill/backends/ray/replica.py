"""The code that runs in one process of a Ray cluster: a backend that is given work while it answers."""

from __future__ import annotations

import platform
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

from ...errors import ModelError, SelfDistillError
from ...models.source import model_source
from ...recipe import ModelConfig, Sampling
from ...types import Completion, Prompt
from .. import Backend, open_backend
from ..cache import EngineCache

Models = Sequence[tuple[ModelConfig, str | None]]


@dataclass(frozen=True, eq=False)
class Work:
    """Prompts for one replica: one batch or, with `any_time`, prompts that need not be computed together. `failures`
    counts the replicas that died of it. Work without prompts ends a call."""

    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = Sampling()
    done: frozenset[str] = frozenset()
    any_time: bool = False
    failures: int = 0

    @property
    def joins(self) -> bool:
        """Whether more work may join it. Work that a replica died of is answered alone."""
        return self.any_time and not self.failures

    @property
    def wanted(self) -> list[str]:
        return [prompt.id for prompt in self.prompts if prompt.id not in self.done]

    def left(self, wanted: Container[str]) -> Work:
        """Return the work to repeat after a replica died, if the prompts `wanted` have no answer yet. A batch stays
        whole, so that its answers are the same as in an uninterrupted run."""
        prompts = tuple(prompt for prompt in self.prompts if prompt.id in wanted) if self.any_time else self.prompts
        done = frozenset(prompt.id for prompt in prompts if prompt.id not in wanted)
        return replace(self, prompts=prompts, done=done, failures=self.failures + 1)


class Replica:
    """A backend with one model. `models` are the models that will be asked for, see `EngineCache`."""

    def __init__(self, models: Models) -> None:
        self._opened, self._cache = ExitStack(), EngineCache(models)
        self._loaded: tuple[str, ModelConfig, str | None] | None = None
        self._more: Queue[Work] = Queue(maxsize=1)

    def answer(self, model: tuple[str, ModelConfig, str | None], work: Work) -> Iterator[Completion]:
        """Yield the answers to `work` and to the work that joins, until work without prompts comes. Raises ModelError
        if the model does not load, or what the backend raises."""
        try:
            if self._loaded != model:
                self._backend = self._load(*model)
                self._loaded = model
            if work.prompts:
                yield from self._backend.generate(self._prompts(work), work.sampling, work.done)
        except SystemExit as error:  # in a model's code; Ray would end the process without the reason
            raise RuntimeError(repr(error)) from error

    def join(self, work: Work) -> None:
        """Add work to the call of `answer` under way. Returns when the call has room for more."""
        self._more.put(work)

    def close(self) -> None:
        """Free the memory of the backend. The process may be ended afterwards."""
        self._opened.close()
        self._cache.stop()

    def _prompts(self, work: Work) -> Iterator[Prompt]:
        yield from work.prompts
        while work.joins:
            work = self._more.get()
            yield from work.prompts

    def _load(self, name: str, model: ModelConfig, adapter: str | None) -> Backend:
        """Close the backend that is open and open another."""
        self._opened.close()
        node, places = platform.node(), (model_source(model), model.chat_template, adapter)
        missing = [path for path in places if path and Path(path).is_absolute() and not Path(path).exists()]
        if missing:
            raise ModelError(
                f"The node {node} has no {' and no '.join(missing)}: every node needs the model, and the adapters of "
                "arms, at the same path; put them into a folder that all nodes share."
            )
        try:
            return self._opened.enter_context(open_backend(name, model, adapter, self._cache))
        except SelfDistillError as error:
            raise type(error)(f"{error} (This was on the node {node}.)") from error
