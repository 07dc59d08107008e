"""Engines that answer prompts. A new one is a file here and a line in `BACKENDS`."""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ..errors import RecipeError
from ..types import Completion, Prompt

if TYPE_CHECKING:
    from ..recipe import ModelConfig, Sampling


class Backend(Protocol):
    """A context manager that frees its memory on exit."""

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """Answers to `prompts`, in any order, as they finish; prompts whose id is in `done` have theirs already.

        `prompts` holds the done ones too, so that a backend for which it matters can form the same batches as in an
        uninterrupted run. What goes wrong with one prompt is a `Completion` with finish "error", not an exception.
        """
        ...


BACKENDS = {
    "hf": "selfdistill.backends.hf:HFBackend",
    "vllm": "selfdistill.backends.vllm:VLLMBackend",
    "openai": "selfdistill.backends.openai:OpenAIBackend",
    "ray": "selfdistill.backends.ray:RayBackend",
    "classifier": "selfdistill.backends.classifier:ClassifierBackend",
    "fake": "selfdistill.backends.fake:FakeBackend",
}


def check_backend(name: str) -> None:
    """Raises RecipeError where there is no backend of that name."""
    if name not in BACKENDS:
        raise RecipeError(f"There is no backend '{name}'; choose one of {', '.join(BACKENDS)}.")


def open_backend(name: str, model: ModelConfig, adapter: str | None = None) -> Backend:
    """The backend `name` for `model`, with a LoRA adapter's folder over it where given."""
    check_backend(name)
    module, attribute = BACKENDS[name].split(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)(model, adapter)
    return backend
