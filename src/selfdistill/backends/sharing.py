"""What outlives a backend: one start and one copy of the base serve all runs that put adapters over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..recipe import ModelConfig
from .engine import Engine, Needs, adapter_shape

if TYPE_CHECKING:
    from .pool import Pool


@dataclass
class Shared:
    """What stays up within `sharing`: an engine in this process's care, or replicas on a cluster."""

    models: list[tuple[ModelConfig, str | None]]
    engine: Engine | None = None
    pool: Pool | None = None


_shared: Shared | None = None


def shared() -> Shared | None:
    """None outside `sharing`."""
    return _shared


@contextmanager
def sharing(models: Iterable[tuple[ModelConfig, str | None]]) -> Iterator[None]:
    """Within, an engine stays up when its backend closes, for the next one that needs the same, and stops when another
    is needed. It has room for all adapters in `models` (a model, and an adapter's folder over it) that go over its
    own. Costs nothing where no engine is asked for."""
    global _shared
    _shared = Shared(list(models))
    try:
        yield
    finally:
        last, _shared = _shared, None
        if last.engine is not None:
            last.engine.stop()
        if last.pool is not None:
            last.pool.stop()


def acquire(model: ModelConfig, adapter: str | None) -> Engine:
    """An engine for `model`, with room for `adapter`. Raises ModelError."""
    needs = Needs.of(model)
    others = [] if _shared is None else [folder for other, folder in _shared.models if Needs.of(other) == needs]
    if shapes := [adapter_shape(folder) for folder in {adapter, *others} if folder]:
        targets = frozenset().union(*(names for _, names in shapes)) if all(names for _, names in shapes) else ()
        needs = replace(needs, rank=max(rank for rank, _ in shapes), targets=frozenset(targets))
    if _shared is None:
        return Engine(needs)
    if _shared.engine is None or _shared.engine.needs != needs:
        if _shared.engine is not None:
            _shared.engine.stop()  # before the next one starts: each takes most of the memory
            _shared.engine = None
        _shared.engine = Engine(needs)
    return _shared.engine


def release(engine: Engine) -> None:
    """Stops it, unless it is shared and well."""
    if _shared is not None and _shared.engine is engine:
        if not engine.broken:
            return
        _shared.engine = None
    engine.stop()
