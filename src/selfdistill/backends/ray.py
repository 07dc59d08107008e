"""Any backend on a Ray cluster: replicas, each with a model of its own, that share the prompts among them.

Few prompts are on their way at a time, and answers come back as they finish. Replicas that are lost are started again,
and what they were at is done again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ..models.chat_template import CHAT_TEMPLATES
from ..models.loading import load_context_length, load_renderer
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from . import check_backend
from .batches import Row, batches, windows
from .pool import Pool
from .rendered import to_row
from .replica import Models, Work
from .sharing import shared

_TOGETHER = 64  # prompts that are given at once to an engine that takes them in as they come


class RayBackend:
    """A model folder or hub name, and the folder of a LoRA adapter over it where given, on `model.ray.replicas`
    replicas of the backend `model.ray.backend`. Ray and the replicas start on entering; within `sharing.sharing` those
    that are up are used again, and what they share of their engines stays up too.

    An answer does not depend on the replica that gives it: of `hf` each gets whole batches, those that `hf` itself
    would form. Raises ModelError (on entering) where Ray is missing, can't be joined, has no room for a replica, or the
    model does not load; and from `generate` where the cluster is lost. What a replica answered before it died is kept.
    """

    def __init__(self, model: ModelConfig, adapter: str | None = None) -> None:
        check_backend(model.ray.backend)
        self._config, self._adapter = _anywhere(model), adapter
        self._pool: Pool | None = None

    def __enter__(self) -> RayBackend:
        self._pool = self._acquire()
        try:
            self._pool.load(self._config, self._adapter)
        except BaseException:
            self._pool.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        sharing = shared()
        if pool is not None and (sharing is None or sharing.pool is not pool):
            pool.stop()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`."""
        if self._pool is None:
            raise RuntimeError("RayBackend is a context manager: with RayBackend(model) as backend: ...")
        divide = _batches if self._config.ray.backend == "hf" else _stream
        return self._pool.answer(divide(self._config, prompts, sampling, done))

    def _acquire(self) -> Pool:
        """Replicas: those that are shared, where they are what is asked for."""
        sharing = shared()
        if sharing is None:
            return Pool(self._config.ray)
        if sharing.pool is None or sharing.pool.config != self._config.ray:
            if sharing.pool is not None:
                sharing.pool.stop()
            models: Models = [(_anywhere(model), adapter) for model, adapter in sharing.models]
            sharing.pool = Pool(self._config.ray, models)
        return sharing.pool


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
