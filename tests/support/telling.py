"""A slow backend for tests of replicas: answers with its process id and dies on some prompts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Container, Iterable, Iterator

from selfdistill.backends import BACKENDS, Backend
from selfdistill.models.loading import check_model_files
from selfdistill.recipe import Sampling
from selfdistill.types import Completion, Prompt


class TellingBackend(Backend):
    def __enter__(self) -> TellingBackend:
        check_model_files(self._config)
        return self

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        for prompt in prompts:
            asked = prompt.messages[-1].content
            time.sleep(0.002)
            if asked == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if asked == "leave":
                raise SystemExit("of a model")
            if asked == "fail":
                raise RuntimeError("the GPU fell off the bus")
            if prompt.id not in done and asked != "say nothing":
                yield Completion(prompt.id, f"{os.getpid()} {self._adapter}", "stop", 1)


def register() -> None:
    """Runs in this process and in each Ray worker."""
    BACKENDS["telling"] = "support.telling:TellingBackend"
