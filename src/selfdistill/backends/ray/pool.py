"""The replicas on a Ray cluster: started, given work, and replaced if they are lost."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from ...errors import ModelError, SelfDistillError
from ...recipe import ModelConfig, RayConfig, Sampling
from ...types import Completion
from .cluster import LOOK, connect, look, reason
from .replica import Models, Replica, Work

_CLOSING = 30.0  # seconds that a replica gets to free its memory itself
_TRIES = 3  # work is an error after so many replicas died of it
_LOADS = 3  # a replica is given up after so many starts that fail,
_DEATHS = 8  # or after so many deaths in a row without an answer


@dataclass(eq=False)
class Slot:
    """The place of a replica. `call` streams the answers of its call under way, `joining` is the request that more
    work joins the call, and `given` maps the prompts without an answer to their work."""

    actor: Any
    deaths: int = 0
    model: tuple[Any, ...] = ()
    call: Any = None
    loading: bool = False
    joins: bool = False
    joining: Any = None
    given: dict[str, Work] = field(default_factory=dict)


class Pool:
    """`config.replicas` replicas. `models` are the models that will be asked for, see `EngineCache`. Raises
    ModelError if the cluster cannot be joined."""

    broken = False  # a pool without replicas starts them when it loads a model

    def __init__(self, config: RayConfig, models: Models = ()) -> None:
        connect(config)
        self.config, self._models = config, models
        self._slots: list[Slot] = []
        self._again: deque[Work] = deque()  # the work of lost replicas
        self._answers: deque[Completion] = deque()
        self._looked = time.monotonic()

    def load(self, model: ModelConfig, adapter: str | None) -> None:
        """Load a model in every replica, in place of the previous one, and wait for the first replica."""
        self._model, self._ready = (self.config.backend, model, adapter), False
        for slot in self._slots:
            if slot.call is None:
                self._call(slot, Work())
        self._start(self.config.replicas - len(self._slots))
        while not self._ready:
            self._step()

    def stop(self) -> None:
        """End the replicas, which frees their GPUs and memory. The next `answer` starts them again."""
        import ray

        slots, self._slots = self._slots, []
        if closing := [slot.actor.close.remote() for slot in slots if slot.call is None]:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSING)
        for slot in slots:
            ray.kill(slot.actor)

    def answer(self, works: Iterator[Work]) -> Iterator[Completion]:
        """Yield the answers to `works` as they come. `works` is read only as fast as the replicas have room."""
        self._again.clear()
        self._answers.clear()
        self._start(self.config.replicas - len(self._slots))
        ahead = deque(islice(works, len(self._slots)))
        try:
            while True:
                for slot in self._slots:
                    self._feed(slot, ahead)
                ahead.extend(islice(works, max(0, len(self._slots) - len(ahead))))  # while the replicas compute
                while self._answers:
                    yield self._answers.popleft()
                if not ahead and not self._again and all(slot.call is None or slot.loading for slot in self._slots):
                    return
                self._step()
        except BaseException:  # nobody waits for the work under way any more
            self.stop()
            raise

    def _feed(self, slot: Slot, ahead: deque[Work]) -> None:
        """Give work to a replica without a call, or to a call that has room for more."""
        if slot.call is None and (queue := self._again or ahead):
            self._call(slot, queue.popleft())
        elif slot.joins and slot.joining is None:
            work = ahead.popleft() if ahead else Work()
            slot.joins = bool(work.prompts)
            slot.given |= dict.fromkeys(work.wanted, work)
            slot.joining = slot.actor.join.remote(work)

    def _call(self, slot: Slot, work: Work) -> None:
        """Let a replica answer `work`; without prompts it only loads the model."""
        slot.model, slot.loading, slot.joins = self._model, not work.prompts, work.joins
        slot.given = dict.fromkeys(work.wanted, work)
        slot.call = slot.actor.answer.options(num_returns="streaming").remote(self._model, work)

    def _step(self) -> None:
        """Wait for the next answer of a replica, or until a call ends or has room."""
        import ray

        waiting = {ref: slot for slot in self._slots for ref in (slot.call, slot.joining) if ref is not None}
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK)
        if time.monotonic() > self._looked + LOOK:
            look(self.config, idle=all(slot.loading for slot in self._slots))
            self._looked = time.monotonic()
        for ref in ready:
            slot = waiting[ref]
            self._slots.append(self._slots.pop(self._slots.index(slot)))  # the next to be asked are the others
            try:
                if ref is slot.joining:
                    slot.joining = ray.get(ref)
                else:
                    self._take(slot, ray.get(next(ref)))
            except StopIteration:
                self._ended(slot)
            except ray.exceptions.RayError as error:
                self._lost(slot, error)

    def _take(self, slot: Slot, answer: Completion) -> None:
        slot.deaths = 0
        if slot.given.pop(answer.id, None):
            self._answers.append(answer)

    def _ended(self, slot: Slot) -> None:
        slot.call = None
        self._answers.extend(_failed(name, "the backend gave no answer") for name in slot.given)
        if slot.model is self._model:
            self._ready = True
        else:
            self._call(slot, Work())

    def _lost(self, slot: Slot, error: Exception) -> None:
        """Replace a lost replica and queue its work. Raises an error that another start would not fix."""
        import ray

        cause = getattr(error, "cause", None)
        hopeless = slot.loading and not self._ready
        if isinstance(cause, SelfDistillError) and (hopeless or not isinstance(cause, ModelError)):
            raise cause
        ray.kill(slot.actor)
        self._slots.remove(slot)
        for work in dict.fromkeys(slot.given.values()):
            self._do_again(work.left(slot.given), reason(error))
        if slot.deaths + 1 < (_LOADS if slot.loading else _DEATHS):
            self._start(1, slot.deaths + 1)
            return
        gone = (
            f"A replica of the backend ray was given up, having died {slot.deaths + 1} times in a row ({reason(error)})"
        )
        if not self._slots:
            raise ModelError(
                f"{gone}, and it was the last one. The answers that came are kept; fix this and run the command again."
            )
        logging.getLogger(__name__).warning("%s; %d are left.", gone, len(self._slots))

    def _do_again(self, work: Work, why: str) -> None:
        """Queue the work of a lost replica. The last try of prompts that need not be one batch is each prompt alone."""
        if work.failures == _TRIES:
            self._answers.extend(_failed(name, f"{_TRIES} replicas died over it ({why})") for name in work.wanted)
        elif work.any_time and work.failures == _TRIES - 1:
            self._again.extend(replace(work, prompts=(prompt,)) for prompt in work.prompts)
        else:
            self._again.append(work)

    def _start(self, count: int, deaths: int = 0) -> None:
        import ray

        # Two calls at a time: `answer`, and `join` while it answers.
        options = {"num_gpus": self.config.gpus, "num_cpus": self.config.cpus, "max_concurrency": 2}
        for _ in range(count):
            slot = Slot(ray.remote(Replica).options(**options).remote(self._models), deaths)
            self._slots.append(slot)
            self._call(slot, Work())


def _failed(name: str, why: str) -> Completion:
    return Completion(name, "", "error", error=why, transient=True)
