"""Tasks in threads, for those that let go of the interpreter while they compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from threading import Event
from typing import TypeVar

R = TypeVar("R")
Task = Callable[[Event], R]  # is given what says that nobody waits for its result any more


def side_by_side(tasks: Iterable[Task[R]], threads: int) -> Generator[R]:
    """What the tasks give, in their order; torch's own threads are shared out among the `threads`. One thread is the
    caller's own, and of more the caller's is left to make the next task while these compute.

    Raises what a task raises. Where the caller ends early, it waits until the tasks have seen that they are abandoned.
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
            torch.set_num_threads(all_threads)  # for threads that are made later
