"""A model, the engine that runs it, and how its answers are drawn."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

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


class RayConfig(Settings):
    """How `backend: ray` runs: `replicas` of the backend `backend`, each with so many GPUs and CPU cores, on the Ray
    cluster at `address`: `host:port`, or `auto` for the one that this machine belongs to. Left out, a Ray of its own is
    started on this machine. Of all this, an answer depends on `backend` alone."""

    backend: str = "hf"
    replicas: int = Field(default=1, gt=0)
    gpus: float = Field(default=1, ge=0)
    cpus: float = Field(default=1, gt=0)
    address: str | None = None

    @model_validator(mode="after")
    def _usable(self) -> RayConfig:
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError("ray.gpus is a whole number, or a share of one GPU")
        if self.address and self.address.startswith("ray://"):
            raise ValueError("ray.address is host:port or auto; run the command on a machine of the cluster")
        return self


_RESERVED = frozenset(
    (
        "messages", "conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize",
        "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
        "tokenizer_kwargs",
    )
)  # fmt: skip


class ModelConfig(Settings):
    """The seed model. `chat_template` is how messages become text: the model's own chat template (`chat`), the paper's
    `alpaca`, or a Jinja chat template file. `template_kwargs` are arguments of the chat template, such as
    `enable_thinking: false`, and `date` is the day that it writes as today (by default the day on which the experiment
    was created). `server` is where the backend `openai` finds it, `engine` how the backend
    `vllm` runs it, `ray` how the backend `ray` spreads it over machines, and `labels` is what the labels of a model for
    the backend `classifier` mean. `score_dtype` is the dtype for likelihoods that decide what is trained
    (train.mask_above, an arm's best_of): with `dtype: auto` they would depend on the hardware."""

    path: str
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    score_dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    chat_template: str = "chat"
    template_kwargs: dict[str, Any] = {}
    date: datetime.date | None = None
    batch_tokens: int = Field(default=16384, gt=0)
    trust_remote_code: bool = False
    server: ServerConfig | None = None
    engine: EngineConfig = EngineConfig()
    ray: RayConfig = RayConfig()
    labels: dict[str, Literal["safe", "harmful"]] = {}

    @field_validator("template_kwargs")
    @classmethod
    def _not_ours(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if reserved := [f"'{name}'" for name in arguments if name in _RESERVED]:
            raise ValueError(
                f"model.template_kwargs can't hold {', '.join(reserved)}: it is no argument of the chat template, but "
                "of the program that applies it; take it out"
            )
        if "strftime_now" in arguments:
            raise ValueError("model.template_kwargs can't hold 'strftime_now'; set model.date")
        return arguments


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
