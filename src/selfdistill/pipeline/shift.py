"""Step 7, the shift: how far each run moved from the seed, from the answers on file. Only the KL loads models.

Reads answers and grades. Writes shift/RUN.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from ..data import draw
from ..errors import ExperimentError, RecipeError
from ..grading.traces import answer_of
from ..measure.shift import AnswerPair, Compared, Sample, check_same_prompts, measure
from ..models.loading import free_memory
from ..store.experiment import Experiment
from ..store.identity import path_identity
from ..store.rows import read_lines, write_json
from ..store.stage import Stage
from ..types import Completion, Example, Grade, Progress, Prompt
from .checkpoint import unlike_seed
from .context import Context, Run
from .entries import EvaluatedTask
from .evaluate import answer_stage, grade_stage
from .task_items import items_stage

_PAPERS = "advbench"  # the task that the paper compares answers on

# ---- declared


def shift_source(context: Context) -> EvaluatedTask | None:
    """The task whose answers are compared: the recipe's `shift.task`, else AdvBench as in the paper, else the target;
    None if none of these is evaluated. Raises RecipeError if `shift.task` has no answers of its own."""
    named, answered = context.recipe.shift.task, _answered(context)
    if named is not None and named not in answered:
        raise RecipeError(
            f"shift.task: '{named}' is not a task with its own answers in evaluate.tasks; "
            + (f"choose one of {', '.join(answered)}." if answered else "name some there.")
        )
    name = named or (_PAPERS if _PAPERS in answered else None)
    return answered[name] if name else _target(context)


def _answered(context: Context) -> dict[str, EvaluatedTask]:
    """The tasks whose answers are saved as text."""
    return {name: task for name, task in context.tasks.items() if task.asked and not task.task.harness}


def _target(context: Context) -> EvaluatedTask | None:
    return next((task for task in _answered(context).values() if task.is_target), None)


def shift_stage(context: Context, run: Run) -> Stage | None:
    """The stage that measures a run's shift; None for the seed, if no answers can be compared, and if the seed's
    answers come from a baseline file."""
    source, target, config = shift_source(context), _target(context), context.recipe.shift
    if source is None or run.is_seed or context.seed_on_file:
        return None
    seed = context.runs[context.seed_arm]
    embedding = context.identity(path_identity, config.embedding)
    settings = {"task": source.name, "embedding": embedding, **config.deciding("shift")}
    inputs = [*_compared_stages(context, seed, source), *_compared_stages(context, run, source)]
    if target and target != source:
        inputs.append(answer_stage(context, seed, target))
    return Stage(f"shift/{run.name}", f"shift/{run.name}.json", settings, tuple(inputs), on_change="rerun")


def _compared_stages(context: Context, run: Run, task: EvaluatedTask) -> list[Stage]:
    """The stages of a run's answers and of their grades."""
    grades = None if task.task.judge else grade_stage(context, run, task)
    return [answer_stage(context, run, task), *([grades] if grades else [])]


def shift_stages(context: Context) -> list[Stage]:
    return [stage for run in context.runs.values() if (stage := shift_stage(context, run))]


# ---- run


def shift_runs(
    experiment: Experiment, context: Context, runs: Sequence[Run], progress: Progress, force: bool = False
) -> dict[str, str]:
    """Measures the shift of `runs` (all runs if none are named). Finished measurements are repeated only with `force`.
    Returns the runs that were left out, with the reason.

    Raises ExperimentError if a named run can't be measured, or if two runs answered different prompts.
    """
    left_out: dict[str, str] = {}
    for run in runs or context.runs.values():
        stage = shift_stage(context, run)
        if stage is None:
            continue
        unfinished = [source for source in stage.inputs if not experiment.finished(source)]
        if unfinished:
            for source in unfinished:
                experiment.check_files(source)
            left_out[run.name] = f"not evaluated yet ({', '.join(source.name for source in unfinished)})"
        elif force or not experiment.finished(stage):
            with experiment.run_stage(stage) as record:
                progress(f"shift {run.name}", 0, 0)
                measured = _measure(experiment, context, run)
                write_json(experiment.path(stage.output), measured)
                record.counts = {"prompts": measured["prompts"], "missing": measured["missing"]}
            free_memory()
    if runs and left_out:
        raise ExperimentError(
            "; ".join(f"{name}: {why}" for name, why in left_out.items()) + ". Run `selfdistill evaluate` first."
        )
    return left_out


def _measure(experiment: Experiment, context: Context, run: Run) -> dict[str, Any]:
    source, target, seed = shift_source(context), _target(context), context.runs[context.seed_arm]
    assert source is not None
    answers = [_answers(experiment, context, each, source) for each in (seed, run)]
    check_same_prompts(answers[0], answers[1], run.name, source.name)
    items = list(_items(experiment, context, source))
    texts = [{item_id: answer_of(reply) for item_id, reply in each.items()} for each in answers]
    answered = [item for item in items if all(each.get(item.id) is not None for each in texts)]
    grades = [_grades(experiment, context, each, source) for each in (seed, run)]
    tuned, adapter = context.weights_of(run, experiment.directory)
    recipe = context.recipe
    unlike = unlike_seed(context, run) if run.is_given else ""
    sampled = all(map(context.has_weights, (seed, run))) and not unlike
    compared = Compared(
        pairs=[
            AnswerPair(item.id, str(texts[0][item.id]), str(texts[1][item.id]), _both(grades[0], grades[1], item.id))
            for item in answered
        ],
        seed=recipe.model,
        tuned=tuned,
        adapter=adapter,
        embedding=recipe.shift.embedding,
        samples=_samples(experiment, context, source) if sampled else (),
        on_target=_samples(experiment, context, target) if sampled and target and target != source else (),
        unlike=unlike,
    )
    return {
        "run": run.name,
        "source": source.name,
        "prompts": len(answered),
        "unanswered": len(items) - len(answered),
        **measure(compared),
    }


def _items(experiment: Experiment, context: Context, task: EvaluatedTask) -> Iterator[Example]:
    """The items of a task, without duplicates."""
    rows = read_lines(experiment.path(items_stage(context, task).output))
    return iter({item.id: item for item in map(Example.from_json, rows)}.values())


def _answers(experiment: Experiment, context: Context, run: Run, task: EvaluatedTask) -> dict[str, Completion]:
    """A run's answers by id. If there are several samples, the first is under the item's id."""
    rows = read_lines(experiment.path(answer_stage(context, run, task).output))
    return {answer.id: answer for answer in map(Completion.from_json, rows)}


def _grades(experiment: Experiment, context: Context, run: Run, task: EvaluatedTask) -> dict[str, Grade] | None:
    """The grade of each answer; None if a judge grades the task, or if it has several samples per item."""
    if task.task.judge or task.entry.samples > 1:
        return None
    stage = grade_stage(context, run, task)
    assert stage is not None
    rows = read_lines(experiment.path(stage.output).with_name("grades.jsonl"))
    return {row["id"]: Grade.from_json(row["grade"]) for row in rows}


def _both(seed: dict[str, Grade] | None, tuned: dict[str, Grade] | None, item_id: str) -> tuple[Grade, Grade] | None:
    return None if seed is None or tuned is None else (seed[item_id], tuned[item_id])


def _samples(experiment: Experiment, context: Context, task: EvaluatedTask) -> list[Sample]:
    """The seed's answers to `shift.kl_prompts` items of a task."""
    answers = _answers(experiment, context, context.runs[context.seed_arm], task)
    items = [item for item in _items(experiment, context, task) if item.id in answers and not answers[item.id].error]
    wanted = context.recipe.shift.kl_prompts
    drawn = compress(items, draw(len(items), wanted, 0)) if wanted else []
    return [Sample(Prompt(item.id, task.task.ask(item)), answers[item.id]) for item in drawn]
