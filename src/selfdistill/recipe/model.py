"""A model, the engine that runs it, and how its answers are drawn."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from .settings import IsPath, Mark, Settings, keeps, reruns

# Training and likelihoods use the weights themselves, whatever engine answers.
_ENGINE = reruns("rewrite", "answer", "judge")
_NOT_TRAINING = keeps("train", "masking")


class ServerConfig(Settings):
    """An OpenAI-compatible endpoint, for `backend: openai`."""

    url: str
    """Address of the endpoint, such as http://localhost:8000/v1."""
    key_env: Annotated[str | None, keeps()] = None
    """Environment variable that holds the API key. The key itself appears in no file."""
    api: Literal["chat", "completions"] = "chat"
    """With `chat` the server applies its own chat template; with `completions` ours is applied here."""
    concurrency: Annotated[int, keeps(), Field(gt=0)] = 16
    """Requests at the same time."""
    timeout: Annotated[float, keeps(), Field(gt=0)] = 120.0
    """Seconds before a request is given up."""
    retries: Annotated[int, keeps(), Field(ge=0)] = 6
    """Further attempts after a request failed."""


class EngineConfig(Settings):
    """How `backend: vllm` runs."""

    tensor_parallel: int = Field(default=1, gt=0)
    """GPUs that share the model."""
    memory_fraction: Annotated[float | None, keeps(), Field(gt=0, le=1)] = None
    """Share of the GPU's memory; null leaves it to vLLM."""
    quantization: str | None = None
    """vLLM's name of the quantisation."""
    speculate: Literal["reference"] | None = None
    """`reference`: guess the next tokens of a rewrite from the reference in its prompt."""


class RayConfig(Settings):
    """How `backend: ray` spreads a backend over machines. Answers depend on `backend` alone."""

    backend: Annotated[str, Mark(resolved=True)] = "hf"
    """The backend of each replica: hf, vllm or another."""
    replicas: Annotated[int, keeps(), Field(gt=0)] = 1
    """Copies of the model."""
    gpus: Annotated[float, keeps(), Field(ge=0)] = 1
    """GPUs per replica, or a share of one GPU."""
    cpus: Annotated[float, keeps(), Field(gt=0)] = 1
    """CPU cores per replica."""
    address: Annotated[str | None, keeps()] = None
    """`host:port` of the cluster, or `auto` for the cluster of this machine; null starts Ray on this machine."""

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
        "tokenizer_kwargs", "tools",
    )
)  # fmt: skip


def reserved_arguments(arguments: dict[str, Any]) -> list[str]:
    """The names among a chat template's arguments that belong to the program that applies it, in quotes."""
    return [f"'{name}'" for name in arguments if name in _RESERVED]


class ModelConfig(Settings):
    """A chat model: the seed model, or the judge."""

    path: Annotated[str, IsPath(("demo", "demo-thinking")), Mark(resolved=True)]
    """Model folder, GGUF file, hub name such as org/name, or `demo` or `demo-thinking` for the seed models that ship
    with the package."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Annotated[Literal["auto", "bfloat16", "float16", "float32"], _NOT_TRAINING] = "auto"
    """Dtype of the weights that answer; `auto` is bfloat16 if the GPU or CPU computes in it, else float16 on CUDA and
    float32 elsewhere."""
    score_dtype: Annotated[Literal["float32", "bfloat16"], reruns("choose", "masking")] = "float32"
    """Dtype for likelihoods that decide what is trained (train.mask_above, best_of of an arm): `auto` would make them
    depend on the hardware."""
    device: Annotated[str, keeps()] = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    chat_template: Annotated[str, IsPath(("chat", "alpaca", "plain")), Mark(resolved=True)] = "chat"
    """How messages become text: the model's own chat template (`chat`), the paper's `alpaca`, or a Jinja file."""
    template_kwargs: dict[str, Any] = {}
    """Arguments of the chat template, such as `enable_thinking: false`."""
    reasoning: Annotated[Literal["own", "mask", "off"] | None, Mark(resolved=True)] = None
    """For a model that thinks before it answers. `own`: train on the seed model's own think traces. `mask`: train on
    answers after a think block that is present, but not trained on. `off`: thinking is turned off everywhere. null is
    own; a model that does not think ignores the key (docs/thinking.md)."""
    tools_in: Annotated[Literal["template", "system"], Mark(resolved=True)] = "template"
    """Where a row's tools are shown: by the chat template, or written into the system turn, for templates that ignore
    tools."""
    date: Annotated[datetime.date | None, Mark(resolved=True)] = None
    """The day that the chat template writes as today; null is the day on which the experiment was created."""
    batch_tokens: Annotated[int, _NOT_TRAINING, Field(gt=0)] = 16384
    """Tokens per batch of the backend hf, and of likelihoods. Rounding depends on the batch."""
    trust_remote_code: Annotated[bool, Mark(resolved=True)] = False
    """Allow code of the model's repository to run."""
    server: Annotated[ServerConfig | None, _ENGINE] = None
    engine: Annotated[EngineConfig, _ENGINE] = EngineConfig()
    ray: Annotated[RayConfig, _ENGINE] = RayConfig()
    labels: Annotated[dict[str, Literal["safe", "harmful"]], _ENGINE] = {}
    """For the backend classifier: the meaning of the model's labels."""

    @field_validator("template_kwargs")
    @classmethod
    def _not_ours(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if reserved := reserved_arguments(arguments):
            raise ValueError(
                f"model.template_kwargs can't hold {', '.join(reserved)}: it is not an argument of the chat template, "
                "but of the program that applies it; take it out"
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
    """How answers are drawn. `preset: paper` or `preset: greedy` stands for several values; values that are written
    next to it change them."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the likeliest tokens that have this share of the probability."""
    top_k: int = Field(default=0, ge=0)
    """Draw from this many of the likeliest tokens; 0 for all."""
    max_new_tokens: int = Field(default=512, gt=0)
    """Limit of an answer; a rewrite that reaches it is rejected."""
    max_thinking_tokens: int | None = Field(default=None, gt=0)
    """Limit of a think trace, in addition to the limit of the answer after it; null: trace and answer share
    max_new_tokens."""
    stop_loops: bool = True
    """End an answer that repeats the same tokens without end, as `loop`, before it reaches the limit."""
    seed: int = Field(default=0, ge=0)
    """Each row draws with a random seed made from this number and the row's content, so an answer depends neither on
    its batch nor on the order of the rows."""

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "preset" not in values:
            return values
        preset = values["preset"]
        if preset not in SAMPLING_PRESETS:
            raise ValueError(f"there is no preset {preset!r}; choose {' or '.join(SAMPLING_PRESETS)}")
        return {**SAMPLING_PRESETS[preset], **{key: value for key, value in values.items() if key != "preset"}}

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a limit of think traces, the values that identify the answers of earlier versions."""
        values: dict[str, Any] = write(self)
        if values.get("max_thinking_tokens") is None:
            values.pop("max_thinking_tokens", None)
        return values

    def limit(self, thinks: bool) -> int:
        """The most new tokens of a completion, with its think trace if the model `thinks`."""
        return self.max_new_tokens + ((self.max_thinking_tokens or 0) if thinks else 0)
