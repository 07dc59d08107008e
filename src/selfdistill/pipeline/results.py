"""The numbers of the verdict: the tasks each arm gained, kept or forgot against the seed. `reports` writes the text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ..backends import answering_class
from ..measure.comparisons import Comparison, compare
from ..measure.degeneration import degeneration, of_degenerate
from ..measure.means import compare_means
from ..measure.planning import ASSUMED_SPREAD, MOST_RUNS, runs_needed, smallest_drop
from ..measure.scores import GradeRow
from ..measure.stats import RunSpread, run_spread, shared_items, table_of
from ..measure.trace_measures import trace_results
from ..store.experiment import Experiment
from .checkpoint import checkpoints
from .context import Context
from .forgotten import items_changed
from .gap import gap_stage
from .gate import CANDIDATE, changes_json, compared, gate_result, read_design
from .heldout_loss import has_likelihoods, loss_results, loss_tasks
from .reasoning import blocks_of, decided, differs_in_blocks, reasoning_use
from .rewrite import needs_rewrites
from .shift import shift_stage
from .task_items import items_stage
from .task_results import TaskResults, compared_arms, with_originals

# The counts of a training that the verdict repeats. Speed and memory differ from run to run, so they are left out.
_TRAINING_COUNTS = ("steps", "sequences", "cut", "dropped", "masked_rows", "replay")


def results(experiment: Experiment, context: Context) -> dict[str, Any]:
    """Scores, paired comparisons and counts of all tasks evaluated so far: verdict.json without its texts."""
    recipe, arms = context.recipe, context.recipe.arms
    design = read_design(experiment)
    tested = CANDIDATE if design else None
    every = [TaskResults.read(experiment, context, task, tested) for task in context.tasks.values()]
    measured = [task for task in every if task.rows]
    answered = any(stage.startswith("answer/") for stage in experiment.manifest["stages"])
    spreads = {arm: _spread(measured, arm) for arm in arms}
    margin = recipe.evaluate.margin / 100
    pairs = [(task.role, pair) for task in measured for pair in task.pairs(context)]
    comparisons = compared(pairs, margin, design)
    generated = [task for task in measured if task.generated]
    broken = compare([pair for task in generated for pair in task.ending_pairs(context)], margin)
    gate = gate_result(experiment, context, pairs, comparisons, design) if design else None
    tasks = [task.to_json(experiment, context, spreads) for task in measured]
    return {
        "model": recipe.model.path,
        "task": recipe.task,
        "arms": list(arms),
        "seed_arm": context.seed_arm,
        "swept": [arm for arm in arms if arm in context.swept],
        "seeds": recipe.seeds,
        "margin": margin,
        "baseline_arms": _baseline_arms(experiment, context),
        "tasks": tasks,
        "comparisons": changes_json(comparisons, gate, {task["task"] for task in tasks if task.get("uninformative")}),
        "mean_changes": [] if gate else _mean_changes(context, measured, margin),
        "gate": gate,
        "checkpoints": checkpoints(experiment, context),
        "items_changed": items_changed(experiment, context, _rows_of(measured), comparisons),
        "degeneration": {
            "tasks": degeneration(_rows_of(generated)),
            "comparisons": [of_degenerate(row).to_json() for row in broken],
        },
        "thinking": _thinking(experiment, context, generated, margin),
        "heldout_loss": loss_results(experiment, context, compared_arms(context, arms)),
        "runs_needed": needed_runs(comparisons, context.seed_arm, margin),
        "not_evaluated": {
            task.task.name: missing for task in every if answered and (missing := task.missing_arms(context))
        },
        "acceptance": experiment.counts("verify") or None,
        "sweeps": [point.to_json() for point in context.points],
        "gap": experiment.counts("gap") or None,
        "shift": _shift(experiment, context),
        "data": {**experiment.counts("data"), **reasoning_use(context)},
        "items": _items(experiment, context),
        "training": {run: counts for run in context.runs if "steps" in (counts := _training(experiment, run))},
        "trained_on": _trained_on(experiment, context),
        "by_hand": _by_hand(experiment, context),
        "settings_left_out": {
            stage: counts["settings_left_out"] for stage, counts in _counted(experiment, "settings_left_out")
        },
        "taken_from": {
            stage: [counts["taken_from"], counts["taken"]] for stage, counts in _counted(experiment, "taken_from")
        },
        "caveats": _caveats(experiment, context),
    }


def _mean_changes(context: Context, measured: Sequence[TaskResults], margin: float) -> list[dict[str, Any]]:
    """The mean over the other tasks of each arm's change against the seed and the arms on the originals."""
    pairs = [pair for task in measured if task.role == "other" for pair in task.pairs(context, with_originals)]
    return [row.to_json() for row in compare_means(pairs, margin)]


def _items(experiment: Experiment, context: Context) -> dict[str, dict[str, Any]]:
    """The counts of each task's items."""
    asked = [task for task in context.tasks.values() if task.asked]
    return {task.name: experiment.counts(items_stage(context, task).name) for task in asked}


def _counted(experiment: Experiment, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stages that counted something under a name, with their counts."""
    for stage, record in experiment.manifest["stages"].items():
        if (counts := record.get("counts", {})).get(name):
            yield stage, counts


def _rows_of(tasks: Sequence[TaskResults]) -> dict[str, dict[str, list[list[GradeRow]]]]:
    """The graded rows of each task, by arm, with a list per run."""
    return {each.task.name: each.rows for each in tasks}


def needed_runs(comparisons: Sequence[Comparison], seed_arm: str, margin: float) -> dict[str, Any] | None:
    """How many training runs find a `drop` in one task in 80 % of cases, if runs differ by `spread`; None if no arm was
    compared with the seed after a single run. `runs` is None if `most` runs are too few; they find no smaller drop than
    `shown`, which is None if they find none."""
    single = [row for row in comparisons if row.runs == 1 and row.against == seed_arm]
    if not single:
        return None
    runs, known = runs_needed(single, 2 * margin), {"most": MOST_RUNS, "drop": 2 * margin, "spread": ASSUMED_SPREAD}
    return {"runs": runs, **known, **({} if runs else {"shown": smallest_drop(single)})}


def _baseline_arms(experiment: Experiment, context: Context) -> dict[str, Any]:
    """The arm on the originals that each arm is compared with; `equal` if the two differ in their data alone, and
    `own_traces` if they would, but for the think traces that the arm is trained on."""

    def steps(arm: str) -> list[tuple[Any, ...] | None]:
        counts = [_training(experiment, run.towards or run.name) for run in context.runs_of(arm)]
        return [(found.get("steps"), found.get("sequences")) if found else None for found in counts]

    brought = experiment.counts("data").get("reasoning", 0)
    found = {}
    for arm, baseline in context.baselines.items():
        same = all(a == b for a, b in zip(steps(arm), steps(baseline.arm), strict=False) if a and b)
        differ = differs_in_blocks(context, arm, baseline.arm, brought)
        found[arm] = {"against": baseline.arm, "equal": baseline.equal and same and not differ}
        if baseline.equal and same and decided(context, context.recipe.arms[arm]) == "own":
            found[arm]["own_traces"] = True
    return found


def _thinking(
    experiment: Experiment, context: Context, generated: Sequence[TaskResults], margin: float
) -> dict[str, Any] | None:
    """How each arm trains think blocks, and the traces of its answers; None if the model does not think."""
    if not context.thinks:
        return None
    arms, sampling = context.recipe.arms, context.recipe.evaluate.sampling
    model, backend = context.recipe.model, context.recipe.evaluate.backend
    return {
        "arms": {name: blocks_of(experiment, context, name) for name, arm in arms.items() if arm.trained},
        "limits": {
            "thinking": sampling.max_thinking_tokens,
            "answer": sampling.max_new_tokens,
            "separate": answering_class(backend, model).limits_traces,
        },
        **trace_results(_rows_of(generated), compared_arms(context, arms), margin, context.given_arms),
    }


def _training(experiment: Experiment, run: str) -> dict[str, Any]:
    counts = experiment.counts(f"train/{run}")
    found = {key: counts[key] for key in _TRAINING_COUNTS if key in counts}
    budget = counts.get("budget") or {}  # the single checks are in train.json
    return found | ({"budget": {key: budget[key] for key in ("stopped", "action", "kept")}} if budget else {})


def _trained_on(experiment: Experiment, context: Context) -> dict[str, dict[str, int]]:
    """The sources of the training rows, for each arm that chooses among several answers or mixes in other data."""
    return {
        name: sources
        for name, arm in context.recipe.arms.items()
        if ("self" in arm.answers or arm.best_of or arm.replay or arm.template)
        and (sources := experiment.counts(f"train/{context.runs_of(name)[0].name}").get("sources"))
    }


def _by_hand(experiment: Experiment, context: Context) -> dict[str, int]:
    """How many rows were decided by hand, by the decision, in the arms that train on rewrites; empty if none."""
    counts = (experiment.counts(f"train/{run}").get("by_hand") for run in context.runs)
    return next(filter(None, counts), {})


def _shift(experiment: Experiment, context: Context) -> dict[str, Any]:
    """How far each measured run moved from the seed, without the values of single prompts."""
    every = {name: shift_stage(context, run) for name, run in context.runs.items()}
    stages = {name: stage for name, stage in every.items() if stage and experiment.finished(stage)}
    for stage in stages.values():
        experiment.check_files(stage)
    measured = {run: json.loads(experiment.path(stage.output).read_text("utf-8")) for run, stage in stages.items()}
    return {run: {key: row[key] for key in row if key != "distributions"} for run, row in measured.items()}


def _caveats(experiment: Experiment, context: Context) -> dict[str, Any]:
    """Facts that limit how the numbers may be read."""
    recipe, rows = context.recipe, experiment.counts("data").get("train")
    settings = [record["settings"] for record in experiment.manifest["stages"].values()]
    graders = [own["grader"] for own in settings if isinstance(own.get("grader"), dict)]
    shifts = {name: stage for name, run in context.runs.items() if (stage := shift_stage(context, run))}
    unmeasured = [name for name, stage in shifts.items() if not experiment.finished(stage)]
    return {
        "note": recipe.note,
        "weights": experiment.manifest.get("weights"),
        "few_rows": [name for name, arm in recipe.arms.items() if rows and arm.n and arm.n > rows],
        "fake": any(answering_class(backend, model).invents for model, backend in context.engines[:2]),
        "no_sandbox": any(own.get("sandbox") == "none" for own in [*settings, *graders]),
        "python_asserts": any("python_asserts" in str(grader.get("grader")) for grader in graders),
        "gap_unmeasured": bool(recipe.gap and gap_stage(context) is None and needs_rewrites(context)),
        "heldout_loss_unmeasured": bool(loss_tasks(context)) and not has_likelihoods(context),
        "shift_unmeasured": unmeasured if len(unmeasured) < len(shifts) else [],
    }


def _spread(measured: Sequence[TaskResults], arm: str) -> RunSpread | None:
    """The spread of the arm's true score between its runs, pooled over the tasks; None after a single run."""
    judged = [runs for task in measured if len(runs := task.judged.get(arm, [])) > 1]
    return run_spread([table_of(runs, shared_items(runs)) for runs in judged])
