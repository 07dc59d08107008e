"""Ask a backend for the completions that a file lacks. Rewriting, evaluation and judging all resume through here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import chain, dropwhile
from pathlib import Path
from threading import Lock
from typing import Any

from ..backends import Backend
from ..backends.batches import windows
from ..errors import StageError
from ..recipe import Sampling
from ..store.rows import RowFile, read_lines, seal_line, write_lines
from ..types import LOADING, Completion, Prompt, Report, content_id

# After this many failures without an answer the engine is at fault, not the rows.
_HOPELESS = 100
# Fewer failures than this can each have a cause in their own row.
_FEW = 5


class LazyBackend:
    """A context manager whose backend is opened (its model loaded) on first use and closed at the end of the block."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._stack = ExitStack()
        self._backend: Backend | None = None

    def __enter__(self) -> LazyBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend = None
        self._stack.close()

    def get(self) -> Backend:
        if self._backend is None:
            self._backend = self._stack.enter_context(self._open())
        return self._backend

    @property
    def is_open(self) -> bool:
        return self._backend is not None

    @property
    def counts(self) -> dict[str, Any]:
        """The sampling settings that the engine rejects, for a stage's counts; empty if there are none."""
        left_out = getattr(self._backend, "left_out", [])
        return {"settings_left_out": left_out} if left_out else {}


def complete(
    prompts: Iterable[Prompt],
    total: int,
    backend: LazyBackend,
    sampling: Sampling,
    rows: RowFile,
    progress: Report,
) -> int:
    """Append to `rows` the completions of the prompts that it lacks, as they finish; return how many failures among
    them are transient. `total` is the number of prompts.

    Failures are appended last: an interrupted run asks for them again, and ends with the same file as an uninterrupted
    run. Raises StageError if every completion is a failure.
    """
    done = min(len(rows), total)  # a baseline's file holds the answers of later looks too
    progress(done, total)
    # Finished windows are skipped whole, so that a backend forms the same batches as before the interruption. The
    # number of rows doesn't show which: the file may hold rows of other settings, from work that was never finished.
    left = dropwhile(lambda window: all(prompt.id in rows for prompt in window), windows(prompts))
    first = next(left, None)
    if first is None:
        return 0
    if not backend.is_open:
        progress(done, total, LOADING)
    failures: list[Completion] = []
    answered = done
    opened = backend.get()
    progress(done, total, "reading prompts")
    opened.on_tokens = _TokenCount(lambda note: progress(answered + len(failures), total, note))
    for completion in opened.generate(chain(first, chain.from_iterable(left)), sampling, done=rows):
        if completion.finish == "error":
            failures.append(completion)
        else:
            rows.append(completion.to_json())
            answered += 1
        progress(answered + len(failures), total)
        if len(failures) >= _HOPELESS and answered == done:
            raise StageError(
                f"The first {len(failures)} prompts all failed. The last error was: {failures[-1].error}. Fix this and "
                "run the command again; no finished row is lost."
            )
    opened.on_tokens = lambda _: None  # the backend's next answers may be another step's
    if done == answered == 0 and len(failures) >= _FEW:
        raise StageError(
            f"None of the {len(failures)} prompts got an answer. The last error was: {failures[-1].error}. Fix this "
            "and run the command again."
        )
    for completion in failures:
        rows.append(completion.to_json())
    return sum(completion.transient for completion in failures)


class _TokenCount:
    """Counts the tokens of a backend's answers and reports the number as a note, about once per second."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report, self._lock = report, Lock()
        self._tokens, self._reported = 0, time.monotonic()

    def __call__(self, new: int) -> None:
        with self._lock:
            self._tokens += new
            due = time.monotonic() - self._reported >= 1
            self._reported = time.monotonic() if due else self._reported
        if due:
            self._report(f"{self._tokens:,} tokens")


def sample_id(item_id: str, sample: int) -> str:
    """The id of an item's n-th sample. The first sample has the id of the item."""
    return item_id if sample == 0 else content_id(item_id, sample)


def forget_transient(path: Path) -> None:
    """Remove the transient failures from a file of completions, so that they are asked for again."""
    if path.is_file():
        with RowFile(path):  # opening it removes damaged and unfinished rows
            pass
        if any(row.get("transient") for row in read_lines(path)):
            write_lines(path, (row for row in read_lines(path) if not row.get("transient")), seal_line)
