"""The replicas on a Ray cluster, and the work that the command gives them."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import chain, islice
from math import ceil
from queue import Queue
from textwrap import shorten
from typing import Any

from ...errors import ModelError
from ...recipe import ModelConfig, RayConfig, Sampling
from ...types import Completion, Prompt
from .. import open_backend
from ..cache import EngineCache

MISSING = "The backend ray needs Ray; install it with `pip install 'selfdistill[ray]'`."
_TRIES = 3  # a prompt is an error after so many replicas died of it
_DEATHS = 5  # a replica is given up after so many deaths in a row without an answer
_joined: RayConfig | None = None  # the settings with which this process joined or started Ray, which it can do once
Models = Sequence[tuple[ModelConfig, str | None]]  # the models that will be asked for, see `EngineCache`


@dataclass(frozen=True, eq=False)
class Work:
    """Prompts for one replica: one group or, with `any_time`, prompts that need not be computed together. `failures`
    counts the replicas that died of it. Work without prompts only loads the model."""

    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    done: frozenset[str] = frozenset()
    any_time: bool = False
    failures: int = 0

    @property
    def wanted(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.id not in self.done]


class Replica:
    """A backend in a process on the cluster. Two calls run at a time: `answer`, and `join` meanwhile."""

    def __init__(self, models: Models) -> None:
        self._opened, self._cache = ExitStack(), EngineCache(models)
        self._loaded: tuple[str, ModelConfig, str | None] | None = None
        self._more: Queue[tuple[Prompt, ...]] = Queue(maxsize=1)

    def answer(self, model: tuple[str, ModelConfig, str | None], work: Work, joins: bool) -> Iterator[Completion]:
        """Load the model if it is another one. Yield the answers to `work` and, with `joins`, to what `join` adds."""
        try:
            if self._loaded != model:
                self._opened.close()
                self._backend = self._opened.enter_context(open_backend(*model, self._cache))
                self._backend.together = True
                self._loaded = model
        except Exception as error:
            node = f"This was on the node {platform.node()}; every node needs models and adapters at the same path."
            raise ModelError(f"{error} ({node})") from error
        more = chain.from_iterable(iter(self._more.get, ())) if joins else ()
        try:
            yield from self._backend.generate(chain(work.prompts, more), work.sampling, work.done)
        except SystemExit as error:  # in a model's code; Ray would end the process without the reason
            raise RuntimeError(repr(error)) from error

    def join(self, prompts: tuple[Prompt, ...]) -> None:
        """Add prompts to the call of `answer` under way, and wait until it has room for more. No prompts end it."""
        self._more.put(prompts)

    def close(self) -> None:
        self._opened.close()
        self._cache.stop()


@dataclass(eq=False)
class Slot:
    """The place of a replica. `call` streams the answers of the call under way, `joining` adds work to the call, and
    `given` maps the prompts without an answer to their work."""

    actor: Any
    deaths: int = 0
    loaded: bool = False
    call: Any = None
    joins: bool = False
    joining: Any = None
    given: dict[str, Work] = field(default_factory=dict)


class Pool:
    """`config.replicas` replicas. Raises ModelError if the cluster cannot be joined."""

    broken = False  # a pool without replicas starts them when it is asked

    def __init__(self, config: RayConfig, models: Models = ()) -> None:
        self._ray, self._config, self._models = connect(config), config, models
        self._slots: deque[Slot] = deque()
        self._again: deque[Work] = deque()  # the work of lost replicas

    def load(self, model: ModelConfig, adapter: str | None) -> None:
        """Load a model in every replica, in place of the previous one, and wait for the first replica."""
        self._model = (self._config.backend, model, adapter)
        for slot in self._slots:
            slot.loaded = False
        deque(self.answer(iter(())))

    def stop(self) -> None:
        """End the replicas, which frees their GPUs and memory."""
        slots, self._slots, self._again = self._slots, deque(), deque()
        if closing := [slot.actor.close.remote() for slot in slots if slot.call is None]:
            self._ray.wait(closing, num_returns=len(closing), timeout=30)
        for slot in slots:
            self._ray.kill(slot.actor)

    def answer(self, works: Iterator[Work]) -> Iterator[Completion]:
        """Yield the answers to `works` as they come. `works` is read only as fast as the replicas have room."""
        for _ in range(self._config.replicas - len(self._slots)):
            self._start()
        ahead = deque(islice(works, len(self._slots)))
        try:
            while ahead or self._again or not self._up() or any(slot.loaded and slot.call for slot in self._slots):
                for slot in self._slots:
                    self._feed(slot, ahead)
                ahead.extend(islice(works, max(0, len(self._slots) - len(ahead))))  # while the replicas compute
                yield from self._news()
        except BaseException:  # nobody waits for the work under way any more
            self.stop()
            raise

    def _start(self, deaths: int = 0) -> None:
        remote = self._ray.remote(num_gpus=self._config.gpus, num_cpus=self._config.cpus, max_concurrency=2)(Replica)
        self._slots.append(Slot(remote.remote(self._models), deaths))

    def _up(self) -> bool:
        return any(slot.loaded for slot in self._slots)

    def _feed(self, slot: Slot, ahead: deque[Work]) -> None:
        """Give work to a replica that waits, or to a call that has room for more. A replica loads the model first."""
        if slot.call is None and (self._again or ahead or not slot.loaded):
            work = (self._again or ahead).popleft() if slot.loaded else Work()
            slot.joins = work.any_time and not work.failures  # work that a replica died of is answered alone
            slot.call = slot.actor.answer.options(num_returns="streaming").remote(self._model, work, slot.joins)
        elif slot.joins and slot.joining is None:
            work = ahead.popleft() if ahead else Work()
            slot.joins, slot.joining = work.any_time, slot.actor.join.remote(work.prompts)
        else:
            return
        slot.given |= {prompt.id: work for prompt in work.wanted}

    def _news(self) -> Iterator[Completion]:
        """Wait for an answer, the end of a call, room in a call, or the loss of a replica. Yields the answers."""
        self._slots.rotate()  # Ray prefers the first
        waiting = {ref: slot for slot in self._slots for ref in (slot.call, slot.joining) if ref is not None}
        ready, _ = self._ray.wait(list(waiting), timeout=5)
        if not ready and not self._up():
            self._check_room()
        for ref in ready:
            slot = waiting[ref]
            try:
                if ref is slot.joining:
                    slot.joining = self._ray.get(ref)
                else:
                    answer = self._ray.get(next(ref))
                    slot.deaths = 0
                    if slot.given.pop(answer.id, None):
                        yield answer
            except StopIteration:
                yield from _failed(slot.given, "the backend gave no answer")
                slot.loaded, slot.call, slot.given = True, None, {}
            except self._ray.exceptions.RayError as error:
                yield from self._lost(slot, error)

    def _check_room(self) -> None:
        """Raise ModelError if no node has room for a replica."""
        gpus, cpus = self._config.gpus, self._config.cpus
        nodes = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        if not any(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= cpus for node in nodes):
            raise ModelError(
                f"No node that is up in the Ray cluster has the {gpus:g} GPUs and {cpus:g} CPUs of a replica; set "
                "model.ray.gpus and model.ray.cpus to what there is, or start nodes that have them."
            )

    def _lost(self, slot: Slot, error: Exception) -> Iterator[Completion]:
        """Replace a lost replica and queue its work. A batch stays whole, so that its answers are those of an
        uninterrupted run; the last try of other prompts is one by one. Yields errors for work that failed too often."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, ModelError) and not slot.deaths and not self._up():
            raise cause
        why = shorten(str(cause) or repr(cause), 300) if cause else "its process or node died, as when memory runs out"
        self._ray.kill(slot.actor)
        self._slots.remove(slot)
        for work in dict.fromkeys(slot.given.values()):
            answered = frozenset(prompt.id for prompt in work.prompts if prompt.id not in slot.given)
            work = replace(work, done=answered, failures=work.failures + 1)
            if work.failures == _TRIES:
                yield from _failed((prompt.id for prompt in work.wanted), f"{_TRIES} replicas died over it ({why})")
            elif work.failures == _TRIES - 1 and work.any_time:
                self._again.extend(replace(work, prompts=(prompt,)) for prompt in work.wanted)
            else:
                self._again.append(work)
        if slot.deaths + 1 < _DEATHS:
            self._start(slot.deaths + 1)
            return
        gone = f"A replica of the backend ray was given up, having died {_DEATHS} times in a row ({why})"
        if not self._slots:
            raise ModelError(f"{gone}; it was the last one. The answers that came are kept; fix this and run again.")
        logging.getLogger(__name__).warning("%s; %d are left.", gone, len(self._slots))


def _failed(names: Iterable[str], why: str) -> Iterator[Completion]:
    return (Completion.failed(name, why, transient=True) for name in names)


def connect(config: RayConfig) -> Any:
    """Join the cluster at `config.address`, or start a local Ray that ends with this process. An existing connection
    is kept. Returns the module `ray`. Raises ModelError."""
    global _joined
    if find_spec("ray") is None:
        raise ModelError(MISSING)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; avoids its warning
    import ray

    if ray.is_initialized():
        if _joined and config.address not in (None, _joined.address):
            raise ModelError(
                f"This command works on {_joined.address or 'a Ray of its own'}, and another model names the cluster "
                f"at {config.address}; name one address in model.ray and judge.model.ray."
            )
        return ray
    options: dict[str, Any] = {"address": config.address or "local"}
    if not config.address:
        cores = max(ceil(config.replicas * config.cpus), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": 1 << 28}  # 256 MiB
    try:
        host, _, port = options["address"].rpartition(":")
        if port.isdecimal():  # if nobody listens there, Ray would try for two minutes and then end this process
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # Ray raises a plain Exception if a node does not start in time
        where = f"The Ray cluster at {config.address} can't be joined" if config.address else "Ray does not start"
        raise ModelError(f"{where} ({error}); see `ray status`, or leave model.ray.address out.") from error
    _joined = config
    return ray
