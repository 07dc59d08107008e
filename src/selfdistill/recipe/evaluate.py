"""The measurements of every arm: tasks, the judge, the shift against the seed model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .model import ModelConfig, Sampling
from .settings import IsPath, Mark, Settings, check_name, keeps, reruns
from .suites import written_out

# Merged into the settings of the task's data.
_ITEMS = reruns("items", resolved=True)


class TaskEntry(Settings):
    """A task to evaluate. `heldout` is the recipe's own data: a test file, or the rows that data.heldout sets aside."""

    task: Annotated[str, reruns("items", "judge", "grade", resolved=True)]
    """Name of the task; `selfdistill list` shows them."""
    name: Annotated[str, keeps()] = ""
    """Name in files and tables, so that one task can be listed twice; by default the task's name."""
    path: Annotated[str | None, IsPath(), _ITEMS] = None
    """File, folder or hub name in place of the task's own data."""
    config: Annotated[str | None, _ITEMS] = None
    """Configuration of a hub dataset."""
    split: Annotated[str | None, _ITEMS] = None
    """Split of a hub dataset or of a folder."""
    format: Annotated[str | None, _ITEMS] = None
    """As data.format."""
    on_bad_row: Annotated[Literal["stop", "skip"] | None, _ITEMS] = None
    """As data.on_bad_row."""
    n: Annotated[int | None, reruns("items"), Field(gt=0)] = None
    """Items to draw; null for all."""
    seed: Annotated[int, reruns("items"), Field(ge=0, lt=2**32 - 1)] = 0
    """Random seed of the draw."""
    max_new_tokens: Annotated[int | None, reruns("answer"), Field(gt=0)] = None
    """Limit of an answer, in place of evaluate.sampling.max_new_tokens."""
    system: Annotated[str | None, reruns("answer", "loss")] = None
    """System prompt before each item."""
    few_shot: Annotated[int | None, reruns("answer"), Field(ge=0)] = None
    """Solved examples before each item, for tasks that lm-eval asks."""
    samples: Annotated[int, reruns("answer"), Field(gt=0)] = 1
    """Answers per item."""
    k: Annotated[int, reruns("grade"), Field(gt=0)] = 1
    """Answers that count as one attempt (pass@k)."""

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
    """Which tasks are asked, and how."""

    tasks: list[TaskEntry] = []
    """Tasks, and suites such as {suite: probes, size: quick}, which are written out as their tasks (docs/probes.md)."""
    backend: Annotated[str, reruns("answer", resolved=True)] = "hf"
    """Engine that answers."""
    sampling: Annotated[Sampling, reruns("answer")] = Sampling()
    system: Annotated[str | None, keeps()] = None
    """System prompt under which the safety tasks are asked a second time."""
    margin: Annotated[float, keeps(), Field(ge=0.5, lt=100)] = 5.0
    """Smallest drop that matters, in percentage points (5, not 0.05): "kept" means that such a drop is ruled out."""

    heldout_loss: Annotated[bool | None, keeps()] = None
    """Measure the loss per token on the references of the target's items; null is true if no grader is named, or none
    but facts and similar, as in the tasks dolly, alpaca, lima and openhermes."""

    @field_validator("margin", mode="before")
    @classmethod
    def _margin_in_points(cls, margin: Any) -> Any:
        if isinstance(margin, int | float) and 0 < margin < 0.5:
            raise ValueError(f"in points, 0.5 or more: write 5 for 5 points, not {margin:g}")
        return margin

    @field_validator("tasks", mode="before")
    @classmethod
    def _suites_written_out(cls, tasks: Any) -> Any:
        return written_out(tasks)

    @field_validator("tasks")
    @classmethod
    def _names_differ(cls, tasks: list[TaskEntry]) -> list[TaskEntry]:
        names = [entry.name for entry in tasks]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(doubled))}; give one of them another `name`")
        return tasks


class JudgeConfig(Settings):
    """The model that grades answers for the tasks that ask for a judge, and rewrites if rewrite.grader names judge."""

    model: ModelConfig
    backend: Annotated[str, Mark(resolved=True)] = "hf"
    """Engine of the judge."""
    sampling: Sampling = Sampling(max_new_tokens=256)
    input_price: Annotated[float | None, keeps(), Field(ge=0)] = None
    """Dollars per million input tokens, for the estimate of `check`."""
    output_price: Annotated[float | None, keeps(), Field(ge=0)] = None
    """Dollars per million output tokens, for the estimate of `check`."""

    @field_validator("model", mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class ShiftConfig(Settings):
    """How far the tuned models moved from the seed model."""

    task: Annotated[str | None, reruns("shift", resolved=True)] = None
    """Task whose answers are compared; null is AdvBench as in the paper if it is evaluated, else the target."""
    embedding: Annotated[str, IsPath(), Mark(resolved=True)] = "sentence-transformers/all-MiniLM-L6-v2"
    """sentence-transformers model of the cosine and of the grader similar: a folder or a hub name."""
    kl_prompts: Annotated[int, reruns("shift"), Field(ge=0)] = 128
    """Prompts on whose answers by the seed model the KL divergence is estimated; 0 turns it off."""
