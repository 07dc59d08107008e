"""Recipes without training: the seed and other models on a suite, for `selfdistill compare`, `gate` and `baseline`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backends import backends_that
from ..errors import RecipeError
from ..recipe import Recipe, TaskEntry, make_recipe
from ..recipe.suites import SUITES, suite_tasks
from ..store.identity import model_identity
from ..tasks import TASKS, get_task
from ..types import content_id
from .entries import HELDOUT
from .gate import CANDIDATE, SEED, Design
from .new_recipe import guess_grader

_LONGEST = 60  # characters of the models' names in a directory's name
_SERVED = re.compile(r"(https?://[^#]+)#(.+)")


def model_values(name: str, key_env: str | None = None) -> dict[str, Any]:
    """The keys of `model` for a path, a hub name, or a model behind an endpoint as URL#NAME. Raises RecipeError for a
    URL without a name."""
    if served := _SERVED.fullmatch(name):
        return {"path": served[2], "server": {"url": served[1], **({"key_env": key_env} if key_env else {})}}
    if name.startswith(("http://", "https://")):
        raise RecipeError(f"{name} names no model; write URL#NAME, as in http://localhost:8000/v1#my-model.")
    return {"path": name}


def comparison_recipe(
    seed: str,
    candidates: Mapping[str, str],
    suite: str,
    size: str,
    overrides: Sequence[str] = (),
    *,
    target: str | None = None,
    margin: float = 0.05,
    key_env: str | None = None,
) -> Recipe:
    """A recipe that evaluates the seed and `candidates` (arm → model) on a suite, or on the evaluate.tasks of
    `overrides`, and on a target: a task's name or a file of rows. `margin` is a share. Raises RecipeError, or DataError
    if the file can't be read."""
    if not 0.005 <= margin < 1:
        raise RecipeError(f"--margin is a share from 0.005 to below 1: write 0.05 for 5 points, not {margin:g}.")
    try:
        tasks = suite_tasks(suite, size)
    except ValueError as error:
        raise RecipeError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    model = model_values(seed, key_env)
    values: dict[str, Any] = {
        "model": model,
        "arms": {
            SEED: {"data": "none"},
            **{arm: {"checkpoint": model_values(name, key_env)} for arm, name in candidates.items()},
        },
        "evaluate": {"tasks": tasks, "margin": 100 * margin},
        "gap": False,
    }
    if "server" in model:
        backend = {"backend": backends_that("needs_server")[0]}
        values["evaluate"] |= backend
        values["rewrite"] = backend
    added = _add_target(values, target) if target else None
    recipe = make_recipe(values, overrides, source="the command", folder=Path.cwd())
    if added and not any(_same_rows(entry, added) for entry in recipe.evaluate.tasks):
        named = [entry.model_dump(mode="json", exclude_unset=True) for entry in recipe.evaluate.tasks]
        asked = f"evaluate.tasks={json.dumps([*named, added], ensure_ascii=False)}"
        recipe = make_recipe(values, [*overrides, asked], source="the command", folder=Path.cwd())
    return _with_shift(recipe) if candidates else recipe


def _with_shift(recipe: Recipe) -> Recipe:
    """The recipe with a task for the shift, unless the user chose one: the target, else the first task with text
    answers. Without such a task the recipe's note reports that no shift is measured."""
    if "task" in recipe.shift.model_fields_set:
        return recipe
    texts = [entry for entry in recipe.evaluate.tasks if _has_text(entry.task)]
    targets = [entry for entry in texts if entry.task in (HELDOUT, recipe.task)]
    if not texts:
        note = "No task has answers as text, so the shift from the seed is not measured."
        return recipe.model_copy(update={"note": recipe.note or note})
    shift = recipe.shift.model_copy(update={"task": [*targets, *texts][0].name})
    return recipe.model_copy(update={"shift": shift})


def _has_text(task: str) -> bool:
    """Whether a task's answers are compared as text by the shift."""
    return task == HELDOUT or (get_task(task).harness is None and get_task(task).answers_of is None)


def _add_target(values: dict[str, Any], target: str) -> dict[str, Any]:
    """Adds the target to the plain values of a recipe. Returns its entry in evaluate.tasks."""
    tasks = values["evaluate"]["tasks"]
    if Path(target).exists():
        grader, form = guess_grader(target)
        name = re.sub(r"[^\w.+=-]", "-", Path(target).stem).lstrip(".") or HELDOUT
        entry = {"task": HELDOUT, "name": name, "path": target, "format": form}
        values["rewrite"] = {**values.get("rewrite", {}), "grader": grader}
        values["evaluate"]["heldout_loss"] = grader == "facts"
    elif target not in TASKS:
        raise RecipeError(
            f"--target {target} is neither a file nor a task; give a file of rows, or a task that `selfdistill list` "
            "shows."
        )
    else:
        entry = {"task": target}
        if len(values["arms"]) > 1:  # for the seed alone a task would be one to rewrite
            values["task"] = target
    if all(each["task"] != entry["task"] for each in tasks):
        tasks.append(entry)
    return entry


def _same_rows(entry: TaskEntry, target: Mapping[str, Any]) -> bool:
    """Whether an entry asks the target's task, of a file the same rows."""
    paths = [path and os.path.abspath(path) for path in (entry.path, target.get("path"))]
    return entry.task == target["task"] and (entry.task != HELDOUT or paths[0] == paths[1])


def gate_design(suite: str, size: str, strict: bool, baseline: Path | None, target: str | None) -> Design:
    """The plan of a gate on a suite that `comparison_recipe` accepts."""
    name = baseline.name if baseline else None
    return Design(suite, SUITES[suite].version, size, strict, baseline=name, target=target and _named(target))


def _named(target: str) -> str:
    """A target as a baseline file names it: a task, or a file by its name. The file's rows are compared by content."""
    return Path(target).name if Path(target).exists() else target


def model_names(models: Sequence[str]) -> dict[str, str]:
    """Name → model: the last part of each path, after the parts in which paths with the same last part differ:
    `vanilla` and `sdft` for arms/vanilla/model and arms/sdft/model, `a-sdft` and `b-sdft` for a/arms/sdft/model and
    b/arms/sdft/model. Equal models are numbered."""
    paths = [_parts(model) for model in models]
    found: dict[str, str] = {}
    for model, path in zip(models, paths, strict=True):
        alike = [other for other in paths if other[-1] == path[-1] and other != path]
        shared = min((_common_end(path, other) for other in alike), default=0)
        deepest = max((_common_end(path, other) for other in alike), default=0)
        apart = path[max(0, len(path) - deepest - 1) : len(path) - shared] if alike else []
        name = "-".join([*apart, path[-1]])
        name = f"{name}-candidate" if name == SEED else name
        taken = sum(other == name or other.startswith(f"{name}-") for other in found)
        found[f"{name}-{taken + 1}" if name in found else name] = model
    return found


def _parts(model: str) -> list[str]:
    """The parts of a model's path or URL as parts of a name, without the folder `model` of an experiment's arm."""
    parts = [re.sub(r"[^\w.+=-]+", "-", part).lstrip(".") for part in re.split(r"[/#]", model.rstrip("/"))]
    parts = [part for part in parts if part] or ["model"]
    is_folder = parts[-1] == "model" and not _SERVED.fullmatch(model)
    return parts[:-1] if len(parts) > 1 and is_folder else parts


def _common_end(path: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts are equal."""
    return next(
        (n for n, (a, b) in enumerate(zip(path[::-1], other[::-1], strict=False)) if a != b), min(len(path), len(other))
    )


def default_folder(command: str, recipe: Recipe, *settings: Any) -> Path:
    """`runs/COMMAND-NAME-DIGEST`, with the names of compared arms: another candidate, seed or setting has another
    directory, but for another margin the answers in it are used again."""
    arms = [recipe.arm_model(arm) for arm in recipe.arms.values()]
    files = [model.path if model.server else model_identity(model) for model in arms]
    compared = [arm for arm in recipe.arms if arm not in (SEED, CANDIDATE)] or list(model_names([arms[-1].path]))
    name = re.sub(r"[^\w.-]+", "-", "-".join(compared))[:_LONGEST].strip("-.") or CANDIDATE
    values = recipe.model_dump(mode="json")
    del values["evaluate"]["margin"]
    digest = content_id(values, files, *settings)[:8]
    return Path("runs") / f"{command}-{name}-{digest}"
