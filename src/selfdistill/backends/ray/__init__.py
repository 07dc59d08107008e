"""Any backend on a Ray cluster: replicas, each with its own copy of the model, share the prompts.

Ray places and starts the replicas, notices their loss, and streams their answers. `pool` decides what each replica
answers next, because Ray's own tools do not: `ray.util.ActorPool` has no answer to a dead actor, Ray's retries
(`max_task_retries`) repeat answered prompts and a prompt that kills its process, and Ray Data has no errors per prompt.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from ...errors import RecipeError
from ...models.chat_template import CHAT_TEMPLATES
from ...models.loading import load_context_length, load_renderer
from ...recipe import ModelConfig, Sampling
from ...types import Completion, Prompt
from .. import Backend, backend_class
from ..batches import batches, rows_of, windows
from ..cache import EngineCache
from .cluster import ray_missing
from .pool import Pool, Work

_TOGETHER = 64  # prompts given at once to an engine that takes prompts at any time


class RayBackend(Backend):
    """Answers with `model.ray.replicas` replicas of the backend `model.ray.backend`, which start on entering; replicas
    in the cache are used again, and so are their engines. An answer does not depend on the replica that computes it.

    Entering raises ModelError if Ray is not installed, the cluster cannot be joined, has no room for a replica, or the
    model does not load; `generate` raises it if no replica is left. Answers that a replica returned are kept.
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
        self._pool.load(self._config, self._adapter)
        return self

    def close(self) -> None:
        self._pool = None
        if self._pools is not self._cache:
            self._pools.stop()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`."""
        if self._pool is None:
            raise RuntimeError("RayBackend is a context manager: with RayBackend(model) as backend: ...")
        return self._pool.answer(_works(self._config, prompts, sampling, done))

    @classmethod
    def check(cls, model: ModelConfig) -> None:
        inner, parallel = backend_class(model.ray.backend), model.engine.tensor_parallel
        if inner.replicates:
            raise RecipeError("ray.backend is what each replica runs: hf, vllm or another, not ray")
        if inner.needs_server:
            raise RecipeError(
                "ray.backend can't be openai: a server takes many requests at once; use `backend: openai`"
            )
        if inner.splits_model and 0 < model.ray.gpus < parallel:
            raise RecipeError(f"engine.tensor_parallel {parallel} needs as many GPUs per replica; set ray.gpus to it")
        inner.check(model)

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        yield from ray_missing(model.ray)
        if model.ray.address is None:  # the packages on the nodes of another cluster are not visible from here
            yield from backend_class(model.ray.backend).missing(model)


def _anywhere(model: ModelConfig) -> ModelConfig:
    """Return the model with absolute paths, since a replica runs in another working directory."""
    # The built-in names are never paths, even if a file in this directory has the same name.
    names = (("path", model.path, ("demo",)), ("chat_template", model.chat_template, ("chat", *CHAT_TEMPLATES)))
    found = {key: str(Path(name).resolve()) for key, name, own in names if name not in own and Path(name).exists()}
    return model.model_copy(update=found)


def _works(model: ModelConfig, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]) -> Iterator[Work]:
    """Yield the batches that the backend would form of all prompts, unless all their prompts are done; it forms the
    same batch from the prompts of one batch. If it forms no batches, yield a few prompts at a time."""
    if not backend_class(model.ray.backend).forms_batches:
        wanted = (prompt for prompt in prompts if prompt.id not in done)
        yield from (Work(tuple(window), sampling, any_time=True) for window in windows(wanted, _TOGETHER))
        return
    renderer, context = load_renderer(model), load_context_length(model)
    for window in windows(prompts):
        rows, failed = rows_of(window, renderer, sampling, context)
        groups = [[row.id for row in batch] for batch in batches(rows, model.batch_tokens)]
        asked = {prompt.id: prompt for prompt in window}
        for names in [[each.id for each in failed], *groups]:  # the backend fails again at those that it can't ask
            work = Work(tuple(asked[name] for name in names), sampling, frozenset(filter(done.__contains__, names)))
            if work.wanted:
                yield work
