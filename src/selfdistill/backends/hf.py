"""transformers in this process: groups of prompts of similar length. As many of a group are computed at a time as fit
into a token budget, and half as many if memory runs out.

The operations of a small model on a CPU are too short to gain from more threads. So each thread computes a group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from ..models.cpu import attend_on_cpu
from ..models.loading import context_length, free_memory, load_model, load_renderer, out_of_memory
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from . import Backend
from .batches import Group, TokenRow, groups, rows_of, to_completion, windows
from .continuations import Likelihood, scoring_tasks
from .decoding import decode
from .trace_limits import TraceLimits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models.renderer import Renderer

R = TypeVar("R")
Task = Callable[[Event], R]  # receives an Event that is set on cancellation

_SMALL = 200_000_000  # parameters
_MOST_AT_ONCE = 4  # groups: each has a cache, and all wait for one interpreter between their operations


class HFBackend(Backend):
    """Answers with transformers. Entering loads the model, and raises ModelError if it cannot be loaded or is not a
    chat model."""

    has_weights = returns_logprobs = forms_batches = limits_traces = True
    _model: PreTrainedModel | None = None
    _renderer: Renderer | None = None

    def __enter__(self) -> HFBackend:
        self._renderer = load_renderer(self._config)
        self._model = load_model(self._config, self._adapter).eval()
        attend_on_cpu(self._model)
        return self

    @classmethod
    def on(cls, config: ModelConfig, model: Any, renderer: Renderer) -> HFBackend:
        """A backend on a loaded model that stays with its owner, such as a trainer. It is not to be entered."""
        backend = cls(config)
        backend._model, backend._renderer = model, renderer
        return backend

    def close(self) -> None:
        self._model = self._renderer = None
        free_memory()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`. A group is skipped if all its prompts are done. A group that was interrupted is computed
        whole, so that its answers are the same as in an uninterrupted run."""
        for answers in side_by_side(self._tasks(prompts, sampling, done), self._at_once()):
            yield from (answer for answer in answers if answer.id not in done)

    def continue_rows(self, rows: Sequence[TokenRow], sampling: Sampling) -> Iterator[Completion]:
        """Yield the answers to prompts that are token ids already, as they finish."""
        tasks = (partial(self._answer, group, sampling) for group in self._groups(rows))
        for answers in side_by_side(tasks, self._at_once()):
            yield from answers

    def log_likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[int, Likelihood]]:
        """Yield the likelihood of the second of each pair of token ids after the first, with the pair's place, as they
        are computed. See `shares_prompts` for the models that can do so."""
        model, _ = self.loaded()
        for found in side_by_side(scoring_tasks(model, pairs, self._config.batch_tokens), self._at_once()):
            yield from found

    def _tasks(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str]
    ) -> Iterator[Task[list[Completion]]]:
        model, renderer = self.loaded()
        context = context_length(model.config)
        for window in windows(prompts):
            if all(prompt.id in done for prompt in window):
                continue
            rows, failed = rows_of(window, renderer, sampling, context)
            for group in self._groups(rows):
                if any(row.id not in done for row in group.rows):
                    yield partial(self._answer, group, sampling)
            yield lambda _abandoned, failed=failed: failed  # type: ignore[misc]

    def _groups(self, rows: Sequence[TokenRow]) -> Iterator[Group[TokenRow]]:
        return groups(rows, self._config.batch_tokens, at_least=1 if self.together else 2)

    def _at_once(self) -> int:
        """Return how many groups are computed side by side."""
        import torch

        model, _ = self.loaded()
        if model.device.type != "cpu" or model.num_parameters() > _SMALL:
            return 1
        return min(torch.get_num_threads(), _MOST_AT_ONCE)

    def _answer(self, group: Group[TokenRow], sampling: Sampling, abandoned: Event) -> list[Completion]:
        model, renderer = self.loaded()
        rows, traces = group.rows, TraceLimits(group.rows, renderer, sampling)
        try:
            answers = decode(
                model,
                rows,
                sampling,
                renderer.stop_ids,
                abandoned,
                self.on_tokens,
                partial(self._report, rows),
                traces,
                group.places,
            )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            pairs = zip(rows, answers, strict=True)
            return [to_completion(row, ids, renderer, sampling.stop_loops) for row, ids in pairs if ids]
        # Outside of the handler, whose traceback would keep the memory that is to be freed.
        free_memory()
        if len(rows) == 1:
            reason = f"out of memory for one prompt of {len(rows[0].ids)} tokens"
            # Transient: a concurrent group may be holding the memory.
            return [Completion.failed(rows[0].id, reason, transient=True)]
        return [answer for half in group.halves() for answer in self._answer(half, sampling, abandoned)]

    def _report(self, rows: Sequence[TokenRow], answers: Any, counts: Any) -> None:
        if self.on_writing is not None and len(rows) == 1:
            _, renderer = self.loaded()
            self.on_writing(lambda: to_completion(rows[0], answers[0, : int(counts[0])].tolist(), renderer, False))

    def loaded(self) -> tuple[PreTrainedModel, Renderer]:
        """Return the model, with its adapter applied, and the renderer of its prompts."""
        if self._model is None or self._renderer is None:
            raise RuntimeError("HFBackend is a context manager: with HFBackend(model) as backend: ...")
        return self._model, self._renderer


def side_by_side(tasks: Iterable[Task[R]], threads: int) -> Generator[R]:
    """Yield the results of the tasks in their order, computed in `threads` threads that share torch's own threads.

    With one thread, the caller's thread computes. With more, the caller's thread prepares the next task meanwhile.
    Raises what a task raises. If the caller stops early, waits until the tasks have seen their cancellation.
    """
    abandoned = Event()
    if threads == 1:
        yield from (task(abandoned) for task in tasks)
        return
    import torch

    all_threads = torch.get_num_threads()
    started: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, "batch", torch.set_num_threads, (ceil(all_threads / threads),)) as pool:
        try:
            for task in tasks:
                started.append(pool.submit(task, abandoned))
                if len(started) > threads:
                    yield started.popleft().result()
            while started:
                yield started.popleft().result()
        finally:
            abandoned.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(all_threads)  # for threads that start later
