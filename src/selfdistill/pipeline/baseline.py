"""Baseline files: the seed's graded answers to the items of a gate, in one JSON file that a team can commit.

`selfdistill gate --baseline FILE` takes the answers from it, so that the seed is not loaded. The answers are graded
again with the present graders, as the candidate's are.
"""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..demo import SEEDS
from ..errors import ExperimentError, RecipeError
from ..recipe import ModelConfig, Recipe, TaskEntry
from ..store.experiment import Experiment
from ..store.rows import read_lines, seal_line, write_json, write_lines
from ..tasks import get_task
from ..types import content_id
from .asking import answering_settings, sampling_of
from .checkpoint import form_of
from .context import Context
from .difficulty import choosing_score, source_of
from .entries import HELDOUT, EvaluatedTask
from .evaluate import answer_stage, grade_stage
from .gate import DESIGN, Design, read_design
from .task_items import items_stage

_FORMAT = "selfdistill baseline 1"
# Settings of the model that change the rounding of its answers alone, and those that are taken from the baseline or
# compared apart.
_NOT_ASKED = ("dtype", "batch_tokens", "backend", "ray", "model", "revision", "date", "server", "engine")


def baseline_of(experiment: Experiment, context: Context, design: Design) -> dict[str, Any]:
    """The content of a baseline file, of the seed's finished answers. Raises RecipeError if a task has no answers as
    text."""
    if asked := [name for name, task in context.tasks.items() if task.task.harness]:
        raise RecipeError(f"A baseline can't hold {', '.join(asked)}, which lm-eval asks; leave these tasks out.")
    model, seed = context.recipe.model, context.runs[context.seed_arm]
    content = {
        "format": _FORMAT,
        "selfdistill": __version__,
        "suite": {"name": design.suite, "version": design.version, "size": design.size},
        "target": design.target,
        "seed": {
            "path": _named(model),
            "revision": model.revision,
            "identity": answering_settings(context, seed)["model"],
        },
        "form": form_of(model),
        "date": str(model.date) if model.date else None,
        "asked": _asked(context),
        "tasks": {name: _task(experiment, context, task) for name, task in context.tasks.items() if task.asked},
    }
    return {**content, "digest": content_id(content)}


def _asked(context: Context) -> dict[str, Any]:
    settings = answering_settings(context, context.runs[context.seed_arm])
    asked = {key: value for key, value in settings.items() if key not in _NOT_ASKED}
    server, engine = settings.get("server") or {}, settings.get("engine") or {}
    return {**asked, "server.api": server.get("api"), "engine.quantization": engine.get("quantization")}


def _named(model: ModelConfig) -> str:
    """The path or hub name of a model; URL#NAME behind an endpoint."""
    return f"{model.server.url}#{model.path}" if model.server else model.path


def _task(experiment: Experiment, context: Context, task: EvaluatedTask) -> dict[str, Any]:
    buckets = _buckets(experiment, context, task)
    answers = read_lines(experiment.path(answer_stage(context, context.runs[context.seed_arm], task).output))
    rows = sorted(answers, key=lambda row: str(row["id"]))
    return {
        **_plan(experiment, context, task),
        "choosing": choosing_score(experiment, context, task),
        "answers": [{**row, "bucket": buckets.get(row["id"])} for row in rows],
    }


def _buckets(experiment: Experiment, context: Context, task: EvaluatedTask) -> dict[str, str]:
    """The bucket of each of the seed's graded answers to a task."""
    grading = grade_stage(context, context.runs[context.seed_arm], task)
    path = experiment.path(grading.output).with_name("grades.jsonl") if grading else None
    return {row["id"]: row["bucket"] for row in read_lines(path)} if path and path.is_file() else {}


def _plan(experiment: Experiment, context: Context, task: EvaluatedTask) -> dict[str, Any]:
    """What has to be equal for the answers to be comparable."""
    rows = read_lines(experiment.path(items_stage(context, task).output))
    seed = context.runs[context.seed_arm]
    return {
        "split": source_of(experiment, context, task).split if task.source else None,
        "asked": task.entry.deciding("answer"),
        "sampling": sampling_of(seed, task).model_dump(),
        "items": content_id(sorted(row["id"] for row in rows)),
    }


# ---- files


def write_baseline(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a baseline file, compressed if its name ends in .gz. Equal content makes equal bytes. Raises
    ExperimentError."""
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise ExperimentError(f"{path} can't be written ({error.strerror}); name another file.") from None


def read_baseline(path: Path) -> dict[str, Any]:
    """The content of a baseline file. Raises ExperimentError if it is missing, damaged or edited."""
    again = "make it again with `selfdistill baseline`"
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        content = json.loads(data.decode("utf-8", "surrogatepass"))
    except FileNotFoundError:
        raise ExperimentError(f"There is no baseline file {path}; {again}.") from None
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise ExperimentError(f"{path} is not a readable baseline file ({error}); {again}.") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ExperimentError(f"{path} is not a baseline file of this version of selfdistill; {again}.")
    if content.get("digest") != content_id({key: value for key, value in content.items() if key != "digest"}):
        raise ExperimentError(f"{path} was edited or damaged: its content does not match its digest; {again}.")
    return content


# ---- used by a gate


def check_plan(content: Mapping[str, Any], design: Design, path: Path) -> None:
    """Raises ExperimentError if a baseline is of another suite or has no answers to the target."""
    own, wanted = content["suite"], {"name": design.suite, "version": design.version, "size": design.size}
    if own != wanted:
        said = [f"{suite['name']}, version {suite['version']}, {suite['size']}" for suite in (own, wanted)]
        raise ExperimentError(
            f"{path} holds answers to the suite {said[0]}, and this gate asks {said[1]}; make the baseline again with "
            "`selfdistill baseline`."
        )
    if design.target and content["target"] != design.target:
        raise ExperimentError(
            f"{path} holds no answers to the target {design.target}; make the baseline again with `selfdistill "
            "baseline` and the same --target."
        )


def with_baseline(recipe: Recipe, content: Mapping[str, Any]) -> Recipe:
    """The recipe for a gate that takes the seed's answers from a baseline: with its date, the commit of a seed on the
    hub, and the levels of its probes, so that none is looked up or chosen. The held-out loss would need the seed."""
    date = datetime.date.fromisoformat(content["date"]) if content["date"] else recipe.model.date
    model = recipe.model.model_copy(
        update={"date": date, "revision": recipe.model.revision or content["seed"]["revision"]}
    )
    splits = {name: held["split"] for name, held in content["tasks"].items()}
    tasks = [
        entry.model_copy(update={"split": splits[entry.name]}) if _has_steps(entry) and entry.name in splits else entry
        for entry in recipe.evaluate.tasks
    ]
    evaluate = recipe.evaluate.model_copy(update={"heldout_loss": False, "tasks": tasks})
    return recipe.model_copy(update={"model": model, "evaluate": evaluate})


def _has_steps(entry: TaskEntry) -> bool:
    return entry.task != HELDOUT and bool(get_task(entry.task).steps)


def choosing_scores(content: Mapping[str, Any]) -> dict[str, float]:
    """The seed's score on the items that chose the level of each probe."""
    return {name: held["choosing"] for name, held in content["tasks"].items() if held.get("choosing") is not None}


def take_answers(experiment: Experiment, context: Context, content: Mapping[str, Any]) -> None:
    """Writes the baseline's answers where the seed's would be. Raises ExperimentError that names what differs: the
    seed, the template, the items or the sampling."""
    seed = context.runs[context.seed_arm]
    _check_seed(context.recipe.model, answering_settings(context, seed)["model"], content["seed"])
    _check_asked(_asked(context), content["asked"])
    for name, task in context.tasks.items():
        if not task.asked:
            continue
        held, plan = content["tasks"].get(name), _plan(experiment, context, task)
        if held is None:
            _refuse(f"it has no answers to {name}")
        for key, value in plan.items():
            if held[key] != value:
                _refuse(
                    f"{name} has other items" if key == "items" else f"{key} of {name} was {held[key]}, and is {value}"
                )
        rows = ({"id": row["id"], **{key: row[key] for key in row if key != "bucket"}} for row in held["answers"])
        write_lines(experiment.path(answer_stage(context, seed, task).output), rows, seal_line)


def _check_asked(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    for key in sorted({*now, *then}):
        if now.get(key) != then.get(key):
            _refuse(f"model.{key} was {then.get(key)}, and is {now.get(key)}")


def _check_seed(model: ModelConfig, identity: str, then: Mapping[str, Any]) -> None:
    """Compares the files of a seed that is here; else its name, and the revision if both name one."""
    named = _named(model)
    if not model.server and (model.path in SEEDS or Path(model.path).exists()):
        if _content_of(identity) != _content_of(then["identity"]):
            _refuse(f"its seed is {then['identity']}, and {named} is {identity}")
    elif named != then["path"]:
        _refuse(f"its seed is {then['path']}, and this one is {named}")
    elif model.revision and then["revision"] and model.revision != then["revision"]:
        _refuse(f"its seed is {named} at {then['revision']}, and this one is at {model.revision}")


def record_regraded(experiment: Experiment, context: Context, content: Mapping[str, Any]) -> None:
    """Adds to the gate's plan how many of the baseline's answers have another grade now than in the file."""
    design, regraded = read_design(experiment), 0
    for name, held in content["tasks"].items():
        now = _buckets(experiment, context, context.tasks[name]) if name in context.tasks else {}
        before = {row["id"]: row["bucket"] for row in held["answers"]}
        regraded += sum(before.get(key) not in (None, bucket) for key, bucket in now.items())
    if design:
        write_json(experiment.path(DESIGN), asdict(replace(design, regraded=regraded)))


def _content_of(identity: str) -> str:
    """The digest in a model's identity, whatever its folder is called; a hub model's name and commit."""
    return identity.rpartition(":")[2]


def _refuse(why: str) -> None:
    raise ExperimentError(
        f"The baseline does not fit this gate: {why}. Make it again with `selfdistill baseline`, or use the settings "
        "that it was made with."
    )
