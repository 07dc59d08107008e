"""Reports a training to trackers, from the main process alone. A tracker that fails is left out with one warning, and
the training goes on."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ..errors import first_line
from .trackers import TRACKERS, tracked_run

_log = logging.getLogger(__name__)


def warn_of(tracker: str, error: Exception) -> None:
    """The one warning about a tracker that failed."""
    _log.warning(
        "The tracker %s failed (%s), so the rest is not reported to it; the run goes on without it.",
        tracker, first_line(error)[:300],
    )  # fmt: skip


@contextmanager
def tracking(names: Sequence[str], directory: Path) -> Iterator[list[Any]]:
    """The callbacks that report the training in `directory` to the trackers; on exit their runs are closed."""
    callbacks = [_callback(name, directory) for name in dict.fromkeys(names)]
    try:
        yield callbacks
    finally:
        for callback in callbacks:
            callback.close()


def _callback(name: str, directory: Path) -> Any:
    from transformers import TrainerCallback

    class Tracking(TrainerCallback):
        """Passes events on to the tracker's own callback, which is made when the training begins."""

        own: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not state.is_world_process_zero:
                return
            try:
                run = tracked_run(directory)
                args.run_name, args.project = run.name, run.experiment
                TRACKERS[name].begin(run)
                self.own = TRACKERS[name].callback()
            except Exception as error:
                self._fail(error)
            self._pass("on_train_begin", args, state, control, **kwargs)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._pass("on_log", args, state, control, **kwargs)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._pass("on_save", args, state, control, **kwargs)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._pass("on_train_end", args, state, control, **kwargs)
            self.close()

        def _pass(self, event: str, *given: Any, **kwargs: Any) -> None:
            if self.own is None:
                return
            try:
                with redirect_stdout(io.StringIO()):
                    getattr(self.own, event)(*given, **kwargs)
            except Exception as error:
                self._fail(error)

        def _fail(self, error: Exception) -> None:
            warn_of(name, error)
            self.own = None
            with suppress(Exception):
                TRACKERS[name].end()

        def close(self) -> None:
            if self.own is not None:
                self.own = None
                try:
                    TRACKERS[name].end()
                except Exception as error:
                    warn_of(name, error)

    return Tracking()
