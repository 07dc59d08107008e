"""A model, the engine that runs it, and how its answers are drawn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from .settings import Settings


class ServerConfig(Settings):
    """An OpenAI-compatible endpoint, for `backend: openai`. The key is read from the environment variable `key_env`,
    and appears in no file."""

    url: str
    key_env: str | None = None
    api: Literal["chat", "completions"] = "chat"
    concurrency: int = Field(default=16, gt=0)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0)


class EngineConfig(Settings):
    """How `backend: vllm` runs: on how many GPUs, with which share of their memory (left out: vLLM's own), quantised
    how, and whether it guesses the next tokens from the prompt, where a rewrite finds its reference
    (`speculate: reference`)."""

    tensor_parallel: int = Field(default=1, gt=0)
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    quantization: str | None = None
    speculate: Literal["reference"] | None = None

    @property
    def deciding(self) -> dict[str, Any]:
        """What an answer depends on, rounding included; what is as by default is left out."""
        return self.model_dump(exclude={"memory_fraction"}, exclude_defaults=True)


class ModelConfig(Settings):
    """The seed model. `layout` is how messages become text: the model's own chat template (`chat`), the paper's
    `alpaca`, or a Jinja chat template file. `server` is where the backend `openai` finds it, `engine` how the backend
    `vllm` runs it, and `labels` is what the labels of a model for the backend `classifier` mean."""

    path: str
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str = "auto"
    layout: str = "chat"
    template_kwargs: dict[str, Any] = {}
    batch_tokens: int = Field(default=16384, gt=0)
    trust_remote_code: bool = False
    server: ServerConfig | None = None
    engine: EngineConfig = EngineConfig()
    labels: dict[str, Literal["safe", "harmful"]] = {}


SAMPLING_PRESETS: dict[str, dict[str, Any]] = {
    # The paper's code samples rewrites and all evaluation but HumanEval like this.
    "paper": {"temperature": 0.95, "top_p": 0.7, "top_k": 50, "max_new_tokens": 512},
    "greedy": {"temperature": 0.0},
}


class Sampling(Settings):
    """How answers are drawn. `temperature: 0` is greedy. Every row has a seed of its own, from `seed` and its content,
    so that an answer depends neither on batch nor on order. `preset: paper` (or greedy) stands for its values, and
    those that are written beside it change them."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=512, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "preset" not in values:
            return values
        preset = values["preset"]
        if preset not in SAMPLING_PRESETS:
            raise ValueError(f"there is no preset {preset!r}; choose {' or '.join(SAMPLING_PRESETS)}")
        return {**SAMPLING_PRESETS[preset], **{key: value for key, value in values.items() if key != "preset"}}
