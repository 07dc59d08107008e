"""Keeps an engine up between backends: one start and one copy of the base model serve all runs with adapters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeVar, cast

from ..recipe import ModelConfig


class Stoppable(Protocol):
    """An engine or a pool of replicas. A `broken` one is not used again."""

    broken: bool

    def stop(self) -> None: ...


E = TypeVar("E", bound=Stoppable)


class EngineCache:
    """Holds at most one engine. `models` are the models, with their adapters' folders, that will be asked for, so that
    the engine is started with room for all their adapters. Leaving the context stops the engine."""

    def __init__(self, models: Iterable[tuple[ModelConfig, str | None]] = ()) -> None:
        self.models = tuple(models)
        self._key: Hashable = None
        self._engine: Stoppable | None = None

    def __enter__(self) -> EngineCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, key: Hashable, start: Callable[[], E]) -> E:
        """Return the engine that is up if it was started for `key`. Otherwise stop it first, since each engine takes
        most of the memory, and `start` another one."""
        if self._engine is None or self._engine.broken or self._key != key:
            self.stop()
            self._engine, self._key = start(), key
        return cast("E", self._engine)

    def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()
