"""The whole recipe, and what its sections require of each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ValidationError, field_validator, model_validator

from .arms import DEFAULT_ARMS, ArmConfig
from .card import CardConfig
from .data import DataConfig, RewriteConfig, grader_names
from .evaluate import EvaluateConfig, JudgeConfig, ShiftConfig
from .model import ModelConfig, Sampling
from .problems import problem
from .settings import Settings, check_name, keeps, merge, reruns
from .train import TrainConfig


class Recipe(Settings):
    """An experiment, from a dataset to a verdict."""

    model: Annotated[ModelConfig, reruns("rewrite", "gap", "choose", "train", "masking", "answer", "loss")]
    task: Annotated[str | None, reruns("data", "rewrite", "verify", "choose", "grade", resolved=True)] = None
    """Task to train on. It fills in data, rewriting template and grader if they are left out."""
    data: Annotated[DataConfig | None, reruns("data", "items")] = None
    rewrite: RewriteConfig = RewriteConfig()
    train: Annotated[TrainConfig, reruns("train", "masking")] = TrainConfig()
    arms: Annotated[dict[str, ArmConfig], reruns("train", "masking")] = DEFAULT_ARMS
    seeds: Annotated[list[int], keeps()] = []
    """Every arm is trained once with each of these random seeds."""
    sweep: Annotated[dict[str, list[Any]], keeps()] = {}
    """Lists of values, each made into arms: for n, mix, template or a key of train (docs/sweeps.md)."""
    evaluate: EvaluateConfig = EvaluateConfig()
    shift: Annotated[ShiftConfig, reruns("verify", "choose", "grade", "shift")] = ShiftConfig()
    judge: Annotated[JudgeConfig | None, reruns("judge")] = None
    gap: Annotated[bool, keeps()] = True
    """Score originals and rewrites under the seed model before training."""
    sandbox: Annotated[Literal["bubblewrap", "none"], reruns("verify", "choose", "grade", resolved=True)] = "bubblewrap"
    """Where programs that a model wrote are run."""
    note: Annotated[str | None, keeps()] = None
    """A sentence for the report."""
    card: Annotated[CardConfig, keeps()] = CardConfig()

    @property
    def trusted(self) -> list[str]:
        """The settings by which the user lets code of other people run: a model repository's, a grader's, a model's."""
        named = {"model": self.model} | ({"judge.model": self.judge.model} if self.judge else {})
        allowed = [
            f"{name}.trust_remote_code: {model.path}" for name, model in named.items() if model.trust_remote_code
        ]
        allowed += [
            f"arms.{name}.checkpoint.trust_remote_code: {model.path}"
            for name, arm in self.arms.items()
            if arm.checkpoint and (model := self.arm_model(arm)).trust_remote_code
        ]
        allowed += [f"rewrite.grader: {grader}" for grader in grader_names(self.rewrite.grader) if ":" in grader]
        return allowed + (["sandbox: none"] if self.sandbox == "none" else [])

    @field_validator("sweep", mode="before")
    @classmethod
    def _lists(cls, sweep: Any) -> Any:
        """Parameters by their full name, so that `train: {lr: [...]}` is `train.lr`."""
        flat = _flat(sweep) if isinstance(sweep, dict) else {"sweep": None}
        for name, values in flat.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{name} needs a list of values, as in `n: [500, 1000]`")
        return flat

    @model_validator(mode="after")
    def _arms_usable(self) -> Recipe:
        if self.task is None and (self.data is None or not self.data.path) and not self.evaluates_only:
            raise ValueError("name a `task`, or your own data in `data.path`")
        if not self.model.path:
            raise ValueError("name a model in `model.path`")
        if not any(arm.kind.weights == "seed" for arm in self.arms.values()):
            raise ValueError("no arm has `data: none`; every comparison is made with the seed")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError("`seeds` are different whole numbers from 0 on")
        if self.seeds and any("seed" in arm.train for arm in self.arms.values()):
            raise ValueError(
                "an arm has its own train.seed, and `seeds` trains every arm with each; keep one of the two"
            )
        for name, arm in self.arms.items():
            check_name("arm", name)
            self._arm_fits(name, arm)
            sections = {"train": self.arm_train, "checkpoint": self.arm_model, "sampling": self.arm_sampling}
            for section, resolved in sections.items():
                try:
                    resolved(arm)
                except ValidationError as error:
                    details = [{**detail, "loc": (section, *detail["loc"])} for detail in error.errors()]
                    said = "; ".join(problem(detail, Recipe) for detail in details)
                    raise ValueError(f"arm {name}: {said}") from None
        return self

    def _arm_fits(self, name: str, arm: ArmConfig) -> None:
        """Checks an arm against the rest of the recipe. Raises ValueError."""
        trained = [other for other, its in self.arms.items() if its.trained]
        if arm.of is not None and arm.of not in trained:
            raise ValueError(f"arm {name}: `of: {arm.of}` names no arm that is trained; choose {', '.join(trained)}")
        if arm.reasoning == "empty" and "empty" not in name:
            raise ValueError(
                f"arm {name}: `reasoning: empty` trains empty think blocks on purpose; call it {name}-empty, so that "
                "every table says so"
            )
        if self.model.reasoning == "off" and arm.reasoning not in (None, "off"):
            raise ValueError(
                f"arm {name}: `reasoning: {arm.reasoning}` needs thinking, and model.reasoning is off; take the arm out"
            )
        if arm.best_of and self.rewrite.sampling.temperature == 0:
            raise ValueError(
                f"arm {name}: best_of {arm.best_of} greedy rewrites would all be the same; set "
                "rewrite.sampling.temperature, or leave out best_of"
            )

    def trained_arm(self, arm: ArmConfig) -> ArmConfig:
        """The arm itself, or the one that it is interpolated from."""
        return self.arms[arm.of] if arm.of else arm

    @property
    def evaluates_only(self) -> bool:
        """Whether all that is done is to evaluate the seed and checkpoints, so that no training rows are needed."""
        kinds = [arm.kind.weights for arm in self.arms.values()]
        unnamed = self.data is None or not self.data.path
        evaluated = {*kinds} <= {"seed", "given"} and not self.sweep and bool(self.evaluate.tasks)
        return evaluated and unnamed and ("given" in kinds or self.task is None)

    def arm_model(self, arm: ArmConfig) -> ModelConfig:
        """The seed, or for a checkpoint its own model: keys that it does not name are the seed's, but for the place of
        the seed and the permission to run code of its repository."""
        if not isinstance(arm.checkpoint, dict):
            return self.model
        shared = self.model.model_dump(exclude={"path", "revision", "server", "trust_remote_code"})
        return ModelConfig.model_validate(merge(shared, arm.checkpoint))

    def arm_sampling(self, arm: ArmConfig) -> Sampling:
        """The recipe's `evaluate.sampling` with the arm's changes."""
        return Sampling.model_validate(merge(self.evaluate.sampling.model_dump(), arm.sampling))

    def arm_train(self, arm: ArmConfig) -> TrainConfig:
        """The recipe's `train` with the arm's changes."""
        return TrainConfig.model_validate(merge(self.train.model_dump(), self.trained_arm(arm).train))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
