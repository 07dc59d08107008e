"""Replicas on a Ray cluster: started, fed, watched, and started again where they are lost."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import ceil
from typing import Any

from ..config import ModelConfig, RayConfig
from ..errors import ModelError, SelfDistillError
from ..types import Completion
from .replica import ALONE, Models, Replica, Work

INSTALL = "install it with `pip install 'selfdistill[ray]'`"
_LOOK = 5.0  # seconds between two looks at the cluster
_HEAD_GONE = 30.0  # seconds without its head node; after 60 Ray would end this process
_LOADS = 3  # so often a replica may fail to start, and
_DEATHS = 8  # so often die, in a row and without an answer, before it is given up
_STORE = 1 << 28  # bytes of shared memory for a Ray of our own, through which next to nothing goes


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
    """`config.replicas` replicas; `models` are those that share an engine, see `engine.sharing`. Raises ModelError."""

    def __init__(self, config: RayConfig, models: Models = ()) -> None:
        self.config, self._models = config, models
        self._slots: list[Slot] = []
        self._ready = False  # whether a replica has loaded what is asked for now
        self._parts: Iterator[Work | Completion] = iter(())
        self._exhausted = False  # whether `_parts` is read to its end
        self._again: deque[Work] = deque()  # what a lost replica was at
        self._answers: deque[Completion] = deque()
        self._looked = 0.0
        self._head_seen = time.monotonic()
        connect(config)
        self._head = _address()

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
        for slot in slots:
            ray.kill(slot.actor)

    def answer(self, parts: Iterator[Work | Completion]) -> Iterator[Completion]:
        """The answers to `parts`, read as replicas have room, and the completions among them; as they come."""
        self._parts, self._exhausted = parts, False
        self._again.clear()
        self._answers.clear()
        self._fill()
        try:
            while True:
                for slot in self._slots:
                    if slot.call is None:
                        self._feed(slot)
                while self._answers:
                    yield self._answers.popleft()
                if self._exhausted and not self._again and not any(slot.given for slot in self._slots):
                    return
                self._step()
        except BaseException:  # what is under way is nobody's any more
            self.stop()
            raise

    def _step(self) -> None:
        """Waits for what a replica says next, and takes it in."""
        import ray

        calls = {slot.call: slot for slot in self._slots if slot.call is not None}
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=_LOOK)
        if time.monotonic() - self._looked > _LOOK:
            self._look()
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
        """What was lost comes first; what has cost several replicas waits for one that does nothing else."""
        if any(work.alone for work, _ in slot.given.values()):
            return None
        if self._again and (not self._again[0].alone or not slot.given):
            return self._again.popleft()
        for part in self._parts:
            if isinstance(part, Work):
                self._sampling = part.sampling
                return part
            self._answers.append(part)
        self._exhausted = True
        return None

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
            self._do_again(work.left(wanted), _reason(error))
        slot.deaths += 1
        self._slots.remove(slot)
        if slot.deaths < (_LOADS if slot.loading else _DEATHS):
            self._start(slot.deaths)
            return
        told = f"A replica of the backend ray was given up, having died {slot.deaths} times in a row ({_reason(error)})"
        if not self._slots:
            raise ModelError(f"{told}, and it was the last one; what was answered is kept, mend that and run again.")
        logging.getLogger(__name__).warning("%s; %d are left.", told, len(self._slots))

    def _do_again(self, work: Work, reason: str) -> None:
        if work.failures <= ALONE:
            # Innocent work before suspects, of which each is alone.
            self._again.append(work) if work.alone else self._again.appendleft(work)
        elif work.joins and len(work.prompts) > 1:
            self._again.extend(work.split())
        else:
            told = f"{work.failures} replicas died over it ({reason})"
            failed = (Completion(name, "", "error", error=told, transient=True) for name in sorted(work.wanted))
            self._answers.extend(failed)

    # ---- the cluster

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

    def _look(self) -> None:
        """Raises ModelError where the cluster is gone, or has no node left on which a replica has room."""
        import ray

        self._looked = time.monotonic()
        try:
            socket.create_connection(self._head, timeout=_LOOK).close()
            self._head_seen = time.monotonic()
        except OSError:
            if time.monotonic() - self._head_seen > _HEAD_GONE:
                raise ModelError(
                    f"The Ray cluster's head at {self._head[0]}:{self._head[1]} can't be reached any more; what was "
                    "answered is kept, start the cluster again and run again."
                ) from None
            return
        if all(slot.loading for slot in self._slots) and not any(map(self._fits, ray.nodes())):
            raise ModelError(
                f"No node of the Ray cluster has the {self.config.gpus:g} GPUs and {self.config.cpus:g} CPUs of a "
                "replica; set model.ray.gpus and model.ray.cpus to what there is, or start nodes that have them."
            )

    def _fits(self, node: dict[str, Any]) -> bool:
        there = node["Resources"]
        wanted = {"GPU": self.config.gpus, "CPU": self.config.cpus}
        return bool(node["Alive"]) and all(there.get(name, 0) >= number for name, number in wanted.items())


def ray_missing(config: RayConfig) -> list[str]:
    """What is missing here that can be told without joining a cluster, a sentence each."""
    if find_spec("ray") is None:
        return [f"The backend ray needs Ray; {INSTALL}."]
    wanted = config.replicas * config.gpus
    if config.address or not wanted:
        return []
    import torch

    there = torch.cuda.device_count()
    advice = "set model.ray.gpus to 0 to compute on CPUs, or name a cluster in model.ray.address"
    return [f"model.ray asks for {wanted:g} GPUs, and there are {there} here; {advice}."] if wanted > there else []


def connect(config: RayConfig) -> None:
    """Joins the cluster at `config.address`, or starts a Ray of our own, which ends with this process; one that this
    process is connected to already is used as it is. Raises ModelError."""
    if find_spec("ray") is None:
        raise ModelError(f"The backend ray needs Ray; {INSTALL}.")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report its use to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what it will do anyway, and warns of
    import ray

    if ray.is_initialized():
        return
    # Ray prints what befalls replicas into the command's own output; it is told where it matters.
    ray._private.worker.print_to_stdstream = lambda *_args, **_kwargs: None
    own = {
        "include_dashboard": False,
        "num_cpus": max(ceil(config.replicas * config.cpus), os.cpu_count() or 1),
        "object_store_memory": _STORE,
    }
    try:
        ray.init(
            address=config.address or "local",
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **({} if config.address else own),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"The Ray cluster at {config.address} can't be joined" if config.address else "Ray does not start"
        raise ModelError(
            f"{where} ({_one_line(str(error))}); see `ray status`, or leave model.ray.address out to start one here."
        ) from error


def _address() -> tuple[str, int]:
    """Of the cluster's head."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return _one_line(str(cause) or repr(cause))
    text = str(error)
    if "node" in text and re.search(r"node (has )?(died|dead|crashed)|node_died|NODE_DIED", text):
        return "its node was lost"
    if "memory" in type(error).__name__.lower():
        return "its node ran out of memory"
    return "its process was killed or crashed, as when memory runs out"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300].rstrip(".")
