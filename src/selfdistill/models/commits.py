"""The commit that a hub model's name stands for: looked up once per experiment, and the same in all its stages."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..recipe import ModelConfig, Recipe
from .source import model_source

_log = logging.getLogger(__name__)
_TIMEOUT = 15  # seconds


def pinned(
    recipe: Recipe, manifest: Mapping[str, Any], look_up: bool = True, judge_has_weights: bool = True
) -> tuple[Recipe, dict[str, str]]:
    """The recipe with the commits of its hub models as their revisions, and these commits by name and revision: those
    that `manifest` records, and for an experiment whose models have not been used yet those that are looked up.

    A commit that can't be found is reported in a warning; the model's name then stands for itself."""
    commits: dict[str, str] = dict(manifest.get("commits", {}))
    unused = all(stage.partition("/")[0] in ("data", "items") for stage in manifest["stages"])
    for model in _hub_models(recipe, judge_has_weights):
        key = _key(model)
        if key not in commits and look_up and unused:
            commit = hub_commit(model.path, model.revision)
            if commit:
                commits[key] = commit
            else:
                _log.warning(
                    "The commit of %s can't be looked up on the hub or in its cache, so the experiment records the "
                    "name alone; set model.revision to a commit to fix the weights.",
                    key,
                )
    changes: dict[str, Any] = {"model": _at_commit(recipe.model, commits)}
    if recipe.judge:
        changes["judge"] = recipe.judge.model_copy(update={"model": _at_commit(recipe.judge.model, commits)})
    return recipe.model_copy(update=changes), commits


def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit of a hub model's revision (default: main), from the hub, or if that can't be reached from its cache on
    this machine; None if neither knows it."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    import huggingface_hub

    try:
        found = huggingface_hub.model_info(name, revision=revision, timeout=_TIMEOUT).sha
    except Exception:  # the hub client lets through errors of several libraries
        found = None
    if found:
        return str(found)
    cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def _hub_models(recipe: Recipe, judge_has_weights: bool) -> Iterator[ModelConfig]:
    """The models that are loaded here by their hub name; a judge behind a server is not."""
    for model in [recipe.model, *([recipe.judge.model] if recipe.judge and judge_has_weights else [])]:
        source = model_source(model)
        if source.count("/") == 1 and not source.startswith((".", "/", "~")) and not Path(source).is_dir():
            yield model


def _key(model: ModelConfig) -> str:
    return f"{model.path}@{model.revision or 'main'}"


def _at_commit(model: ModelConfig, commits: Mapping[str, str]) -> ModelConfig:
    return model.model_copy(update={"revision": commits.get(_key(model), model.revision)})
