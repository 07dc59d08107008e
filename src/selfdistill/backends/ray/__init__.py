"""Any backend on a Ray cluster: replicas, each with its own copy of the model, share the prompts.

Ray places replicas, streams their answers and reports their loss. `pool` decides which prompts a replica gets, and
which are asked again. Ray's own tools do not: `ray.util.ActorPool` has no answer to a dead actor, `max_restarts` leaves
calls waiting if no node has room, `max_task_retries` repeats answered prompts, Ray Data has no errors per prompt.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from ...demo import SEEDS
from ...errors import RecipeError
from ...models.chat_template import CHAT_TEMPLATES
from ...models.loading import load_context_length, load_renderer
from ...recipe import ModelConfig, Sampling
from ...types import Completion, Prompt
from .. import Backend, backend_class
from ..batches import groups, rows_of, windows
from ..cache import EngineCache
from .pool import MISSING, Pool, Work

_TOGETHER = 64  # prompts given at once to an engine that takes prompts at any time


class RayBackend(Backend):
    """Answers with `model.ray.replicas` replicas of the backend `model.ray.backend`, which start on entering. Replicas
    in the cache are used again, and so are their engines. Entering raises ModelError if the cluster cannot be joined or
    has no room for a replica, or if the model does not load; `generate` raises ModelError if no replica is left."""

    replicates = True
    _pools: EngineCache | None = None

    def __enter__(self) -> RayBackend:
        self.check(self._config)
        config, self._pools = self._config.ray, self._cache or EngineCache()
        models = [(_anywhere(model), adapter) for model, adapter in self._pools.models]
        self._pool = self._pools.get(config, lambda: Pool(config, models))
        self._pool.load(_anywhere(self._config), self._adapter)
        return self

    def close(self) -> None:
        if self._pools and self._pools is not self._cache:
            self._pools.stop()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`."""
        if backend_class(self._config.ray.backend).forms_batches:
            return self._pool.answer(self._groups(prompts, sampling, done))
        wanted = (prompt for prompt in prompts if prompt.id not in done)
        return self._pool.answer(Work(tuple(some), sampling, any_time=True) for some in windows(wanted, _TOGETHER))

    def _groups(self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]) -> Iterator[Work]:
        """Yield the groups that the backend would form of all prompts, except those that are completely done. From
        the prompts of one such group alone the backend forms the same group again."""
        renderer, context = load_renderer(self._config), load_context_length(self._config)
        for window in windows(prompts):
            asked = {prompt.id: prompt for prompt in window}
            known = frozenset(name for name in asked if name in done)
            if len(known) == len(asked):
                continue
            rows, failed = rows_of(window, renderer, sampling, context)
            together = [[row.id for row in group.rows] for group in groups(rows, self._config.batch_tokens)]
            for names in [[each.id for each in failed], *together]:  # the backend repeats the errors
                work = Work(tuple(asked[name] for name in names), sampling, known.intersection(names))
                if work.wanted:
                    yield work

    @classmethod
    def check(cls, model: ModelConfig) -> None:
        inner, parallel = backend_class(model.ray.backend), model.engine.tensor_parallel
        if inner.replicates:
            raise RecipeError("ray.backend is the engine of each replica; set it to hf, vllm or another, not ray.")
        if inner.needs_server:
            raise RecipeError(
                "ray.backend can't be openai: a server takes many requests at once; set the backend to openai, not ray."
            )
        if inner.splits_model and 0 < model.ray.gpus < parallel:
            raise RecipeError(f"engine.tensor_parallel {parallel} needs as many GPUs per replica; set ray.gpus to it.")
        inner.check(model)

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        if find_spec("ray") is None:
            yield MISSING
        if model.ray.address is None:  # the nodes of another cluster are not visible from here
            import torch

            if (wanted := model.ray.replicas * model.ray.gpus) > (there := torch.cuda.device_count()):
                advice = "set model.ray.gpus to 0, or name a cluster in model.ray.address"
                yield f"model.ray asks for {wanted:g} GPUs, and there are {there} here; {advice}."
            yield from backend_class(model.ray.backend).missing(model)


def _anywhere(model: ModelConfig) -> ModelConfig:
    """Return the model with absolute paths, since a replica runs in another working directory."""
    # The built-in names are never paths, even if a file in this directory has the same name.
    names = (("path", model.path, SEEDS), ("chat_template", model.chat_template, ("chat", *CHAT_TEMPLATES)))
    found = {key: str(Path(name).resolve()) for key, name, own in names if name not in own and Path(name).exists()}
    return model.model_copy(update=found)
