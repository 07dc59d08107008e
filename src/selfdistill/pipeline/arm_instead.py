"""What changed since the last command in a directory. Names every changed setting before work goes on, and stops a run
whose settings differ from those of finished, expensive work, with commands that keep this work."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, RecipeError
from ..recipe import Recipe, TrainConfig
from ..recipe.changes import changed_keys, overrides_to, shown_changes
from ..recipe.keys import recipe_keys
from ..recipe.sweep import file_name
from ..store.experiment import Experiment
from ..store.marks import MARKS
from ..store.stage import Stage
from .context import Context

_Changed = Mapping[str, tuple[Any, Any]]
_log = logging.getLogger(__name__)
_MOST_COPIED = 200  # characters: nobody reads longer settings, such as a whole list of tasks
# Settings of a stage that have another name in the recipe. `model` in the settings is the digest of the weights.
_KEYS = {"grader": "rewrite.grader", "source": "data.path", "model": "model.path", "embedding": "shift.embedding"}
# The sections in which a stage's settings are looked for, the first that has the key.
_SECTIONS = {
    "data": ("data",), "rewrite": ("rewrite", "model"), "train": ("train", "arms.*", "rewrite", "model"),
    "answer": ("evaluate", "evaluate.tasks.*", "model"), "step": ("evaluate", "evaluate.tasks.*", "model"),
}  # fmt: skip


def warn_of_changes(experiment: Experiment) -> None:
    """Warns of every setting that differs from the recipe in the directory, which the present recipe will replace. Says
    nothing if the directory holds no more than the rows, as after a preview or a run that stopped in its first seconds:
    no work was done with the earlier settings."""
    if experiment.manifest["stages"].keys() <= {"data"}:
        return
    before = _saved_recipe(experiment)
    changes = changed_keys(before, experiment.recipe) if before else {}
    if before is None or not changes:
        return
    words = overrides_to(experiment.recipe, before)
    back = shlex.join(["selfdistill", "run", str(experiment.directory), *(words or [])])
    advice = f"\nTo go back to the earlier settings: {back}" if words and not experiment.recipe.evaluates_only else ""
    _log.warning(
        "%s goes on with other settings than before: %s.%s", experiment.directory, shown_changes(changes), advice
    )


def only_merges(experiment: Experiment) -> bool:
    """Whether the recipe differs from the one in the directory in train.merge alone."""
    before = _saved_recipe(experiment)
    return before is not None and changed_keys(before, experiment.recipe).keys() == {"train.merge"}


def _saved_recipe(experiment: Experiment) -> Recipe | None:
    """The recipe of the last command in the directory; None if there is none that can be read."""
    try:
        return Experiment.open(experiment.directory).recipe
    except (ExperimentError, RecipeError):
        return None


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
    before = _saved_recipe(experiment)
    real = changed_keys(before, experiment.recipe) if before else {}
    named = {_recipe_key(context, stage, key): values for key, values in changed.items()}
    told = {key: real.get(key, values) for key, values in named.items() if key in real or not _of_a_task(key, named)}
    earlier = overrides_to(experiment.recipe, before) if before else None
    had = f" The earlier command, or its recipe, had {shlex.join(earlier)}." if earlier else ""
    lines = [f"{experiment.directory} was made with other settings for {stage.name}: {shown_changes(told)}.{had}"]
    raise ExperimentError("\n".join([*lines, *_ways_on(experiment, before, _arms(context, found))]))


def _of_a_task(key: str, named: _Changed) -> bool:
    """Whether a key of the sampling changed with a task's own key: a task's limit is in its sampling too."""
    section, _, name = key.rpartition(".")
    return section == "evaluate.sampling" and f"evaluate.tasks[].{name}" in named


def _ways_on(experiment: Experiment, before: Recipe | None, arms: Sequence[str]) -> Iterator[str]:
    """What to do, with commands to copy."""
    directory = experiment.directory
    run = ["selfdistill", "run"]
    own = [*run, str(experiment.path("recipe.yaml")), "--dir"]
    if arms:
        added = "an arm" if len(arms) == 1 else "arms"
        yield f"To keep it and add {added} with the new settings: {shlex.join([*own, str(directory), *arms])}"
    if before is None or experiment.recipe.evaluates_only:
        yield "Put them back, or name a new directory with --dir."
        return
    words, same = overrides_to(before, experiment.recipe), not changed_keys(before, experiment.recipe)
    back = f"To go on with the earlier settings: {shlex.join([*run, str(directory)])}"
    yield "A file or model changed: put it back, or use a new directory." if same else back
    if _stops_at_a_row(experiment):
        return
    new, free = "To use the new settings in a new directory", str(_free(directory))
    if words is None or len(shlex.join(words)) > _MOST_COPIED:
        yield f"{new}: repeat your command with {shlex.join(['--dir', free])}"
    else:
        yield f"{new}: {shlex.join([*own, free, *words])}"


def _stops_at_a_row(experiment: Experiment) -> bool:
    """Whether the present settings would stop at rows that the earlier run left out, in a new directory too."""
    data = experiment.recipe.data
    return bool(data and data.on_bad_row == "stop" and experiment.counts("data").get("bad"))


def _free(directory: Path) -> Path:
    """A directory next to this one that does not exist yet."""
    numbered = (directory.with_name(f"{directory.resolve().name}-{number}") for number in count(2))
    return next(path for path in numbered if not path.exists())


def _recipe_key(context: Context, stage: Stage, key: str) -> str:
    """The recipe's key for a setting of a stage: `train.lr` for `lr` of a training."""
    kind, run = [*stage.name.split("/"), ""][:2]
    first = key.partition(".")[0]
    arm = context.runs[run].arm if run in context.runs else None
    if arm and first == "model" and context.runs[run].is_given:
        return f"arms.{arm}.checkpoint"
    if first in _KEYS:
        return _KEYS[first]
    if arm and kind == "train" and first in context.recipe.arms[arm].train:
        return f"arms.{arm}.train.{key}"
    section = next((each for each in _SECTIONS.get(kind, ()) if (each, first) in _known()), None)
    if section is None:
        return key
    section = section.replace(".*", f".{arm}" if kind == "train" else "[]")
    return f"{section}.{'template' if first == 'template' else key}"


@cache
def _known() -> frozenset[tuple[str, str]]:
    """Each section of a recipe with each of its keys."""
    parts = (key.path.split(".") for key in recipe_keys())
    return frozenset((".".join(path[:end]), path[end]) for path in parts for end in range(1, len(path)))


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
    return next(name for number in count(2) if (name := f"{arm}-{number}") not in arms)
