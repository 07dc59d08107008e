"""The rows, and how their responses are rewritten and checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from .model import SAMPLING_PRESETS, Sampling
from .settings import IsPath, Settings, keeps, reruns
from .suites import SUITES

# Held-out rows in a file of their own are read with the settings of the training rows.
_DRAWN = reruns("data")
TEMPLATES = ("own-words", "call", "using", "refer", "math")
"""The names of the rewriting templates that ship with the package."""
# The rows of the demo's tasks and of the probes are made by the package.
_MADE = (
    *(entry["task"] for name in ("demo", "probes") for entry in SUITES[name].tasks if entry["task"] != "overrefusal"),
    "demo-calls",
    "demo-results",
)


class NearDuplicatesConfig(Settings):
    """Held-out prompts that resemble a training prompt."""

    threshold: float | None = Field(default=0.9, gt=0, le=1)
    """Similarity from 0 to 1 from which a prompt is counted; null counts none."""
    drop: bool = False
    """Leave these held-out rows out."""


class DataConfig(Settings):
    """Rows to read. Every assistant turn is trained on unless the row excludes it."""

    path: Annotated[str, IsPath(_MADE), reruns("data", resolved=True)] = ""
    """File, folder or hub name; empty is the data of the recipe's task."""
    format: str = "auto"
    """How a row is read; `auto` decides by the columns."""
    config: Annotated[str | None, _DRAWN] = None
    """Configuration of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset or of a folder."""
    columns: dict[str, str] = {}
    """Column of each field of the format, such as `prompt: question`."""
    n: Annotated[int | None, _DRAWN, Field(gt=0)] = None
    """Rows to draw; null for all. A larger draw contains each smaller draw of the same data.seed."""
    seed: Annotated[int, _DRAWN, Field(ge=0, lt=2**32 - 1)] = 0
    """Random seed of the draw."""
    heldout: Annotated[int, _DRAWN, Field(ge=0)] = 0
    """Rows set aside before the draw; they are never trained on."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """Stop at a row that can't be read, or leave it out and count it."""
    near_duplicates: Annotated[NearDuplicatesConfig, _DRAWN] = NearDuplicatesConfig()


class Filters(Settings):
    """Checks on every rewrite, whatever its answer. null or false turns a check off."""

    reference_talk: bool = True
    """Reject talk about the reference or the prompt, and headings of the rewriting template."""
    refusal: bool = True
    """Reject refusals."""
    end_of_turn: bool = True
    """Reject chat markup and turns of a further dialogue."""
    script: bool = True
    """Reject a rewrite in another script than the reference."""
    arithmetic: bool = True
    """Reject worked arithmetic that contradicts itself, such as 6 + 6 = 10."""
    max_repeats: int | None = Field(default=8, gt=1)
    """Repetitions of a passage from which a rewrite is a loop."""
    min_length_ratio: float | None = Field(default=0.1, ge=0)
    """Least length of a rewrite, in lengths of the reference."""
    max_length_ratio: float | None = Field(default=10.0, gt=0)
    """Greatest length of a rewrite, in lengths of the reference."""


GraderSpec = str | dict[str, Any]


def single_graders(spec: GraderSpec | None) -> list[dict[str, Any]]:
    """The graders in a specification, each with its name and options: one, several under `all_of`, or none if it is not
    a grader."""
    if isinstance(spec, dict) and isinstance(spec.get("all_of"), list):
        return [single for each in spec["all_of"] for single in single_graders(each)]
    single = spec if isinstance(spec, dict) else {"name": spec}
    return [single] if isinstance(single.get("name"), str) else []


def grader_names(spec: GraderSpec | None) -> list[str]:
    return [single["name"] for single in single_graders(spec)]


class RewriteConfig(Settings):
    """Rewriting (eq. 3) and selection (eq. 4)."""

    preset: Annotated[Literal["paper"] | None, reruns("rewrite", "verify", "choose", "grade", resolved=True)] = None
    """`paper`: if `template` is null, the template has the paper's wording; if `grader` is null, rewrites of open-ended
    tasks (dolly, alpaca, lima, openhermes) are checked by the filters only, as in the paper."""
    template: Annotated[str | None, IsPath(TEMPLATES), reruns("rewrite", resolved=True)] = None
    """Rewriting template: a name that `selfdistill list` shows, or a file; null is the template of the task, else
    own-words."""
    backend: Annotated[str, reruns("rewrite", resolved=True)] = "hf"
    """Engine that rewrites."""
    sampling: Annotated[Sampling, reruns("rewrite")] = Sampling(**SAMPLING_PRESETS["paper"])
    grader: Annotated[GraderSpec | None, IsPath(code=True), reruns("verify", "choose", "grade", resolved=True)] = None
    """Check of rewrites and of answers to the target task: a name, a mapping with options, all_of with a list of
    graders, or file.py:function; null is the grader of the task."""
    filters: Annotated[Filters, reruns("verify", "choose")] = Filters()
    own_unchecked: Annotated[bool, reruns("verify", "choose", resolved=True)] = False
    """For `reasoning: own`: also train on the seed model's own traces and answers that no grader compared with
    the reference."""
    min_accepted: Annotated[float, keeps(), Field(ge=0, le=1)] = 0.05
    """Stop if a smaller share of the rewrites is accepted, or kept without a check of the content. With `reasoning:
    own`, the share of the rows that train on an answer of the seed model."""

    @field_validator("sampling", mode="before")
    @classmethod
    def _from_the_papers(cls, values: Any) -> Any:
        """Values that are not written are the paper's, not greedy."""
        return {"preset": "paper", **values} if isinstance(values, dict) else values
