"""The code that runs in one process of a Ray cluster: a backend that is given work while it answers."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from threading import Event, Thread

from ...errors import ModelError, SelfDistillError
from ...models.source import model_source
from ...recipe import ModelConfig, Sampling
from ...types import Completion, Prompt
from .. import Backend, open_backend
from ..cache import EngineCache

Models = Sequence[tuple[ModelConfig, str | None]]
ALONE = 2  # after so many deaths of a replica, its work is answered alone


@dataclass(frozen=True)
class Work:
    """Prompts for one replica. With `joins`, the replica may answer the next work at the same time; otherwise the
    prompts are one batch. Work without prompts ends the joining. `failures` counts the replicas that died of it."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    done: frozenset[str] = frozenset()
    joins: bool = False
    failures: int = 0

    @property
    def alone(self) -> bool:
        return self.failures >= ALONE

    @property
    def wanted(self) -> set[str]:
        return {prompt.id for prompt in self.prompts} - self.done

    def left(self, wanted: set[str]) -> Work:
        """Return the work to repeat after a replica died, if the prompts `wanted` have no answer yet. A batch stays
        whole, so that its answers are the same as in an uninterrupted run."""
        if self.joins:
            prompts = tuple(prompt for prompt in self.prompts if prompt.id in wanted)
            return replace(self, prompts=prompts, failures=self.failures + 1)
        return replace(self, done=self.done | (self.wanted - wanted), failures=self.failures + 1)

    def split(self) -> list[Work]:
        """Return the single prompts, each with one more try, to find the one that kills."""
        return [replace(self, prompts=(prompt,), failures=ALONE) for prompt in self.prompts]


class Replica:
    """A backend with one model. A thread answers, so that `exchange` can take more work at the same time. `models`
    are the models that will be asked for, see `EngineCache`."""

    def __init__(self, models: Models) -> None:
        self._opened, self._cache = ExitStack(), EngineCache(models)
        self._backend: Backend | None = None
        self._feed: Queue[Work] = Queue()
        self._events: Queue[Completion | Exception | None] = Queue()
        self._failure: Exception | None = None
        self._idle = Event()
        Thread(target=self._answer, daemon=True).start()

    def load(self, name: str, model: ModelConfig, adapter: str | None) -> None:
        """Close the backend that is open and open another. Raises ModelError, or what the backend raises, with the
        name of the node."""
        self._idle.wait()
        self._opened.close()
        node, places = platform.node(), (model_source(model), model.chat_template, adapter)
        missing = [path for path in places if path and Path(path).is_absolute() and not Path(path).exists()]
        if missing:
            raise ModelError(
                f"The node {node} has no {' and no '.join(missing)}: every node needs the model, and the adapters of "
                "arms, at the same path; put them into a folder that all nodes share."
            )
        try:
            self._backend = self._opened.enter_context(open_backend(name, model, adapter, self._cache))
        except SelfDistillError as error:
            raise type(error)(f"{error} (This was on the node {node}.)") from error

    def close(self) -> None:
        """Free the memory of the backend. The process may be ended afterwards."""
        self._idle.wait()
        self._opened.close()
        self._cache.stop()

    def exchange(self, work: Work | None) -> tuple[list[Completion], bool]:
        """Take `work` and wait until something happens. Returns the new answers, and whether there is room for more
        work. Raises what the backend raised."""
        if work is not None:
            self._feed.put(work)
        events = [self._events.get()] if self._failure is None else []
        while not self._events.empty():
            events.append(self._events.get())
        self._failure = next((event for event in events if isinstance(event, Exception)), self._failure)
        answers = [event for event in events if isinstance(event, Completion)]
        if self._failure is not None and not answers:
            raise self._failure
        return answers, self._feed.empty()

    def _answer(self) -> None:
        try:
            while True:
                self._idle.set()
                work = self._take()
                if work.prompts:
                    self._answer_from(work)
        except Exception as error:
            self._events.put(error)
        except BaseException as error:  # for example SystemExit in a model's code, which would end the thread silently
            self._events.put(RuntimeError(repr(error)))
        finally:
            self._idle.set()

    def _answer_from(self, work: Work) -> None:
        assert self._backend is not None
        wanted: set[str] = set()
        for answer in self._backend.generate(self._prompts(work, wanted), work.sampling, work.done):
            wanted.discard(answer.id)
            self._events.put(answer)
        for name in wanted:
            self._events.put(Completion(name, "", "error", error="the backend gave no answer", transient=True))

    def _prompts(self, work: Work, wanted: set[str]) -> Iterator[Prompt]:
        """Yield the prompts of `work` and, if it joins, of the work after it. Adds to `wanted` the ids to answer."""
        while True:
            wanted |= work.wanted
            yield from work.prompts
            if not (work.joins and work.prompts) or work.alone:
                return
            work = self._take()

    def _take(self) -> Work:
        work = self._feed.get()
        self._idle.clear()
        self._events.put(None)  # reports that there is room for more work
        return work
