"""Engines that answer prompts. A new backend is one file with a `Backend` class, and one line in `BACKENDS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Container, Iterable, Iterator
from typing import ClassVar, Self

from ..errors import RecipeError
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Prompt
from .cache import EngineCache


class Backend:
    """A context manager that answers prompts while it is open, and frees its memory on exit.

    `model` is a folder or a hub name with its settings, `adapter` the folder of a LoRA adapter for it, and `cache`
    keeps an engine up for the next backend. A module with a backend imports heavy libraries late: the class is loaded
    to read its capabilities.
    """

    has_weights: ClassVar[bool] = False
    """The weights of `model.path` are loaded by this backend, and may be on the hub."""
    returns_logprobs: ClassVar[bool] = False
    """lm-eval can ask the opened model for log-likelihoods."""
    forms_batches: ClassVar[bool] = False
    """Rounding depends on which prompts are computed together, so the backend forms whole groups itself."""
    classifies: ClassVar[bool] = False
    """An answer is the label of the chat that it is asked about."""
    invents: ClassVar[bool] = False
    """Answers come from no model."""
    needs_server: ClassVar[bool] = False
    """Another program runs the model."""
    replicates: ClassVar[bool] = False
    """Answers come from replicas of another backend, `model.ray.backend`."""
    limits_traces: ClassVar[bool] = False
    """A think trace and its answer have limits of their own; otherwise one limit, the sum, holds for both."""
    splits_model: ClassVar[bool] = False
    """One model can be spread over `engine.tensor_parallel` GPUs."""
    largest_rank: ClassVar[int | None] = None
    """The largest rank of an adapter that the backend loads, None for any rank."""

    def __init__(self, model: ModelConfig, adapter: str | None = None, cache: EngineCache | None = None) -> None:
        self._config, self._adapter, self._cache = model, adapter, cache
        self.on_tokens: Callable[[int], None] = lambda _: None
        """A backend that returns whole groups calls it at every step with the number of new tokens, from any thread."""
        self.on_writing: Callable[[Callable[[], Completion]], None] | None = None
        """`hf` calls it at every step of a prompt that is answered alone, with a function that returns the answer so
        far, from any thread. Other backends do not."""
        self.together = False
        """The prompts of a call of `generate` are one group of a larger whole, which is not to be divided again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """Return the answers to `prompts` as they finish, in any order.

        `done` holds the ids of the prompts that already have answers. `prompts` contains these prompts too, so that a
        backend can form the same groups as in an uninterrupted run. If one prompt fails, the result is a `Completion`
        with finish "error", not an exception.
        """
        raise NotImplementedError

    @classmethod
    def check(cls, model: ModelConfig) -> None:
        """Raise RecipeError if `model` has settings with which the backend cannot run anywhere."""

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        """Yield what this machine lacks to run the backend, one sentence each. Loads nothing."""
        yield from ()


BACKENDS = {
    "hf": "selfdistill.backends.hf:HFBackend",
    "vllm": "selfdistill.backends.vllm:VLLMBackend",
    "openai": "selfdistill.backends.openai:OpenAIBackend",
    "ray": "selfdistill.backends.ray:RayBackend",
    "classifier": "selfdistill.backends.sequence_classifier:ClassifierBackend",
    "fake": "selfdistill.backends.fake:FakeBackend",
}


def backend_class(name: str) -> type[Backend]:
    """Return the class of the backend `name`, with its capabilities. Raises RecipeError if there is no such backend."""
    if name not in BACKENDS:
        raise RecipeError(f"There is no backend '{name}'; choose one of {', '.join(BACKENDS)}.")
    module, attribute = BACKENDS[name].split(":")
    found: type[Backend] = getattr(importlib.import_module(module), attribute)
    return found


def backends_that(capability: str) -> list[str]:
    """Return the names of the backends that have a capability, such as "returns_logprobs"."""
    return [name for name in BACKENDS if getattr(backend_class(name), capability)]


def answering(name: str, model: ModelConfig) -> str:
    """Return the name of the backend that computes the answers: for `ray`, the backend on its replicas."""
    return model.ray.backend if backend_class(name).replicates else name


def answering_class(name: str, model: ModelConfig) -> type[Backend]:
    """Return the class of the backend that computes the answers."""
    return backend_class(answering(name, model))


def check_backend(name: str, model: ModelConfig) -> None:
    """Raise RecipeError if there is no backend `name`, or if `model` has settings with which it cannot run."""
    backend_class(name).check(model)


def open_backend(
    name: str, model: ModelConfig, adapter: str | None = None, cache: EngineCache | None = None
) -> Backend:
    """Return the backend `name` for `model`, with a LoRA adapter's folder if one is given. Enter it to load it."""
    return backend_class(name)(model, adapter, cache)
