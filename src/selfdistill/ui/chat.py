"""One prompt, answered by several runs of an experiment. A process of its own holds the models, one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any


@dataclass
class Asked:
    """A question and the answers so far, by run. An answer with `writing` is not whole yet. `error` is why a run has
    none; the rest of the runs are still asked."""

    prompt: str
    system: str
    runs: list[str]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    @property
    def is_answered(self) -> bool:
        return all(run in self.answers and not self.answers[run].get("writing") for run in self.runs)

    @property
    def active(self) -> str | None:
        """The run that is being asked; None if all have answered."""
        return next((run for run in self.runs if self.answers.get(run, {"writing": True}).get("writing")), None)

    @property
    def seconds(self) -> int:
        """How long the active run has been at work."""
        return int(time.monotonic() - self._since)

    def add(self, answer: dict[str, Any]) -> None:
        self.answers[answer["run"]] = answer
        if not answer.get("writing"):
            self._since = time.monotonic()


class ArmChat:
    """Asks one question at a time. The process is started by the first question, and ended by `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self.asked: Asked | None = None

    def ask(self, prompt: str, system: str, runs: Sequence[str]) -> Asked:
        """Starts to ask the runs, in order. A question that is still being answered is left."""
        with self._lock:
            if self.asked is not None and not self.asked.is_answered:
                self._end()
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "selfdistill.ui.chat_worker", str(self._directory)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    encoding="utf-8",
                    start_new_session=True,
                )
            self.asked = Asked(prompt, system, [*runs])
            Thread(target=_follow, args=(self._process, self.asked), daemon=True, name="chat").start()
            return self.asked

    def close(self) -> None:
        """Ends the process, which frees the memory of its model."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None


def _follow(process: subprocess.Popen[str], asked: Asked) -> None:
    """Sends the question, and reads an answer per run."""
    with suppress(OSError, ValueError):
        if process.stdin is not None and process.stdout is not None:
            question = {"prompt": asked.prompt, "system": asked.system, "runs": asked.runs}
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            while not asked.is_answered and (line := process.stdout.readline()):
                asked.add(json.loads(line))
    while run := asked.active:
        asked.add({"run": run, "error": "The process that asks the models has ended."})
