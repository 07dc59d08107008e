"""What runs in a process of a Ray cluster: any backend, fed with work as it goes. Knows nothing of Ray itself."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread

from ..errors import ModelError, SelfDistillError
from ..models.source import model_source
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from . import Backend, open_backend
from .cache import EngineCache

Models = Sequence[tuple[ModelConfig, str | None]]
ALONE = 2  # so often a replica has died over it that nothing else is answered beside it


@dataclass(frozen=True)
class Work:
    """Prompts for one replica. `joins`: what comes next may be answered along with them, as engines do that take
    prompts in as they come; else they are a batch, answered on its own. Without prompts it ends what was joined."""

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
        """What is to be done again where a replica was lost, and `wanted` are the ids that have no answer yet. A batch
        stays whole, so that its answers are those of an uninterrupted run."""
        if self.joins:
            prompts = tuple(prompt for prompt in self.prompts if prompt.id in wanted)
            return replace(self, prompts=prompts, failures=self.failures + 1)
        return replace(self, done=self.done | (self.wanted - wanted), failures=self.failures + 1)

    def split(self) -> list[Work]:
        """The single prompts of which one is at fault, each to be tried once more."""
        return [replace(self, prompts=(prompt,), failures=ALONE) for prompt in self.prompts]


class Replica:
    """A backend with one model, in a process of its own. Answers in a thread, so that it never waits for more work to
    arrive; `models` are those that share an engine, see `EngineCache`."""

    def __init__(self, models: Models) -> None:
        self._opened, self._cache = ExitStack(), EngineCache(models)
        self._backend: Backend | None = None
        self._feed: Queue[Work] = Queue()
        self._events: Queue[Completion | Exception | None] = Queue()
        self._failure: Exception | None = None
        self._idle = Event()
        Thread(target=self._answer, daemon=True).start()

    def load(self, name: str, model: ModelConfig, adapter: str | None) -> None:
        """Opens the backend in place of the one before. Raises ModelError, or what the backend raises, with the node's
        name."""
        self._idle.wait()
        self._opened.close()
        node = platform.node()
        paths = [
            path for path in (model_source(model), model.chat_template, adapter) if path and Path(path).is_absolute()
        ]
        if missing := [path for path in paths if not Path(path).exists()]:
            raise ModelError(
                f"The node {node} has no {' and no '.join(missing)}: every node needs the model, and the adapters of "
                "arms, at the same path; put them into a folder that all nodes share."
            )
        try:
            self._backend = self._opened.enter_context(open_backend(name, model, adapter, self._cache))
        except SelfDistillError as error:
            raise type(error)(f"{error} (This was on the node {node}.)") from error

    def close(self) -> None:
        """Frees what the backend holds; the process may then be ended."""
        self._idle.wait()
        self._opened.close()
        self._cache.stop()

    def exchange(self, work: Work | None) -> tuple[list[Completion], bool]:
        """Takes `work` in and waits until something happens; gives what is answered, and whether more work is wanted.
        Raises what the backend raised."""
        if work is not None:
            self._feed.put(work)
        events = [self._events.get()] if self._failure is None else []
        while True:
            try:
                events.append(self._events.get_nowait())
            except Empty:
                break
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
        except BaseException as error:  # a SystemExit in a model's own code, say, would end this thread in silence
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
        """Those of `work`, and if it joins those of what comes after it; adds to `wanted` what is to be answered."""
        while True:
            wanted |= work.wanted
            yield from work.prompts
            if not (work.joins and work.prompts) or work.alone:
                return
            work = self._take()

    def _take(self) -> Work:
        work = self._feed.get()
        self._idle.clear()
        self._events.put(None)  # so that more is given
        return work
