"""Stops a run whose settings differ from those of finished, expensive work, with the command that keeps this work and
adds arms with the new settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ExperimentError
from ..recipe import TrainConfig
from ..recipe.sweep import file_name
from ..store.experiment import Experiment
from ..store.marks import MARKS
from ..store.stage import Stage
from .context import Context

_Changed = Mapping[str, tuple[Any, Any]]


def stop_if_changed(experiment: Experiment, context: Context, stages: Sequence[Stage]) -> None:
    """Raises ExperimentError that names the changed keys if expensive work was done with other settings."""
    found = list(experiment.changes(stages))
    if not found:
        return
    stage, changed = found[0]
    if set(changed) == {"marks"}:
        raise ExperimentError(
            f"Rows were marked by hand, or marks were taken back, since {stage.name} began: the arm would have to be "
            f"trained again. Copy {experiment.path(MARKS)} into the folder rewrite of a new directory and name that "
            "with --dir; the answers of the seed are taken over. Or put the marks back as they were."
        )
    keys = ", ".join(f"{key} ({old} → {new})" for key, (old, new) in changed.items())
    directory, arms = experiment.directory, _arms(context, found)
    instead = ""
    if arms:
        recipe = str(experiment.path("recipe.yaml"))
        command = shlex.join(["selfdistill", "run", recipe, "--dir", str(directory), *arms])
        instead = f"To keep it and add {'an arm' if len(arms) == 1 else 'arms'} with the new settings: {command}\n"
    raise ExperimentError(
        f"{directory} was made with other settings for {stage.name}: {keys}. {instead}"
        "Put them back, or name a new directory with --dir."
    )


def _arms(context: Context, found: Sequence[tuple[Stage, _Changed]]) -> list[str]:
    """The arms to add, as arguments of the command; none if an arm can't hold all of the changes."""
    added: dict[str, dict[str, Any]] = {}
    for stage, changed in found:
        made = dict(_added(context, stage, changed))
        if not made:
            return []
        added |= made
    return [f"arms.{name}={json.dumps(arm)}" for name, arm in added.items()]


def _added(context: Context, stage: Stage, changed: _Changed) -> Iterator[tuple[str, dict[str, Any]]]:
    """For the stage of a training or of the rewrites: each arm with the changed settings, by a new name."""
    recipe, (kind, _, run) = context.recipe, stage.name.partition("/")
    if kind == "train" and run in context.runs and _changes_training(changed):
        arm = context.runs[run].arm
        trained = recipe.arm_train(recipe.arms[arm]).model_dump(mode="json")
        train = dict(recipe.arms[arm].train)
        for key in changed:
            train[key.partition(".")[0]] = trained[key.partition(".")[0]]
        yield _named(recipe.arms, arm, changed), _plain(recipe.arms[arm], train=train)
    elif stage.name == "rewrite" and all(key.partition(".")[0] == "template" for key in changed):
        template = {"template": (None, context.task.template)}
        for arm, config in recipe.arms.items():
            if config.trained and "rewrites" in config.answers and config.template is None:
                yield _named(recipe.arms, arm, template), _plain(config, template=context.task.template)


def _changes_training(changed: _Changed) -> bool:
    return all(key.partition(".")[0] in TrainConfig.model_fields for key in changed)


def _plain(arm: Any, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = arm.model_dump(mode="json", exclude_defaults=True)
    return values | {key: value for key, value in changes.items() if value}


def _named(arms: Mapping[str, Any], arm: str, changed: _Changed) -> str:
    """As `sdft-lr-2e-05` for one changed key, else `sdft-2`."""
    if len(changed) == 1:
        ((key, (_, new)),) = changed.items()
        # A dot would separate keys of the recipe.
        return f"{arm}-{key.rpartition('.')[2]}-{file_name(new)}".replace(".", "_")
    return next(name for number in range(2, 100) if (name := f"{arm}-{number}") not in arms)
