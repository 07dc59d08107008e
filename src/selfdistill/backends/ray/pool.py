"""The replicas on a Ray cluster, and the work that the command gives them."""

from __future__ import annotations

import logging
import platform
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import Any

from ...errors import ModelError, SelfDistillError
from ...models.source import model_source
from ...recipe import ModelConfig, RayConfig, Sampling
from ...types import Completion, Prompt
from .. import open_backend
from ..cache import EngineCache
from .cluster import check_room, connect, one_line

_QUIET = 5.0  # seconds without news after which the cluster is looked at
_CLOSING = 30.0  # seconds that a replica gets to free its memory itself
_TRIES = 3  # a prompt is an error after so many replicas died of it
_DEATHS = 5  # a replica is given up after so many deaths in a row without an answer

Loaded = tuple[str, ModelConfig, str | None]  # the backend's name, the model and the adapter


@dataclass(frozen=True, eq=False)
class Work:
    """Prompts for one replica: one batch or, with `any_time`, prompts that need not be computed together. `failures`
    counts the replicas that died of it. Work without prompts ends a call."""

    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    done: frozenset[str] = frozenset()
    any_time: bool = False
    failures: int = 0

    @property
    def joins(self) -> bool:
        """Whether more work may join it. Work that a replica died of is answered alone."""
        return self.any_time and not self.failures

    @property
    def wanted(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.id not in self.done]


class Replica:
    """A backend in a process on the cluster. `models` are the models that will be asked for, see `EngineCache`."""

    def __init__(self, models: Sequence[tuple[ModelConfig, str | None]]) -> None:
        self._opened, self._cache = ExitStack(), EngineCache(models)
        self._loaded: Loaded | None = None
        self._more: Queue[Work] = Queue(maxsize=1)

    def answer(self, model: Loaded, work: Work) -> Iterator[Completion]:
        """Load the model if it is another one, and yield the answers to `work` and to the work that joins it."""
        try:
            if self._loaded != model:
                self._load(*model)
                self._loaded = model
            yield from self._backend.generate(self._prompts(work), work.sampling, work.done)
        except SystemExit as error:  # in a model's code; Ray would end the process without the reason
            raise RuntimeError(repr(error)) from error

    def join(self, work: Work) -> None:
        """Add work to the call of `answer` under way, and wait until there is room for more."""
        self._more.put(work)

    def close(self) -> None:
        """Free the memory of the backend."""
        self._opened.close()
        self._cache.stop()

    def _prompts(self, work: Work) -> Iterator[Prompt]:
        yield from work.prompts
        while work.joins:
            work = self._more.get()
            yield from work.prompts

    def _load(self, name: str, model: ModelConfig, adapter: str | None) -> None:
        self._opened.close()
        node, paths = platform.node(), (model_source(model), model.chat_template, adapter)
        if missing := [path for path in paths if path and Path(path).is_absolute() and not Path(path).exists()]:
            raise ModelError(
                f"The node {node} has no {' and no '.join(missing)}: every node needs the model, and the adapters of "
                "arms, at the same path; put them into a folder that all nodes share."
            )
        try:
            self._backend = self._opened.enter_context(open_backend(name, model, adapter, self._cache))
        except SelfDistillError as error:
            raise type(error)(f"{error} (This was on the node {node}.)") from error


@dataclass(eq=False)
class Slot:
    """The place of a replica. `call` streams the answers of the call under way, `joining` adds work to the call, and
    `given` maps the prompts without an answer to their work."""

    actor: Any
    deaths: int = 0
    model: Loaded | None = None
    loading: bool = True
    call: Any = None
    joining: Any = None
    joins: bool = False
    given: dict[str, Work] = field(default_factory=dict)


class Pool:
    """`config.replicas` replicas. `models` are the models that will be asked for, see `EngineCache`. Raises
    ModelError if the cluster cannot be joined."""

    broken = False  # a pool without replicas starts them when it is asked

    def __init__(self, config: RayConfig, models: Sequence[tuple[ModelConfig, str | None]] = ()) -> None:
        connect(config)
        self.config, self._models = config, models
        self._slots: deque[Slot] = deque()

    def load(self, model: ModelConfig, adapter: str | None) -> None:
        """Load a model in every replica, in place of the previous one, and wait for the first replica."""
        self._model, self._ready = (self.config.backend, model, adapter), False
        deque(self.answer(iter(())))

    def stop(self) -> None:
        """End the replicas, which frees their GPUs and memory."""
        import ray

        slots, self._slots = self._slots, deque()
        if closing := [slot.actor.close.remote() for slot in slots if slot.call is None]:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSING)
        for slot in slots:
            ray.kill(slot.actor)

    def answer(self, works: Iterator[Work]) -> Iterator[Completion]:
        """Yield the answers to `works` as they come. `works` is read only as fast as the replicas have room."""
        self._again, self._answers = deque[Work](), deque[Completion]()  # the work of lost replicas, and what came
        self._slots.extend(self._start() for _ in range(self.config.replicas - len(self._slots)))
        ahead = deque(islice(works, len(self._slots)))
        try:
            while not self._ready or ahead or self._again or any(map(_busy, self._slots)):
                for slot in self._slots:
                    self._feed(slot, ahead)
                ahead.extend(islice(works, max(0, len(self._slots) - len(ahead))))  # while the replicas compute
                self._step()
                while self._answers:
                    yield self._answers.popleft()
        except BaseException:  # nobody waits for the work under way any more
            self.stop()
            raise

    def _start(self, deaths: int = 0) -> Slot:
        import ray

        # Two calls at a time: `answer`, and `join` meanwhile.
        options = {"num_gpus": self.config.gpus, "num_cpus": self.config.cpus, "max_concurrency": 2}
        return Slot(ray.remote(Replica).options(**options).remote(self._models), deaths)

    def _feed(self, slot: Slot, ahead: deque[Work]) -> None:
        """Give work to a replica that waits, or to a call that has room for more. A replica loads the model first."""
        if slot.call is None:
            slot.loading = slot.model is not self._model
            queue = self._again or ahead
            if not slot.loading and not queue:
                return
            work = Work() if slot.loading else queue.popleft()
            slot.model, slot.joins = self._model, work.joins
            slot.call = slot.actor.answer.options(num_returns="streaming").remote(self._model, work)
        elif slot.joins and slot.joining is None:
            work = ahead.popleft() if ahead else Work()
            slot.joins = work.joins
            slot.joining = slot.actor.join.remote(work)
        else:
            return
        slot.given |= {prompt.id: work for prompt in work.wanted}

    def _step(self) -> None:
        """Wait for an answer, the end of a call, room in a call, or the loss of a replica."""
        import ray

        self._slots.rotate()  # Ray prefers the first
        waiting = {ref: slot for slot in self._slots for ref in (slot.call, slot.joining) if ref is not None}
        ready, _ = ray.wait(list(waiting), timeout=_QUIET)
        if not ready and all(slot.loading for slot in self._slots):
            check_room(self.config)
        for ref in ready:
            slot = waiting[ref]
            try:
                if ref is slot.joining:
                    slot.joining = ray.get(ref)
                    continue
                answer = ray.get(next(ref))
                slot.deaths = 0
                if slot.given.pop(answer.id, None):
                    self._answers.append(answer)
            except StopIteration:
                self._fail(slot.given, "the backend gave no answer")
                self._ready = self._ready or slot.model is self._model
                slot.call, slot.given = None, {}
            except ray.exceptions.RayError as error:
                self._lost(slot, error)

    def _lost(self, slot: Slot, error: Exception) -> None:
        """Replace a lost replica and queue its work. Raises an error that another start would not fix."""
        import ray

        cause = getattr(error, "cause", None)
        why = one_line(str(cause) or repr(cause)) if cause else "its process or node died, as when memory runs out"
        if isinstance(cause, SelfDistillError) and not (self._ready and isinstance(cause, ModelError)):
            raise cause
        ray.kill(slot.actor)
        self._slots.remove(slot)
        for work in dict.fromkeys(slot.given.values()):
            answered = frozenset(prompt.id for prompt in work.prompts if prompt.id not in slot.given)
            self._do_again(replace(work, done=answered, failures=work.failures + 1), why)
        if slot.deaths + 1 < _DEATHS:
            self._slots.append(self._start(slot.deaths + 1))
            return
        gone = f"A replica of the backend ray was given up, having died {_DEATHS} times in a row ({why})"
        if not self._slots:
            raise ModelError(f"{gone}; it was the last one. The answers that came are kept; fix this and run again.")
        logging.getLogger(__name__).warning("%s; %d are left.", gone, len(self._slots))

    def _do_again(self, work: Work, why: str) -> None:
        """Queue the work of a lost replica. A batch stays whole, so that its answers are the same as in an
        uninterrupted run; the last try of other prompts is one by one."""
        if work.failures == _TRIES:
            self._fail([prompt.id for prompt in work.wanted], f"{_TRIES} replicas died over it ({why})")
        elif work.failures == _TRIES - 1 and work.any_time:
            self._again.extend(replace(work, prompts=(prompt,)) for prompt in work.wanted)
        else:
            self._again.append(work)

    def _fail(self, names: Iterable[str], why: str) -> None:
        self._answers.extend(Completion(name, "", "error", error=why, transient=True) for name in names)


def _busy(slot: Slot) -> bool:
    return slot.call is not None and not slot.loading
