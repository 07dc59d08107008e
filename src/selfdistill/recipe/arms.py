"""The arms of an experiment: what each one trains on. A new kind of arm is one entry of `ARM_KINDS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .data import TEMPLATES
from .settings import IsPath, Mark, Settings


@dataclass(frozen=True)
class ArmKind:
    """A kind of arm: `data: NAME` in the recipe.

    `answers` are the answers of the seed that it trains on if they pass, preferred first: `self` (to the prompt alone)
    and `rewrites`; rows without one keep the original response. `weights`: the seed's own, trained, interpolated
    between the seed and another arm, or given: made elsewhere. `label` is how `check` describes it.
    """

    name: str
    label: str
    answers: tuple[Literal["self", "rewrites"], ...] = ()
    weights: Literal["seed", "trained", "interpolated", "given"] = "trained"


MIX = "mix"
"""The kind of an arm whose `data` is a number: the share of rows that use the rewrite."""

ARM_KINDS = {
    kind.name: kind
    for kind in (
        ArmKind("none", "the model unchanged", weights="seed"),
        ArmKind("original", "original"),
        ArmKind("rewrites", "rewrites", ("rewrites",)),
        ArmKind("self", "the seed's own answers that pass, else originals", ("self",)),
        ArmKind("cascade", "the seed's own answers, else rewrites, else originals", ("self", "rewrites")),
        ArmKind("interpolate", "weights between the seed and another arm", weights="interpolated"),
        ArmKind("checkpoint", "a model made elsewhere", weights="given"),
        ArmKind(MIX, "rewrites", ("rewrites",)),
    )
}
"""docs/baselines.md names the paper of each kind."""


# Of a checkpoint alone, whose steps resolve its model and its sampling themselves.
_GIVEN = Mark(lambda _inherited, _section: frozenset(("answer", "loss")), resolved=True)


class ReplayConfig(Settings):
    """Rows of other data that are mixed in unchanged: a task's training split, or the rows at a path."""

    task: Annotated[str | None, Mark(resolved=True)] = None
    """Task whose training rows are mixed in."""
    path: Annotated[str | None, IsPath(), Mark(resolved=True)] = None
    """File, folder or hub name."""
    format: str | None = None
    """As data.format."""
    config: str | None = None
    """As data.config."""
    split: str | None = None
    """As data.split."""
    columns: dict[str, str] | None = None
    """As data.columns."""
    on_bad_row: Literal["stop", "skip"] | None = None
    """As data.on_bad_row."""
    share: float = Field(gt=0, le=10)
    """Replayed rows per row of the arm."""

    @model_validator(mode="after")
    def _named(self) -> ReplayConfig:
        if self.task is None and self.path is None:
            raise ValueError("name the data to replay: a `task`, or a `path`")
        return self


class ArmConfig(Settings):
    """What an arm trains on, and how; or a model made elsewhere, as in `{checkpoint: PATH}`."""

    data: str | float
    """none (the seed model), original, rewrites (SDFT), self (the seed model's own answers that pass, else the
    original), cascade (its own answer, else the rewrite, else the original), interpolate (weights between the seed
    model and the arm `of`), checkpoint (a model made elsewhere), or a number from 0 to 1: the share of rows that use
    the rewrite."""
    n: int | None = Field(default=None, gt=0)
    """Rows to train on; null for all."""
    template: Annotated[str | None, IsPath(TEMPLATES), Mark(resolved=True)] = None
    """Rewriting template in place of rewrite.template."""
    reasoning: Annotated[Literal["own", "mask", "empty", "off"] | None, Mark(resolved=True)] = None
    """Think blocks of this arm, in place of model.reasoning. `empty` trains an empty block before each answer, as
    fine-tuning on rows without reasoning does by mistake."""
    best_of: int | None = Field(default=None, gt=1)
    """Rewrites to draw per row; the likeliest under the seed model of those that pass is used."""
    of: Annotated[str | None, Mark(resolved=True)] = None
    """For interpolate: the arm to go towards."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    """For interpolate: how far to go, from 0 (the seed model) to 1."""
    replay: ReplayConfig | None = None
    train: Annotated[dict[str, Any], Mark(resolved=True)] = {}
    """Keys of `train` that differ for this arm."""
    checkpoint: Annotated[str | dict[str, Any] | None, IsPath(("demo",)), _GIVEN] = None
    """A model made elsewhere, as a path or hub name, or with keys of `model` that differ: weights, a LoRA adapter of
    the seed model, or with `server` a model behind an endpoint."""
    sampling: Annotated[dict[str, Any], _GIVEN] = {}
    """For a checkpoint: keys of evaluate.sampling that differ for it."""

    @model_validator(mode="before")
    @classmethod
    def _made_elsewhere(cls, values: Any) -> Any:
        """`{checkpoint: PATH}` is `{data: checkpoint, checkpoint: {path: PATH}}`."""
        if not isinstance(values, dict) or not values.get("checkpoint"):
            return values
        given = values["checkpoint"]
        return {"data": "checkpoint", **values, "checkpoint": {"path": given} if isinstance(given, str) else given}

    @field_validator("data", mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        names = [name for name in ARM_KINDS if name != MIX]
        if data in names:
            return data
        if isinstance(data, int | float) and not isinstance(data, bool) and 0 <= data <= 1:
            return float(data)
        raise ValueError(f"choose {', '.join(names)}, or a mix ratio between 0 and 1, not {data!r}")

    @model_validator(mode="after")
    def _settings_fit(self) -> ArmConfig:
        if self.kind.weights == "interpolated":
            if self.of is None or self.alpha is None:
                raise ValueError("`data: interpolate` needs `of`, the arm to go towards, and `alpha`, how far")
            if self.n or self.replay or self.train:
                raise ValueError("`data: interpolate` trains nothing: leave out n, replay and train")
        elif self.of is not None or self.alpha is not None:
            raise ValueError("`of` and `alpha` belong to `data: interpolate`")
        if self.kind.weights == "given":
            if not isinstance(self.checkpoint, dict) or not self.checkpoint.get("path"):
                raise ValueError("`data: checkpoint` needs `checkpoint`, the path or hub name of a model")
            if self.n or self.replay or self.train:
                raise ValueError("a checkpoint is not trained here: leave out n, replay and train")
        elif self.checkpoint is not None or self.sampling:
            raise ValueError("`checkpoint` and its `sampling` go with no other `data`: leave out data")
        if self.best_of and self.answers != ("rewrites",):
            raise ValueError("`best_of` chooses among rewrites; it goes with `data: rewrites` or a mix ratio")
        if self.template is not None and "rewrites" not in self.answers:
            raise ValueError(f"`template` is how responses are rewritten, and `data: {self.data}` uses no rewrites")
        if self.kind.weights == "seed" and self.replay:
            raise ValueError("`data: none` trains nothing: leave out replay")
        if self.reasoning is not None and not self.trained:
            raise ValueError(f"`reasoning` is how an arm is trained, and `data: {self.data}` trains nothing")
        return self

    @property
    def kind(self) -> ArmKind:
        return ARM_KINDS[MIX if isinstance(self.data, float) else self.data]

    @property
    def share(self) -> float:
        """The share of rows that may use an answer of the seed."""
        return self.data if isinstance(self.data, float) else float(bool(self.kind.answers))

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers of the seed that it trains on if they pass, preferred first."""
        return self.kind.answers if self.share else ()

    @property
    def trained(self) -> bool:
        """Whether the arm has a training of its own."""
        return self.kind.weights == "trained"


DEFAULT_ARMS = {
    "seed": ArmConfig(data="none"),
    "vanilla": ArmConfig(data="original"),
    "sdft": ArmConfig(data="rewrites"),
}
