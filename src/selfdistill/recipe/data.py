"""The rows, and how their responses are rewritten and checked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from .model import SAMPLING_PRESETS, Sampling
from .settings import Settings


class NearDuplicatesConfig(Settings):
    """Held-out prompts that resemble a training prompt: similarity from 0 to 1 from which they count (null: they are
    not looked for), and whether they are left out."""

    threshold: float | None = Field(default=0.9, gt=0, le=1)
    drop: bool = False


class DataConfig(Settings):
    """Rows to read: a file, a folder, or a hub name (left out: where the recipe's task has its own). `columns` names
    the column of a field. `n` rows are drawn with `seed`; draws are nested. `heldout` rows are set aside before the
    draw and never trained on. Every assistant turn that no mark excludes is trained on, also one of a prompt that is a
    list of messages."""

    path: str = ""
    format: str = "auto"
    config: str | None = None
    split: str = "train"
    columns: dict[str, str] = {}
    n: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32 - 1)
    heldout: int = Field(default=0, ge=0)
    on_bad_row: Literal["stop", "skip"] = "stop"
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()


class Filters(Settings):
    """What no rewrite may do, whatever its answer. A limit of null, or false, turns a check off. `reference_talk` also
    covers talk about the prompt and headings of the rewriting template; `end_of_turn` covers chat marks and turns of a
    further dialogue."""

    reference_talk: bool = True
    refusal: bool = True
    end_of_turn: bool = True
    script: bool = True
    max_repeats: int | None = Field(default=8, gt=1)
    min_length_ratio: float | None = Field(default=0.1, ge=0)
    max_length_ratio: float | None = Field(default=10.0, gt=0)


GraderSpec = str | dict[str, Any]


class RewriteConfig(Settings):
    """Rewriting (eq. 3) and selection (eq. 4). `template` is using, refer, math or a file; `grader` as in `grading`.
    Where left out, both come from the task."""

    template: str | None = None
    backend: str = "hf"
    sampling: Sampling = Sampling(**SAMPLING_PRESETS["paper"])
    grader: GraderSpec | None = None
    filters: Filters = Filters()
    min_accepted: float = Field(default=0.05, ge=0, le=1)

    @field_validator("sampling", mode="before")
    @classmethod
    def _from_the_papers(cls, values: Any) -> Any:
        """What is not written is the paper's, not greedy."""
        return {"preset": "paper", **values} if isinstance(values, dict) else values
