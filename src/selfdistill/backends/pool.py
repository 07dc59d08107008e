"""Replicas on a Ray cluster: started, fed, watched, and started again where they are lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError, SelfDistillError
from ..recipe import ModelConfig, RayConfig
from ..types import Completion
from .cluster import LOOK, Cluster, reason
from .replica import ALONE, Models, Replica, Work

_CLOSING = 30.0  # seconds that a replica gets to free its memory by itself
_LOADS = 3  # so often a replica may fail to start, and
_DEATHS = 8  # so often die, in a row and without an answer, before it is given up


@dataclass
class Slot:
    """A replica, or its place while it starts again. `call` is what it was asked last and has not returned;
    `given` is its work by prompt id, with the ids of that work which have no answer yet."""

    actor: Any
    call: Any = None
    loading: bool = True
    given: dict[str, tuple[Work, set[str]]] = field(default_factory=dict)
    joined: bool = False
    deaths: int = 0


class Pool:
    """`config.replicas` replicas; `models` are those that share an engine, see `EngineCache`. Raises ModelError."""

    broken = False  # a pool without replicas starts them when it loads a model

    def __init__(self, config: RayConfig, models: Models = ()) -> None:
        self.config, self._models = config, models
        self._slots: list[Slot] = []
        self._ready = False  # whether a replica has loaded what is asked for now
        self._parts: Iterator[Work | Completion] = iter(())
        self._exhausted = False  # whether `_parts` is read to its end
        self._ahead: deque[Work] = deque()  # what is read of them, and
        self._again: deque[Work] = deque()  # what a lost replica was at: to be done
        self._answers: deque[Completion] = deque()
        self._cluster = Cluster(config)

    def load(self, model: ModelConfig, adapter: str | None) -> None:
        """Has every replica load a model, those that are up in place of the one before; waits for the first."""
        self._load = (self.config.backend, model, adapter)
        self._ready = False
        for slot in self._slots:
            self._ask_to_load(slot)
        self._fill()
        while not self._ready:
            self._step()

    def stop(self) -> None:
        """Ends the replicas, and with them what they hold of GPU and memory. Another `answer` starts them anew."""
        import ray

        slots, self._slots = self._slots, []
        if closing := [slot.actor.close.remote() for slot in slots if not slot.loading and not slot.given]:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSING)
        for slot in slots:
            ray.kill(slot.actor)

    def answer(self, parts: Iterator[Work | Completion]) -> Iterator[Completion]:
        """The answers to `parts`, read as replicas have room, and the completions among them; as they come."""
        self._parts, self._exhausted = parts, False
        for queue in (self._ahead, self._again, self._answers):
            queue.clear()
        self._fill()
        try:
            while True:
                for slot in self._slots:
                    if slot.call is None:
                        self._feed(slot)
                while self._answers:
                    yield self._answers.popleft()
                if self._finished():
                    return
                self._read(len(self._slots))  # while replicas are at work: rendering takes its time
                self._step()
        except BaseException:  # what is under way is nobody's any more
            self.stop()
            raise

    def _finished(self) -> bool:
        left = self._again or self._ahead or self._answers or not self._exhausted
        return not left and not any(slot.given for slot in self._slots)

    def _step(self) -> None:
        """Waits for what a replica says next, and takes it in."""
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
        answers, wants = reply
        for answer in answers:
            slot.deaths = 0
            if answer.id in slot.given:
                slot.given.pop(answer.id)[1].discard(answer.id)
        self._answers.extend(answers)
        self._feed(slot, wants)

    def _feed(self, slot: Slot, wants: bool = True) -> None:
        """Gives a replica more to do where it wants more and there is some, and waits for it where it is at work."""
        work = self._next(slot) if wants else None
        if work is not None:
            wanted = work.wanted
            slot.given |= dict.fromkeys(wanted, (work, wanted))
            slot.joined = work.joins and not work.alone
        elif wants and slot.joined:
            work, slot.joined = Work((), self._sampling), False
        if work is not None or slot.given:
            slot.call = slot.actor.exchange.remote(work)

    def _next(self, slot: Slot) -> Work | None:
        """One batch at a time, so that the last ones are shared out evenly; what joins at any time. What was lost comes
        first; what has cost several replicas waits for one that does nothing else."""
        if any(work.alone or not work.joins for work, _ in slot.given.values()):
            return None
        if self._again and (not self._again[0].alone or not slot.given):
            return self._again.popleft()
        self._read(1)
        return self._ahead.popleft() if self._ahead else None

    def _read(self, works: int) -> None:
        """Reads on, until so many are ready to be given."""
        while len(self._ahead) < works and not self._exhausted:
            part = next(self._parts, None)
            if part is None:
                self._exhausted = True
            elif isinstance(part, Work):
                self._sampling = part.sampling
                self._ahead.append(part)
            else:
                self._answers.append(part)

    def _lost(self, slot: Slot, error: Exception) -> None:
        """Starts the replica again, and has its work done again. Raises what another start can't mend."""
        import ray

        cause = getattr(error, "cause", None)
        hopeless = slot.loading and not self._ready
        if isinstance(cause, SelfDistillError) and (hopeless or not isinstance(cause, ModelError)):
            raise cause
        ray.kill(slot.actor)
        lost = {id(work): (work, wanted) for work, wanted in slot.given.values()}
        for work, wanted in lost.values():
            self._do_again(work.left(wanted), reason(error))
        slot.deaths += 1
        self._slots.remove(slot)
        if slot.deaths < (_LOADS if slot.loading else _DEATHS):
            self._start(slot.deaths)
            return
        told = f"A replica of the backend ray was given up, having died {slot.deaths} times in a row ({reason(error)})"
        if not self._slots:
            raise ModelError(f"{told}, and it was the last one; what was answered is kept, mend that and run again.")
        logging.getLogger(__name__).warning("%s; %d are left.", told, len(self._slots))

    def _do_again(self, work: Work, why: str) -> None:
        if work.failures <= ALONE:
            # Innocent work before suspects, of which each is alone.
            self._again.append(work) if work.alone else self._again.appendleft(work)
        elif work.joins and len(work.prompts) > 1:
            self._again.extend(work.split())
        else:
            told = f"{work.failures} replicas died over it ({why})"
            failed = (Completion(name, "", "error", error=told, transient=True) for name in sorted(work.wanted))
            self._answers.extend(failed)

    def _fill(self) -> None:
        while len(self._slots) < self.config.replicas:
            self._start()

    def _start(self, deaths: int = 0) -> None:
        import ray

        options = {"num_gpus": self.config.gpus, "num_cpus": self.config.cpus, "max_restarts": 0}
        slot = Slot(ray.remote(Replica).options(**options).remote(self._models), deaths=deaths)
        self._slots.append(slot)
        self._ask_to_load(slot)

    def _ask_to_load(self, slot: Slot) -> None:
        slot.loading, slot.call = True, slot.actor.load.remote(*self._load)
