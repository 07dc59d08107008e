"""The shift of an experiment's runs against the seed, from the answers on file; only for the KL are models loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from ..data import draw
from ..errors import ExperimentError
from ..grading.traces import answer_of
from ..measure.shift import AnswerPair, Compared, Sample, check_same_prompts, measure
from ..models.loading import free_memory
from ..recipe import TaskEntry
from ..store.experiment import Experiment
from ..store.rows import read_lines, write_json
from ..types import Completion, Example, Grade, Progress, Prompt
from .plan import Plan


def shift_runs(
    experiment: Experiment, plan: Plan, progress: Progress, named: Sequence[str] = (), anew: bool = False
) -> dict[str, str]:
    """Measures what isn't measured yet, or all `anew`; gives the runs that were left out, with the reason.

    Raises ExperimentError where a run that is named can't be measured, and where answers are to different prompts.
    """
    left_out: dict[str, str] = {}
    for run in named or plan.runs:
        stage = plan.shift.stage(run)
        if stage is None:
            continue
        unfinished = [source for source in stage.inputs if not experiment.finished(source)]
        if unfinished:
            for source in unfinished:
                experiment.check_files(source)
            left_out[run] = f"not evaluated yet ({', '.join(source.name for source in unfinished)})"
        elif anew or not experiment.finished(stage):
            with experiment.run_stage(stage) as record:
                progress(f"shift {run}", 0, 0)
                measured = _measure(experiment, plan, run)
                write_json(experiment.path(stage.output), measured)
                record.counts = {"prompts": measured["prompts"], "missing": measured["missing"]}
            free_memory()
    if named and left_out:
        raise ExperimentError(
            "; ".join(f"{run}: {why}" for run, why in left_out.items()) + ". Run `selfdistill evaluate` first."
        )
    return left_out


def _measure(experiment: Experiment, plan: Plan, run: str) -> dict[str, Any]:
    source, target = plan.shift.source, plan.shift.target
    assert source is not None
    seed, tuned = (_answers(experiment, plan, name, source) for name in (plan.seed_arm, run))
    check_same_prompts(seed, tuned, run, source.name)
    items = list(_items(experiment, plan, source))
    texts = [{item_id: answer_of(reply) for item_id, reply in run.items()} for run in (seed, tuned)]
    answered = [item for item in items if all(run.get(item.id) is not None for run in texts)]
    grades = [_grades(experiment, plan, name, source) for name in (plan.seed_arm, run)]
    tuned_model, adapter = plan.run_model(run, experiment.directory)
    sampled = plan.shift.models_answer
    compared = Compared(
        pairs=[
            AnswerPair(item.id, str(texts[0][item.id]), str(texts[1][item.id]), _both(grades[0], grades[1], item.id))
            for item in answered
        ],
        seed=plan.recipe.model,
        tuned=tuned_model,
        adapter=adapter,
        embedding=plan.recipe.shift.embedding,
        samples=_samples(experiment, plan, source) if sampled else (),
        on_target=_samples(experiment, plan, target) if sampled and target and target != source else (),
    )
    return {
        "run": run,
        "source": source.name,
        "prompts": len(answered),
        "unanswered": len(items) - len(answered),
        **measure(compared),
    }


def _items(experiment: Experiment, plan: Plan, entry: TaskEntry) -> Iterator[Example]:
    """The different items of a task."""
    rows = read_lines(experiment.path(plan.evaluation.items_stage(entry).output))
    return iter({item.id: item for item in map(Example.from_json, rows)}.values())


def _answers(experiment: Experiment, plan: Plan, run: str, entry: TaskEntry) -> dict[str, Completion]:
    """A run's answers by id; of several samples an item's first is under its own id."""
    rows = read_lines(experiment.path(plan.evaluation.answer_stage(run, entry).output))
    return {answer.id: answer for answer in map(Completion.from_json, rows)}


def _grades(experiment: Experiment, plan: Plan, run: str, entry: TaskEntry) -> dict[str, Grade] | None:
    """What the task's grader said of each answer; None where it said something else, such as a judge of a pair."""
    if plan.evaluation.task(entry).judge or entry.samples > 1:
        return None
    stage = plan.evaluation.score_stage(run, entry)
    assert stage is not None
    rows = read_lines(experiment.path(stage.output).with_name("grades.jsonl"))
    return {row["id"]: Grade.from_json(row["grade"]) for row in rows}


def _both(seed: dict[str, Grade] | None, tuned: dict[str, Grade] | None, item_id: str) -> tuple[Grade, Grade] | None:
    return None if seed is None or tuned is None else (seed[item_id], tuned[item_id])


def _samples(experiment: Experiment, plan: Plan, entry: TaskEntry) -> list[Sample]:
    """The seed's answers to `shift.kl_prompts` of a task's items."""
    answers, task = _answers(experiment, plan, plan.seed_arm, entry), plan.evaluation.task(entry)
    items = [item for item in _items(experiment, plan, entry) if item.id in answers and not answers[item.id].error]
    wanted = plan.recipe.shift.kl_prompts
    drawn = compress(items, draw(len(items), wanted, 0)) if wanted else []
    return [Sample(Prompt(item.id, task.ask(item)), answers[item.id]) for item in drawn]
