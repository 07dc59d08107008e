"""The whole recipe, and what its sections ask of each other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError, field_validator, model_validator

from .data import DataConfig, RewriteConfig
from .evaluate import EvaluateConfig, JudgeConfig, ShiftConfig
from .model import ModelConfig
from .problems import problem
from .settings import Settings, check_name, merge
from .train import DEFAULT_ARMS, ArmConfig, TrainConfig


class Recipe(Settings):
    """An experiment from a dataset to a verdict. `task` fills in data, template and grader where they are left out.
    With `seeds`, every arm is trained once with each. `sweep` makes arms of the others: for each of its parameters (n,
    mix, template or one of `train`) and each value in its list one, see `sweep.py`. `gap` scores the originals and the
    rewrites under the model. `sandbox` is where programs that a model wrote are run."""

    model: ModelConfig
    task: str | None = None
    data: DataConfig | None = None
    rewrite: RewriteConfig = RewriteConfig()
    train: TrainConfig = TrainConfig()
    arms: dict[str, ArmConfig] = DEFAULT_ARMS
    seeds: list[int] = []
    sweep: dict[str, list[Any]] = {}
    evaluate: EvaluateConfig = EvaluateConfig()
    shift: ShiftConfig = ShiftConfig()
    judge: JudgeConfig | None = None
    gap: bool = True
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    note: str | None = None

    @property
    def trusted(self) -> list[str]:
        """The settings by which the user lets others' code run: a model repository's, a grader's own, a program's."""
        named = {"model": self.model} | ({"judge.model": self.judge.model} if self.judge else {})
        allowed = [
            f"{name}.trust_remote_code: {model.path}" for name, model in named.items() if model.trust_remote_code
        ]
        spec = self.rewrite.grader
        grader = spec.get("name") if isinstance(spec, dict) else spec
        allowed += [f"rewrite.grader: {grader}"] if isinstance(grader, str) and ":" in grader else []
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
        if self.task is None and (self.data is None or not self.data.path):
            raise ValueError("name a `task`, or your own data in `data.path`")
        if not self.model.path:
            raise ValueError("name a model in `model.path`")
        if not any(arm.data == "none" for arm in self.arms.values()):
            raise ValueError("no arm has `data: none`; the seed is what every comparison is made with")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError("`seeds` are different whole numbers from 0 on")
        if self.seeds and any("seed" in arm.train for arm in self.arms.values()):
            raise ValueError(
                "an arm has its own train.seed, and `seeds` trains every arm with each; keep one of the two"
            )
        for name, arm in self.arms.items():
            check_name("arm", name)
            self._arm_fits(name, arm)
            try:
                self.arm_train(arm)
            except ValidationError as error:
                details = [{**detail, "loc": ("train", *detail["loc"])} for detail in error.errors()]
                raise ValueError(f"arm {name}: {'; '.join(problem(detail, Recipe) for detail in details)}") from None
        return self

    def _arm_fits(self, name: str, arm: ArmConfig) -> None:
        """What an arm asks of the rest of the recipe. Raises ValueError."""
        if arm.of is not None and (arm.of not in self.arms or self.arms[arm.of].data in ("none", "interpolate")):
            trained = [other for other, its in self.arms.items() if its.data not in ("none", "interpolate")]
            raise ValueError(f"arm {name}: `of: {arm.of}` names no arm that is trained; choose {', '.join(trained)}")
        if arm.best_of and self.rewrite.sampling.temperature == 0:
            raise ValueError(
                f"arm {name}: best_of {arm.best_of} greedy rewrites would all be the same; set "
                "rewrite.sampling.temperature, or leave out best_of"
            )

    def trained_arm(self, arm: ArmConfig) -> ArmConfig:
        """The arm itself, or the one that it is interpolated from."""
        return self.arms[arm.of] if arm.of else arm

    def arm_train(self, arm: ArmConfig) -> TrainConfig:
        """The recipe's `train` with what the arm changes."""
        return TrainConfig.model_validate(merge(self.train.model_dump(), self.trained_arm(arm).train))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
