"""What is measured of every arm: tasks, the judge, the shift against the seed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .model import ModelConfig, Sampling
from .settings import Settings, check_name


class TaskEntry(Settings):
    """A task to evaluate; `path` (and `split`, `config`, `format`) stand in for where its data is by default.
    The name `heldout` is the recipe's own data: its test file, or the rows that `data.heldout` sets aside. `name` is
    what it is called in files and tables, so that one task can be there twice; `system` goes before its prompts.
    `samples` answers are drawn for each item, of which `k` count as one try (pass@k)."""

    task: str
    name: str = ""
    path: str | None = None
    config: str | None = None
    split: str | None = None
    format: str | None = None
    on_bad_row: Literal["stop", "skip"] | None = None
    n: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32 - 1)
    max_new_tokens: int | None = Field(default=None, gt=0)
    system: str | None = None
    few_shot: int | None = Field(default=None, ge=0)
    samples: int = Field(default=1, gt=0)
    k: int = Field(default=1, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"task": value} if isinstance(value, str) else value
        return {**value, "name": value.get("name") or value.get("task", "")} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _usable(self) -> TaskEntry:
        check_name("task", self.name)
        if self.k > self.samples:
            raise ValueError(f"pass@{self.k} needs at least {self.k} samples an item, not {self.samples}")
        return self


class EvaluateConfig(Settings):
    """`system` is a system prompt under which the safety tasks are asked a second time. `margin` is the smallest drop
    that matters, in percentage points: "kept" means that such a drop is ruled out. It changes the report only."""

    tasks: list[TaskEntry] = []
    backend: str = "hf"
    sampling: Sampling = Sampling()
    system: str | None = None
    margin: float = Field(default=5.0, gt=0, lt=100)

    @field_validator("tasks")
    @classmethod
    def _names_differ(cls, tasks: list[TaskEntry]) -> list[TaskEntry]:
        names = [entry.name for entry in tasks]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(doubled))}; give one of them another `name`")
        return tasks


class JudgeConfig(Settings):
    """The model that judges answers for the tasks that ask for one. Prices are in dollars for a million tokens, and
    only `check` reads them."""

    model: ModelConfig
    backend: str = "hf"
    sampling: Sampling = Sampling(max_new_tokens=256)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @field_validator("model", mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class ShiftConfig(Settings):
    """How far the tuned models moved from the seed. Answers to `task` are compared: by default AdvBench as in the paper
    where it is evaluated, else the target. `embedding` is the sentence-transformers model (a folder or hub name) of the
    cosine; on the seed's answers to `kl_prompts` prompts the KL divergence is estimated."""

    task: str | None = None
    embedding: str = "sentence-transformers/all-MiniLM-L6-v2"
    kl_prompts: int = Field(default=128, ge=0)
