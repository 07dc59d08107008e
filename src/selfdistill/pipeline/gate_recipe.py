"""Recipes without training: the seed and other models on a suite, for `selfdistill compare`, `gate` and `baseline`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backends import backends_that
from ..errors import RecipeError
from ..recipe import Recipe, make_recipe
from ..recipe.suites import SUITES, suite_tasks
from ..store.identity import model_identity
from ..tasks import TASKS, get_task
from ..types import content_id
from .entries import HELDOUT
from .gate import CANDIDATE, SEED, Design
from .new_recipe import guess_grader

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
    """A recipe that evaluates the seed and `candidates` (arm → model) on a suite, and on a target: a task's name or a
    file of rows. `margin` is a share. Raises RecipeError, or DataError if the file can't be read."""
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
    compared = _add_target(values, target) if target else None
    texts = [entry["task"] for entry in values["evaluate"]["tasks"] if _has_text(entry["task"])]
    if texts and candidates:
        values["shift"] = {"task": compared or texts[0]}
    return make_recipe(values, overrides, source="the command", folder=Path.cwd())


def _has_text(task: str) -> bool:
    """Whether a task's answers are compared as text by the shift."""
    return task != HELDOUT and get_task(task).harness is None and get_task(task).answers_of is None


def _add_target(values: dict[str, Any], target: str) -> str | None:
    """Adds the target to the plain values of a recipe. Returns its name if the shift can compare its answers."""
    tasks = values["evaluate"]["tasks"]
    if Path(target).exists():
        grader, form = guess_grader(target)
        name = re.sub(r"[^\w.+=-]", "-", Path(target).stem).lstrip(".") or HELDOUT
        tasks.append({"task": HELDOUT, "name": name, "path": target, "format": form})
        values["rewrite"] = {**values.get("rewrite", {}), "grader": grader}
        values["evaluate"]["heldout_loss"] = grader == "facts"
        return name
    if target not in TASKS:
        raise RecipeError(
            f"--target {target} is neither a file nor a task; give a file of rows, or a task that `selfdistill list` "
            "shows."
        )
    if len(values["arms"]) > 1:  # for the seed alone a task would be one to rewrite
        values["task"] = target
    if all(entry["task"] != target for entry in tasks):
        tasks.append({"task": target})
    return target if _has_text(target) else None


def gate_design(suite: str, size: str, strict: bool, baseline: Path | None, target: str | None) -> Design:
    """The plan of a gate on a suite that `comparison_recipe` accepts."""
    name = baseline.name if baseline else None
    return Design(suite, SUITES[suite].version, size, strict, baseline=name, target=target and _named(target))


def _named(target: str) -> str:
    """A target as a baseline file names it: a task, or a file by its name. The file's rows are compared by content."""
    return Path(target).name if Path(target).exists() else target


def default_folder(command: str, recipe: Recipe, *settings: Any) -> Path:
    """`runs/COMMAND-NAME-DIGEST`: another candidate, seed or setting has another directory, but for another margin the
    answers in it are used again."""
    arms = [recipe.arm_model(arm) for arm in recipe.arms.values()]
    files = [model.path if model.server else model_identity(model) for model in arms]
    name = re.sub(r"[^\w.-]+", "-", Path(arms[-1].path).name).strip("-.") or CANDIDATE
    values = recipe.model_dump(mode="json")
    del values["evaluate"]["margin"]
    digest = content_id(values, files, *settings)[:8]
    return Path("runs") / f"{command}-{name}-{digest}"
