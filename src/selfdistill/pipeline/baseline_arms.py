"""With which arm on the originals each arm is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..recipe import ArmConfig, DataConfig, Recipe


@dataclass(frozen=True)
class Baseline:
    """The arm on the originals that an arm is compared with. `equal`: the two differ in their data alone."""

    arm: str
    equal: bool


def baselines_of(recipe: Recipe, source: DataConfig) -> dict[str, Baseline]:
    """The baseline of each arm that trains on answers of the seed, or is interpolated from such an arm: the arm on the
    originals with the same training, else (for arms that mask or weight tokens or replay) the plain one, else (for arms
    with answers of the seed whose rate was tuned separately) the first one at another learning rate."""
    originals = [name for name, arm in recipe.arms.items() if arm.trained and not arm.answers]
    found: dict[str, Baseline] = {}
    for name, arm in recipe.arms.items():
        own = recipe.trained_arm(arm)
        if not own.trained:
            continue
        training, plain = (_training(recipe, source, own, plain) for plain in (False, True))
        others = {other: _training(recipe, source, recipe.arms[other]) for other in originals if other != name}
        equal = [other for other, same in others.items() if own.answers and same == training]
        near = [other for other, same in others.items() if same == plain]
        tuned = [other for other, same in others.items() if own.answers and _without_rate(same) == _without_rate(plain)]
        if equal or near or tuned:
            found[name] = Baseline([*equal, *near, *tuned][0], equal=bool(equal))
    return found


def _training(recipe: Recipe, source: DataConfig, arm: ArmConfig, plain: bool = False) -> tuple[Any, ...]:
    """The settings of an arm's training, without its responses; `plain` treats all tokens alike, has no replay and
    treats think blocks as the recipe says for all arms. `reasoning: own` counts as mask, which it is for
    originals without reasoning."""
    train = recipe.arm_train(arm)
    if plain:
        extra = {key: value for key, value in train.extra.items() if key != "loss_type"}
        train = train.model_copy(update={"mask_above": None, "extra": extra})
    said = recipe.model.reasoning if plain else arm.reasoning or recipe.model.reasoning
    own = (said if said in ("off", "empty") else "mask", None if plain else arm.replay)
    return arm.n or source.n, train.deciding("train"), *own


def _without_rate(training: tuple[Any, ...]) -> tuple[Any, ...]:
    rows, settings, *others = training
    return rows, {**settings, "lr": None}, *others
