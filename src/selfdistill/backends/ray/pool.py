"""The replicas on a Ray cluster: started, given work, and started again if they are lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...errors import ModelError, SelfDistillError
from ...recipe import ModelConfig, RayConfig
from ...types import Completion
from .cluster import LOOK, Cluster, reason
from .replica import ALONE, Models, Replica, Work

_CLOSING = 30.0  # seconds that a replica gets to free its memory itself
_LOADS = 3  # a replica is given up after so many starts that fail,
_DEATHS = 8  # or after so many deaths in a row without an answer


@dataclass
class Slot:
    """The place of a replica. `call` is its call under way, and `given` maps each prompt under way to its work and to
    the ids of the work's prompts without an answer. `joined` is set while the replica expects work that joins."""

    actor: Any
    call: Any = None
    loading: bool = True
    given: dict[str, tuple[Work, set[str]]] = field(default_factory=dict)
    joined: bool = False
    deaths: int = 0


class Pool:
    """`config.replicas` replicas. `models` are the models that will be asked for, see `EngineCache`. Raises
    ModelError if the cluster cannot be joined."""

    broken = False  # a pool without replicas starts them when it loads a model

    def __init__(self, config: RayConfig, models: Models = ()) -> None:
        self.config, self._models = config, models
        self._slots: list[Slot] = []
        self._ready = False  # set once a replica has loaded the current model
        self._parts: Iterator[Work | Completion] = iter(())
        self._exhausted = False  # set once `_parts` is read to its end
        self._ahead: deque[Work] = deque()  # read from `_parts`, not given yet
        self._again: deque[Work] = deque()  # the work of lost replicas
        self._answers: deque[Completion] = deque()
        self._cluster = Cluster(config)

    def load(self, model: ModelConfig, adapter: str | None) -> None:
        """Load a model in every replica, in place of the previous one, and wait for the first replica."""
        self._load, self._ready = (self.config.backend, model, adapter), False
        for slot in self._slots:
            self._ask_to_load(slot)
        self._start(self.config.replicas - len(self._slots))
        while not self._ready:
            self._step()

    def stop(self) -> None:
        """End the replicas, which frees their GPUs and memory. The next `answer` starts them again."""
        import ray

        slots, self._slots = self._slots, []
        if closing := [slot.actor.close.remote() for slot in slots if not slot.loading and not slot.given]:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSING)
        for slot in slots:
            ray.kill(slot.actor)

    def answer(self, parts: Iterator[Work | Completion]) -> Iterator[Completion]:
        """Yield the answers to the work in `parts`, and the completions in it, as they come. `parts` is read only as
        fast as the replicas have room."""
        self._parts, self._exhausted = parts, False
        for queue in (self._ahead, self._again, self._answers):
            queue.clear()
        self._start(self.config.replicas - len(self._slots))
        try:
            while True:
                for slot in self._slots:
                    if slot.call is None:
                        self._feed(slot)
                while self._answers:
                    yield self._answers.popleft()
                waiting = self._again or self._ahead or self._answers or not self._exhausted
                if not waiting and not any(slot.given for slot in self._slots):
                    return
                self._read(len(self._slots))  # prompts are rendered while the replicas compute
                self._step()
        except BaseException:  # nobody waits for the work under way any more
            self.stop()
            raise

    def _step(self) -> None:
        """Wait for the next reply of a replica and process it."""
        import ray

        calls = {slot.call: slot for slot in self._slots if slot.call is not None}
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=LOOK)
        self._cluster.look(idle=all(slot.loading for slot in self._slots))
        if not ready:
            return
        slot = calls[ready[0]]
        slot.call = None
        try:
            reply = ray.get(ready[0])
        except ray.exceptions.RayError as error:
            self._lost(slot, error)
            return
        if slot.loading:
            slot.loading, self._ready = False, True
            return
        answers, room = reply
        for answer in answers:
            slot.deaths = 0
            if answer.id in slot.given:
                slot.given.pop(answer.id)[1].discard(answer.id)
        self._answers.extend(answers)
        self._feed(slot, room)

    def _feed(self, slot: Slot, room: bool = True) -> None:
        """Give a replica more work if it has room, and call it if it has work."""
        work = self._next(slot) if room else None
        if work is not None:
            wanted = work.wanted
            slot.given |= dict.fromkeys(wanted, (work, wanted))
            slot.joined = work.joins and not work.alone
        elif room and slot.joined:
            work, slot.joined = Work((), self._sampling), False
        if work is not None or slot.given:
            slot.call = slot.actor.exchange.remote(work)

    def _next(self, slot: Slot) -> Work | None:
        """Return the next work for a replica: one batch at a time, so that the last batches are shared evenly, and
        work that joins at any time. Work of lost replicas comes first. Work that cost several replicas is given only
        to a replica without other work."""
        if any(work.alone or not work.joins for work, _ in slot.given.values()):
            return None
        if self._again and (not self._again[0].alone or not slot.given):
            return self._again.popleft()
        self._read(1)
        return self._ahead.popleft() if self._ahead else None

    def _read(self, count: int) -> None:
        """Read `_parts` until `count` pieces of work are ready to be given."""
        while len(self._ahead) < count and not self._exhausted:
            part = next(self._parts, None)
            if part is None:
                self._exhausted = True
            elif isinstance(part, Work):
                self._sampling = part.sampling
                self._ahead.append(part)
            else:
                self._answers.append(part)

    def _lost(self, slot: Slot, error: Exception) -> None:
        """Start a lost replica again and queue its work. Raises an error that another start would not fix."""
        import ray

        cause = getattr(error, "cause", None)
        hopeless = slot.loading and not self._ready
        if isinstance(cause, SelfDistillError) and (hopeless or not isinstance(cause, ModelError)):
            raise cause
        ray.kill(slot.actor)
        for work, wanted in {id(work): (work, wanted) for work, wanted in slot.given.values()}.values():
            self._do_again(work.left(wanted), reason(error))
        slot.deaths += 1
        self._slots.remove(slot)
        if slot.deaths < (_LOADS if slot.loading else _DEATHS):
            self._start(1, slot.deaths)
            return
        gone = f"A replica of the backend ray was given up, having died {slot.deaths} times in a row ({reason(error)})"
        if not self._slots:
            raise ModelError(
                f"{gone}, and it was the last one. The answers that came are kept; fix this and run the command again."
            )
        logging.getLogger(__name__).warning("%s; %d are left.", gone, len(self._slots))

    def _do_again(self, work: Work, why: str) -> None:
        if work.failures <= ALONE:
            # Work without suspicion comes first; suspects are answered alone.
            self._again.append(work) if work.alone else self._again.appendleft(work)
        elif work.joins and len(work.prompts) > 1:
            self._again.extend(work.split())
        else:
            error = f"{work.failures} replicas died over it ({why})"
            names = sorted(work.wanted)
            self._answers.extend(Completion(name, "", "error", error=error, transient=True) for name in names)

    def _start(self, count: int, deaths: int = 0) -> None:
        import ray

        options = {"num_gpus": self.config.gpus, "num_cpus": self.config.cpus, "max_restarts": 0}
        for _ in range(count):
            self._slots.append(Slot(ray.remote(Replica).options(**options).remote(self._models), deaths=deaths))
            self._ask_to_load(self._slots[-1])

    def _ask_to_load(self, slot: Slot) -> None:
        slot.loading, slot.call = True, slot.actor.load.remote(*self._load)
