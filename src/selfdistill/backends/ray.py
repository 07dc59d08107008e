"""Any backend on a Ray cluster: replicas, each with a model of its own, that share the prompts among them.

Few prompts are on their way at a time, and answers come back as they finish. Replicas that are lost are started again,
and what they were at is done again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ..errors import RecipeError
from ..models.chat_template import CHAT_TEMPLATES
from ..models.loading import load_context_length, load_renderer
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from . import Backend, backend_class
from .batches import Row, batches, windows
from .cache import EngineCache
from .cluster import ray_missing
from .pool import Pool
from .rendered import to_row
from .replica import Work

_TOGETHER = 64  # prompts that are given at once to an engine that takes them in as they come


class RayBackend(Backend):
    """A model folder or hub name, and the folder of a LoRA adapter over it where given, on `model.ray.replicas`
    replicas of the backend `model.ray.backend`. Ray and the replicas start on entering; those in
    the cache are used again, and what they share of their engines stays up too.

    An answer does not depend on the replica that gives it: of `hf` each gets whole batches, those that `hf` itself
    would form. Raises ModelError (on entering) where Ray is missing, can't be joined, has no room for a replica, or the
    model does not load; and from `generate` where the cluster is lost. What a replica answered before it died is kept.
    """

    replicates = True
    _pool: Pool | None = None

    def __init__(self, model: ModelConfig, adapter: str | None = None, cache: EngineCache | None = None) -> None:
        self.check(model)
        super().__init__(_anywhere(model), adapter, cache)

    def __enter__(self) -> RayBackend:
        config, self._pools = self._config.ray, self._cache or EngineCache()
        models = [(_anywhere(model), adapter) for model, adapter in self._pools.models]
        self._pool = self._pools.get(config, lambda: Pool(config, models))
        try:
            self._pool.load(self._config, self._adapter)
        except BaseException:
            self._pool.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool = None
        if self._pools is not self._cache:
            self._pools.stop()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`."""
        if self._pool is None:
            raise RuntimeError("RayBackend is a context manager: with RayBackend(model) as backend: ...")
        divide = _batches if backend_class(self._config.ray.backend).forms_batches else _stream
        return self._pool.answer(divide(self._config, prompts, sampling, done))

    @classmethod
    def check(cls, model: ModelConfig) -> None:
        inner, gpus = backend_class(model.ray.backend), model.ray.gpus
        if inner.replicates:
            raise RecipeError("ray.backend is what each replica runs: hf, vllm or another, not ray")
        if inner.needs_server:
            raise RecipeError(
                "ray.backend can't be openai: a server takes many requests at once; use `backend: openai`"
            )
        if inner.splits_model and 0 < gpus < model.engine.tensor_parallel:
            raise RecipeError(
                f"engine.tensor_parallel {model.engine.tensor_parallel} needs as many GPUs per replica; set ray.gpus "
                "to it"
            )
        inner.check(model)

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        yield from ray_missing(model.ray)
        if model.ray.address is None:  # the packages on the nodes of another cluster can't be seen from here
            yield from backend_class(model.ray.backend).missing(model)


def _anywhere(model: ModelConfig) -> ModelConfig:
    """The model with absolute paths, since a replica works in another folder."""
    # Names of our own are no paths, whatever lies in this folder.
    names = (("path", model.path, ("demo",)), ("chat_template", model.chat_template, ("chat", *CHAT_TEMPLATES)))
    found = {key: str(Path(name).resolve()) for key, name, own in names if name not in own and Path(name).exists()}
    return model.model_copy(update=found)


def _stream(
    model: ModelConfig, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]
) -> Iterator[Work | Completion]:
    """For engines that take in prompts as they come: a few at a time."""
    wanted = (prompt for prompt in prompts if prompt.id not in done)
    for window in windows(wanted, _TOGETHER):
        yield Work(tuple(window), sampling, joins=True)


def _batches(
    model: ModelConfig, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]
) -> Iterator[Work | Completion]:
    """For `hf`: the batches that it would form of all prompts, those that are wholly done left out. Of one of these
    alone it forms the very same batch. What can't be asked at all is an error right away."""
    renderer, context = load_renderer(model), load_context_length(model)
    for window in windows(prompts):
        if all(prompt.id in done for prompt in window):
            continue
        asked = {prompt.id: prompt for prompt in window}
        made = [to_row(prompt, renderer, sampling, context) for prompt in window]
        for batch in batches([row for row in made if isinstance(row, Row)], model.batch_tokens):
            work = Work(
                tuple(asked[row.id] for row in batch), sampling, frozenset(row.id for row in batch if row.id in done)
            )
            if work.wanted:
                yield work
        yield from (row for row in made if isinstance(row, Completion) and row.id not in done)
