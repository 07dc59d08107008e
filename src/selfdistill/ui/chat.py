"""One prompt, answered by several runs of an experiment. A process of its own holds the models, one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any


@dataclass
class Asked:
    """A question and the answers so far, by run. `error` is why a run has none; the rest of the runs are still
    asked."""

    prompt: str
    system: str
    runs: list[str]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        return len(self.answers) == len(self.runs)


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
                answer = json.loads(line)
                asked.answers[answer["run"]] = answer
    for run in asked.runs:
        asked.answers.setdefault(run, {"run": run, "error": "The process that asks the models has ended."})
