"""The state of a workbench: a recipe's file, an experiment's directory, and the process that works in it.

A run is a process of its own, as if its command had been typed in a terminal. Everything that the pages show of it is
read from the experiment's files, so a run that was started in a terminal looks the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock
from typing import IO, Any, Literal

from ..errors import ExperimentError
from ..models.source import pinned
from ..pipeline.context import Context, make_context
from ..recipe import Recipe, load_recipe
from ..store.experiment import Experiment, is_locked, lock_owner
from ..store.manifest import read_manifest
from ..store.marks import MARKS, read_marks
from ..store.rows import write_text
from .chat import ArmChat

_LAST = 2_000  # bytes of a process's last words
Job = Literal["run", "rewrite"]


class Bench:
    """One recipe and one experiment. Browsers share it; all methods may be called from several threads."""

    def __init__(self, recipe: Path, directory: Path) -> None:
        self.recipe, self.directory = recipe, directory
        self.chat = ArmChat(directory)
        self._lock, self._contexts = Lock(), RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._context: tuple[Any, Context] | None = None

    # ---- the process

    @property
    def is_ours(self) -> bool:
        """Whether a process is running that this workbench started."""
        return self._child is not None and self._child.poll() is None

    @property
    def is_running(self) -> bool:
        """Whether any process works in the directory, or is about to."""
        return self.is_ours or is_locked(self.directory)

    @property
    def process(self) -> int | None:
        """The number of the process that works in the directory, None if none does or it can't be known."""
        return lock_owner(self.directory) if is_locked(self.directory) else None

    def start(self, job: Job) -> None:
        """Starts the command. Raises ExperimentError if a process works in the directory already."""
        with self._lock:
            if self.is_running:
                where = "from this workbench" if self.is_ours else "elsewhere, in a terminal or from another workbench"
                raise ExperimentError(
                    f"A run is going on in {self.directory}; it was started {where}. Two can't work in one directory: "
                    "wait for it, or stop it."
                )
            self.chat.close()  # its model would take memory from the run
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - the process writes to it
            self._child = subprocess.Popen(
                [sys.executable, "-m", "selfdistill", job, str(self.recipe), "--dir", str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Sends Ctrl-C. Raises ExperimentError if this workbench did not start the run."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                raise ExperimentError(
                    "This workbench started no run that is going on. A run that was started in a terminal is stopped "
                    f"there, with Ctrl-C, or with kill -INT {self.process or 'PROCESS'}."
                )
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGINT)

    @property
    def last_words(self) -> str:
        """The end of what a process that this workbench started has printed, if it failed or was stopped."""
        if self._child is None or self._output is None or not self._child.poll():
            return ""
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), _LAST, max(size - _LAST, 0)).decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()]
        errors = [number for number, line in enumerate(lines) if line.startswith(("Error:", "Stopped."))]
        return "\n".join(lines[errors[-1] :] if errors else lines[-12:])

    # ---- the experiment

    def move(self, directory: str) -> None:
        """Goes on in a new directory, with a copy of the marks. Raises ExperimentError if it is there already."""
        with self._lock:
            where = Path(directory)
            if self.is_running:
                raise ExperimentError("A run is going on; wait for it, or stop it.")
            if not directory or where.exists():
                raise ExperimentError(f"Name a directory that does not exist yet, not '{directory}'.")
            marks = self.directory / MARKS
            try:
                if marks.is_file():
                    write_text(where / MARKS, marks.read_text(encoding="utf-8"))
            except OSError as error:
                raise ExperimentError(f"{where} can't be written ({error.strerror}); name another one.") from None
            self.chat.close()
            self.directory, self.chat = where, ArmChat(where)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, with no stages before the first run."""
        return read_manifest(self.directory / "manifest.json") or {"stages": {}}

    @property
    def has_begun(self) -> bool:
        return bool(self.manifest.get("selfdistill")) and (self.directory / "recipe.yaml").is_file()

    def experiment(self) -> Experiment:
        """The experiment. Raises ExperimentError before the first run."""
        if not self.has_begun:
            raise ExperimentError("Nothing has run here yet; start a run first.")
        return Experiment.open(self.directory)

    def context(self) -> Context:
        """The resolved recipe of the experiment, or of the recipe's file before the first run, with the marks as they
        are now. Raises SelfDistillError."""
        path = self.directory / "recipe.yaml" if self.has_begun else self.recipe
        manifest, recipe = self.manifest, load_recipe(path)
        with self._contexts:
            key = recipe, manifest.get("commits"), manifest.get("date")
            if self._context is None or self._context[0] != key:
                self._context = key, self._resolved(recipe, manifest)
            return replace(self._context[1], marks=read_marks(self.directory))

    def _resolved(self, recipe: Recipe, manifest: dict[str, Any]) -> Context:
        if not self.has_begun:
            return make_context(recipe)
        recipe, _ = pinned(recipe, manifest, False, False, False)
        return make_context(recipe, Experiment(self.directory, recipe).date, manifest.get("sources"))

    def close(self) -> None:
        """Ends the chat. A run goes on."""
        self.chat.close()
