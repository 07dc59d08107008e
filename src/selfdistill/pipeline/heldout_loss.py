"""The held-out loss: how likely each run finds the original references of the target's items.

Reads items/TASK.jsonl and the runs' weights. Writes, in arms/RUN/evaluate/TASK/, likelihoods.jsonl (a score per prompt,
reference and model) and loss.jsonl (a line per item).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..measure.gap import Distribution
from ..measure.likelihood import score_missing
from ..measure.row_losses import Losses, LossPair, compare_losses, mean_loss
from ..models.loading import pick_device, pick_dtype
from ..recipe import EvaluateConfig
from ..sandbox import lazy_runner
from ..store.experiment import Experiment
from ..store.identity import path_identity
from ..store.rows import RowFile, read_lines, write_lines
from ..store.stage import Stage
from ..types import Example, Progress, content_id, messages_json
from .context import Context, Run
from .data import HELDOUT_ROWS
from .entries import EvaluatedTask, evaluated_tasks, grades_right_answers
from .evaluate import trained_runs
from .task_items import items_stage, read_items, write_items
from .train import train_stage

# ---- declared


def loss_tasks(context: Context) -> list[EvaluatedTask]:
    """The tasks on whose references the loss is measured: the target as it is evaluated, else the held-out rows. Empty
    if the recipe doesn't want it. Raises RecipeError if the recipe asks for it and there are no such rows."""
    recipe, wanted = context.recipe, context.recipe.evaluate.heldout_loss
    if wanted is False or (wanted is None and grades_right_answers(recipe)):
        return []
    found = [task for task in context.tasks.values() if task.is_target and task.asked and not task.task.harness]
    if not found and context.source.heldout:
        alone = recipe.model_copy(update={"evaluate": EvaluateConfig()})
        found = [*evaluated_tasks(alone, context.task, context.source, lazy_runner(recipe.sandbox)).values()]
    if wanted and not found:
        raise RecipeError(
            "evaluate.heldout_loss has no rows: set data.heldout to a number of rows to set aside, name the target in "
            "evaluate.tasks, or turn it off."
        )
    return found


def has_likelihoods(context: Context) -> bool:
    """Whether the weights that answer are on this machine, for all runs, and whether the seed may be loaded."""
    return not context.seed_on_file and all(map(context.has_weights, context.runs.values()))


def loss_stage(context: Context, run: Run, task: EvaluatedTask) -> Stage:
    folder, trained = f"arms/{run.name}/evaluate/{task.name}", train_stage(context, run)
    scores = (f"{folder}/likelihoods.jsonl",)
    return Stage(
        f"loss/{run.name}/{task.name}",
        f"{folder}/loss.jsonl",
        loss_settings(context, run) | task.entry.deciding("loss"),
        (items_stage(context, task), *([trained] if trained else [])),
        on_change="rerun",
        other_outputs=scores,
        row_files=scores,
    )


def loss_settings(context: Context, run: Run) -> dict[str, Any]:
    """The settings of the weights that score for a run."""
    model, adapter = context.weights_of(run, Path()) if run.is_given else (context.model_of(run.config), None)
    adapted = {"adapter": context.identity(path_identity, adapter)} if adapter else {}
    return context.model_settings(model, "loss") | adapted


def loss_stages(context: Context) -> list[Stage]:
    tasks = loss_tasks(context)
    if not has_likelihoods(context):
        return []
    return [loss_stage(context, run, task) for run in context.runs.values() for task in tasks]


# ---- run


def measure_losses(experiment: Experiment, context: Context, named: Sequence[Run], progress: Progress) -> None:
    """Scores the references under `named` runs, or under all trained runs if none are named."""
    tasks = loss_tasks(context) if has_likelihoods(context) else []
    runs = trained_runs(experiment, context, named) if tasks else []
    for task in tasks:
        write_items(experiment, context, task)
    for run in runs:
        for task in tasks:
            _measure(experiment, context, run, task, progress)


def _measure(experiment: Experiment, context: Context, run: Run, task: EvaluatedTask, progress: Progress) -> None:
    """Scores are filed by content and by the run's weights, so an interrupted or changed stage scores only what is
    missing."""
    stage = loss_stage(context, run, task)
    if experiment.finished(stage):
        return
    model, adapter = context.weights_of(run, experiment.directory)
    dtype = str(pick_dtype(model.dtype, pick_device(model.device))).removeprefix("torch.")
    records = experiment.manifest["stages"]
    # Not the log of the training, which differs from one machine to another by its seconds.
    files = [file for each in stage.inputs[1:] for file in records[each.name]["files"].items() if "/model/" in file[0]]
    identity = content_id({**stage.settings, "dtype": dtype}, [each.fingerprint for each in stage.inputs[1:]], files)
    items = [*{item.id: item for item in read_items(experiment, context, task)}.values()]
    examples = [_asked(task, item, identity) for item in items]
    with experiment.run_stage(stage) as record:
        path, counts = experiment.path(*stage.row_files), Distribution()
        with RowFile(path) as rows:
            report = partial(progress, f"loss {run.name} {task.name}")
            score_missing(lambda: examples, model, rows, report, adapter=adapter)
        with RowFile(path, reading=True) as rows:
            found = [rows.get(example.id) or {"id": "", "nll": None, "tokens": 0} for example in examples]
        scored = [{**row, "id": item.id} for item, row in zip(items, found, strict=True)]
        for row in scored:
            counts.add(row["nll"], row["tokens"], row.get("error"))
        write_lines(experiment.path(stage.output), scored)
        record.counts = {**counts.to_json(), "dtype": dtype}


def _asked(task: EvaluatedTask, item: Example, identity: str) -> Example:
    """The item's reference after the prompt that the task asks."""
    prompt = task.task.ask(item)
    thought = [item.thought.text] if item.thought else []
    name = content_id(messages_json(prompt), item.reference, identity, *thought)
    return Example(name, prompt, item.reference, thought=item.thought)


# ---- results


def loss_results(
    experiment: Experiment, context: Context, compared: Sequence[tuple[str, str, bool]]
) -> list[dict[str, Any]]:
    """For each task the mean of each arm that is scored in all its runs, with the dtype of its scores, and the
    comparisons of the pairs in `compared` (arm, against, whether both are trained). `other_dtypes` are the pairs that
    are not compared, because they were not scored in the same dtype. `file` is as of `_unsplit`."""
    found = []
    for task in loss_tasks(context) if has_likelihoods(context) else []:
        runs: dict[str, list[Losses]] = {}
        dtypes: dict[str, set[str]] = {}
        for arm in context.recipe.arms:
            stages = [loss_stage(context, run, task) for run in context.runs_of(arm)]
            if all(map(experiment.finished, stages)):
                for stage in stages:
                    experiment.check_files(stage)
                lines = [read_lines(experiment.path(stage.output)) for stage in stages]
                runs[arm] = [{row["id"]: row for row in each} for each in lines]
                dtypes[arm] = {experiment.counts(stage.name)["dtype"] for stage in stages}
        there = [pair for pair in compared if {*pair[:2]} <= runs.keys()]
        alike = [pair for pair in there if len(dtypes[pair[0]] | dtypes[pair[1]]) == 1]
        pairs = [
            LossPair(arm, against, runs[arm], runs[against], trained, arm in context.given_arms)
            for arm, against, trained in alike
        ]
        if runs:
            arms = {arm: {**mean_loss(own), "dtype": ", ".join(sorted(dtypes[arm]))} for arm, own in runs.items()}
            others = [[arm, against] for arm, against, trained in there if (arm, against, trained) not in alike]
            comparisons = compare_losses(pairs)
            known = {"task": task.name, "file": _unsplit(context, task), "arms": arms, "comparisons": comparisons}
            found.append({**known, "other_dtypes": others})
    return found


def _unsplit(context: Context, task: EvaluatedTask) -> str | None:
    """The name of the file that a recipe without training names: which rows the models were trained on is unknown. None
    if an experiment held its rows out, and all models that are compared with the seed are that experiment's."""
    if not context.recipe.evaluates_only or task.source is None:
        return None
    path = Path(task.source.path).resolve()
    directory = path.parents[1] if len(path.parents) > 1 else path
    held_out = path == directory / HELDOUT_ROWS and (directory / "manifest.json").is_file()
    models = [context.recipe.arm_model(arm) for arm in context.recipe.arms.values() if arm.checkpoint]
    own = [not model.server and Path(model.path).resolve().is_relative_to(directory / "arms") for model in models]
    return None if held_out and all(own) else path.name
