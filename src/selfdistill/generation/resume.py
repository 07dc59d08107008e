"""Asks a backend for what isn't on file yet: rewriting and evaluation both resume through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import chain, dropwhile
from pathlib import Path
from types import TracebackType
from typing import Any

from ..backends import Backend
from ..backends.batches import windows
from ..errors import StageError
from ..recipe import Sampling
from ..store.rows import RowFile, read_lines, seal_line, write_lines
from ..types import Completion, Prompt, content_id

# If so many answers fail and none comes, the engine is at fault and not the rows.
_HOPELESS = 100
# So few may all have failed for their own sake.
_FEW = 5


class LazyBackend:
    """A backend that is opened (its model loaded) when it is first needed, and closed at the end of the block."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._stack = ExitStack()
        self._backend: Backend | None = None

    def __enter__(self) -> LazyBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend = None
        self._stack.close()

    def get(self) -> Backend:
        if self._backend is None:
            self._backend = self._stack.enter_context(self._open())
        return self._backend

    @property
    def counts(self) -> dict[str, Any]:
        """What a stage's counts say about the engine: the sampling settings that it rejects, if there are any."""
        left_out = getattr(self._backend, "left_out", [])
        return {"settings_left_out": left_out} if left_out else {}


def complete(
    prompts: Iterable[Prompt],
    total: int,
    backend: LazyBackend,
    sampling: Sampling,
    rows: RowFile,
    progress: Callable[[int, int], None],
) -> int:
    """Appends to `rows` the completion of each of the `total` prompts that is not in it yet, as they finish; gives the
    number of transient failures among them.

    What failed is appended last, so that a run that was interrupted tries it again, and its file is that of one that
    was not. Raises StageError when nothing but failures comes back.
    """
    done = len(rows)
    progress(done, total)
    # What is done is left out by whole windows, so that a backend that forms batches forms those that it formed before.
    # By their number it can't be told: there may be rows of other settings, of work that was never finished.
    left = dropwhile(lambda window: all(prompt.id in rows for prompt in window), windows(prompts))
    first = next(left, None)
    if first is None:
        return 0
    failures: list[Completion] = []
    answered = done
    for completion in backend.get().generate(chain(first, chain.from_iterable(left)), sampling, done=rows):
        if completion.finish == "error":
            failures.append(completion)
        else:
            rows.append(completion.to_json())
            answered += 1
        progress(answered + len(failures), total)
        if len(failures) >= _HOPELESS and answered == done:
            raise StageError(
                f"The first {len(failures)} prompts all failed, the last one with: {failures[-1].error}. "
                "Mend that and run again; nothing is lost."
            )
    if done == answered == 0 and len(failures) >= _FEW:
        raise StageError(
            f"None of the {len(failures)} prompts got an answer; the last one failed with: {failures[-1].error}. Mend "
            "that and run again."
        )
    for completion in failures:
        rows.append(completion.to_json())
    return sum(completion.transient for completion in failures)


def sample_id(item_id: str, sample: int) -> str:
    """What the answer of an item's n-th sample is filed under; that of the first under the item's own id."""
    return item_id if sample == 0 else content_id(item_id, sample)


def forget_transient(path: Path) -> None:
    """Takes the transient failures out of a finished file of completions, so that they are asked for again."""
    if path.is_file():
        with RowFile(path):  # takes out what was not written to its end, or is damaged
            pass
        if any(row.get("transient") for row in read_lines(path)):
            write_lines(path, (row for row in read_lines(path) if not row.get("transient")), seal_line)
