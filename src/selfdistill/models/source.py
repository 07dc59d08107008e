"""Where a model is: its folder or hub name, and the commit of a hub model.

The commit is looked up once per experiment and is the same in all its stages.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..demo import SEEDS
from ..errors import ModelError, first_line
from ..recipe import ArmConfig, ModelConfig, Recipe
from .gguf import gguf_file, gguf_folder
from .hub import ask_hub

_log = logging.getLogger(__name__)
_TIMEOUT = 15  # seconds


def model_source(model: ModelConfig) -> str:
    """The folder or hub name for `from_pretrained`. `demo` and `demo-thinking` are folders of this package. A GGUF file
    is converted to a folder at its first use. Raises ModelError if it can't be."""
    if model.path in SEEDS:
        return str(SEEDS[model.path])
    packed = gguf_file(model.path)
    return str(gguf_folder(packed)) if packed else model.path


def asked_source(model: ModelConfig) -> str:
    """`model_source`, before the files are loaded: for a hub name the hub is asked whether it can be reached."""
    source = model_source(model)
    if is_on_hub(model):
        ask_hub()
    return source


def weights_folder(model: ModelConfig) -> Path:
    """The folder with the model's safetensors files; a hub model is downloaded to the cache. Raises ModelError."""
    folder = Path(model_source(model))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    ask_hub()
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=["model*.safetensors*"]))
    except Exception as error:  # of the hub, of the network, of the file system
        raise ModelError(
            f"The weights of {model.path} can't be downloaded ({first_line(error)}); set model.path to a folder."
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files in a folder that loading reads, as transformers chooses them: model.safetensors, else the
    files of an index, else all. Raises ValueError if the index is damaged."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index.name} is damaged") from None
    return [folder / name for name in sorted(names)]


def open_weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A lazy slice of each weight in a folder, by name, readable until `stack` closes. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    slices: dict[str, Any] = {}
    try:
        for path in weight_files(folder) or [folder / "model.safetensors"]:
            file = stack.enter_context(safe_open(path, framework="pt"))
            slices |= {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (it is not a mapping)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"The weights in {folder} can't be read ({error}); save the model again.") from error
    return slices


def pinned(
    recipe: Recipe,
    manifest: Mapping[str, Any],
    look_up: bool = True,
    judge_has_weights: bool = True,
    embedding_decides: bool = False,
) -> tuple[Recipe, dict[str, str]]:
    """The recipe with the commits of its hub models as revisions, and these commits by name and revision. If
    `embedding_decides` which rewrites are trained on, its model is one of them.

    The commits come from `manifest`. If the experiment has not used its models yet, missing commits are looked up. A
    commit that can't be found is reported in a warning, and the revision stays as the recipe has it."""
    commits: dict[str, str] = dict(manifest.get("commits", {}))
    unused = all(stage.partition("/")[0] in ("data", "items") for stage in manifest["stages"])
    embedding = ModelConfig(path=embedding_name(recipe.shift.embedding))
    models = [recipe.model, *([recipe.judge.model] if recipe.judge and judge_has_weights else [])]
    given = {name: recipe.arm_model(arm) for name, arm in recipe.arms.items() if arm.checkpoint}
    models += [model for model in given.values() if not model.server]
    for model in filter(is_on_hub, [*models, *([embedding] if embedding_decides else [])]):
        key = _key(model)
        if key not in commits and look_up and unused:
            commit = hub_commit(model.path, model.revision)
            if commit:
                commits[key] = commit
            else:
                _log.warning(
                    "The commit of %s can't be looked up on the hub or in its cache, so only its name is recorded. "
                    "Set model.revision to a commit to fix the weights.",
                    key,
                )
    changes: dict[str, Any] = {"model": _at_commit(recipe.model, commits)}
    fixed = {
        name: _arm_at_commit(recipe.arms[name], model, commits)
        for name, model in given.items()
        if _key(model) in commits
    }
    if fixed:
        changes["arms"] = {**recipe.arms, **fixed}
    if recipe.judge:
        changes["judge"] = recipe.judge.model_copy(update={"model": _at_commit(recipe.judge.model, commits)})
    if commit := commits.get(_key(embedding)):
        changes["shift"] = recipe.shift.model_copy(update={"embedding": f"{embedding.path}@{commit}"})
    return recipe.model_copy(update=changes), commits


def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit of a hub model's revision (default: main), from the hub, or from its local cache if the hub can't be
    reached. None if neither has it."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    import huggingface_hub

    ask_hub()
    try:
        found = huggingface_hub.model_info(name, revision=revision, timeout=_TIMEOUT).sha
    except Exception:  # the hub client raises errors of several libraries
        found = None
    if found:
        return str(found)
    cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def embedding_name(name: str) -> str:
    """The folder or hub name of an embedding model; a bare name belongs to sentence-transformers."""
    return name if "/" in name or Path(name).is_dir() else f"sentence-transformers/{name}"


def is_on_hub(model: ModelConfig) -> bool:
    """Whether a model is loaded by a hub name."""
    name = model.path
    local = name.startswith((".", "/", "~")) or name.endswith(".gguf") or Path(name).is_dir()
    return name.count("/") == 1 and not local


def _key(model: ModelConfig) -> str:
    return f"{model.path}@{model.revision or 'main'}"


def _arm_at_commit(arm: ArmConfig, model: ModelConfig, commits: Mapping[str, str]) -> ArmConfig:
    checkpoint = arm.checkpoint if isinstance(arm.checkpoint, dict) else {}
    return arm.model_copy(update={"checkpoint": {**checkpoint, "revision": commits[_key(model)]}})


def _at_commit(model: ModelConfig, commits: Mapping[str, str]) -> ModelConfig:
    return model.model_copy(update={"revision": commits.get(_key(model), model.revision)})
