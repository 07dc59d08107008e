"""The evaluation of an experiment's runs: items, answers, judgements, scores, each resumed where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import compress
from pathlib import Path

from ..backends import open_backend
from ..backends.cache import EngineCache
from ..data import BadRow, draw, iter_conversations, prompt_key
from ..errors import ExperimentError, StageError
from ..generation.resume import LazyBackend, forget_transient
from ..harness import evaluate as evaluate_benchmark
from ..harness import open_lm
from ..measure.judge import graded, judge
from ..measure.scores import answer, grade, summarise
from ..recipe import TaskEntry
from ..store.experiment import Experiment
from ..store.rows import RowFile, read_lines, write_json, write_lines
from ..types import Example, Progress
from .plan import Plan
from .plan.evaluation import HELDOUT


def evaluate_runs(experiment: Experiment, plan: Plan, progress: Progress, named: Sequence[str] = ()) -> None:
    """Answers, judges and grades with the runs that are trained: all, or those named, which must be."""
    evaluation = plan.evaluation
    asked = evaluation.asked
    prepare_items(experiment, plan)
    for run in named or plan.runs:
        if training := plan.train_stage(run):
            experiment.check_files(training)
    trained = [run for run in plan.runs if (stage := plan.train_stage(run)) is None or experiment.finished(stage)]
    if untrained := [run for run in named if run not in trained]:
        raise ExperimentError(f"Not trained yet: {', '.join(untrained)}; run `selfdistill train` first.")
    runs = list(named) or trained
    models = {run: plan.run_model(run, experiment.directory) for run in runs}
    with EngineCache(models.values()) as cache:
        for run, (model, adapter) in models.items():
            # One model load serves all tasks of a run.
            with LazyBackend(partial(open_backend, plan.recipe.evaluate.backend, model, adapter, cache)) as backend:
                for entry in asked:
                    _answer(experiment, plan, run, entry, backend, progress)
                    if not evaluation.task(entry).judge:  # scores come in as tasks are done
                        _grade(experiment, plan, run, entry)
    judged = [(run, entry) for run in runs for entry in evaluation.entries if evaluation.judge_stage(run, entry)]
    if judged:
        _judge(experiment, plan, judged, progress)
    for run in runs:
        for entry in evaluation.entries:
            _grade(experiment, plan, run, entry)


def grade_again(experiment: Experiment, plan: Plan) -> None:
    """Scores what is answered, and where a judge is needed judged, with the graders as they are now."""
    for run in plan.runs:
        for entry in plan.evaluation.entries:
            judged = plan.evaluation.judge_stage(run, entry)
            # Replies to other questions than today's stay what they are: only `evaluate` asks.
            if judged is None or experiment.same_settings(judged):
                _grade(experiment, plan, run, entry, anew=True)


def runs_named(plan: Plan, names: Sequence[str]) -> list[str]:
    """The runs of the arms, or the single runs, that a user names. Raises ExperimentError for others."""
    seed = plan.recipe.train.seed  # its runs have the names of their arms, and can be named by the seed too
    named = {f"{run}@{seed}": [run] for run in plan.runs if "@" not in run} | {run: [run] for run in plan.runs}
    named |= {arm: plan.runs_of(arm) for arm in plan.recipe.arms}
    if unknown := [name for name in names if name not in named]:
        raise ExperimentError(f"There is no arm {', '.join(unknown)}; the recipe has {', '.join(plan.recipe.arms)}.")
    return [run for name in names for run in named[name]]


def prepare_items(experiment: Experiment, plan: Plan) -> None:
    """The items of every task, drawn once and shared by the runs; needs no model."""
    for entry in plan.evaluation.asked:
        _items(experiment, plan, entry)


def _items(experiment: Experiment, plan: Plan, entry: TaskEntry) -> None:
    evaluation = plan.evaluation
    stage, task = evaluation.items_stage(entry), evaluation.task(entry)
    if experiment.finished(stage):
        return
    with experiment.run_stage(stage) as record:
        bad: list[BadRow] = []
        leaked: dict[str, int] = {}
        if task.harness:
            items = list(evaluation.benchmark(entry).items())
        else:
            source = evaluation.items_source(entry)
            held = experiment.path("data", "heldout.jsonl")
            conversations = iter_conversations(held) if source is None else task.load(source, bad.append)
            loaded = [conversation.examples()[-1] for conversation in conversations]
            if source is not None:
                loaded, leaked = _without_trained(experiment, loaded, drop=entry.task == HELDOUT)
            items = list(compress(loaded, draw(len(loaded), entry.n, entry.seed)))
        if not items:
            why = "all of them ask what is trained on" if leaked else "check its path and split"
            raise StageError(f"The task '{entry.name}' has no items; {why}.")
        write_lines(experiment.path(stage.output), (item.to_json() for item in items))
        first = {"first_bad": f"{bad[0].where}: {bad[0].reason}"} if bad else {}
        record.counts = {"items": len(items), "bad": len(bad), **first, **leaked}


def _without_trained(experiment: Experiment, items: list[Example], drop: bool) -> tuple[list[Example], dict[str, int]]:
    """The items, with `drop` without those that ask what is trained on, and how many do."""
    asked = {prompt_key(item.prompt) for item in items}
    path = experiment.path("data", "train.jsonl")
    rows = iter_conversations(path) if path.is_file() else iter(())
    trained = {key for row in rows for example in row.examples() if (key := prompt_key(example.prompt)) in asked}
    kept = [item for item in items if prompt_key(item.prompt) not in trained] if trained else items
    if len(kept) == len(items):
        return items, {}
    return (kept if drop else items), {"trained_on": len(items) - len(kept), "left_out": int(drop)}


def _read_items(experiment: Experiment, plan: Plan, entry: TaskEntry) -> list[Example]:
    path = experiment.path(plan.evaluation.items_stage(plan.evaluation.base(entry)).output)
    return [Example.from_json(row) for row in read_lines(path)]


def _answer(
    experiment: Experiment, plan: Plan, run: str, entry: TaskEntry, backend: LazyBackend, progress: Progress
) -> None:
    """Asks what isn't on file yet, and what failed for the engine's sake."""
    stage, task = plan.evaluation.answer_stage(run, entry), plan.evaluation.task(entry)
    if experiment.finished(stage) and not experiment.to_retry(stage):
        return
    told = partial(progress, f"evaluate {run} {entry.name}")
    with experiment.run_stage(stage) as record:
        if task.harness:
            path = experiment.path(stage.output)
            model, _ = plan.run_model(run, experiment.directory)
            lm = open_lm(plan.recipe.evaluate.backend, model, backend.get)
            record.counts = evaluate_benchmark(plan.evaluation.benchmark(entry), lm, path.parent, told).to_json()
            write_json(path, record.counts)
        else:
            items, sampling = _read_items(experiment, plan, entry), plan.evaluation.sampling(entry)
            forget_transient(experiment.path(stage.output))
            with RowFile(experiment.path(stage.output)) as rows:
                transient = answer(task, items, backend, sampling, rows, told, entry.samples)
            record.counts = {"items": len(items), "transient": transient, **backend.counts}


def _judge(experiment: Experiment, plan: Plan, pairs: list[tuple[str, TaskEntry]], progress: Progress) -> None:
    """Asks the judge for what it hasn't said yet, after the runs' own models are out of memory."""
    config, evaluation = plan.recipe.judge, plan.evaluation
    identity = evaluation.judge_identity
    assert config is not None
    with LazyBackend(partial(open_backend, config.backend, config.model)) as backend:
        for run, entry in pairs:
            stage = evaluation.judge_stage(run, entry)
            assert stage is not None
            if experiment.finished(stage) and not experiment.to_retry(stage):
                continue
            if not all(experiment.finished(source) for source in stage.inputs):
                continue
            with experiment.run_stage(stage) as record, ExitStack() as stack:
                answers, others = _answers(experiment, plan, run, entry, stack)
                forget_transient(experiment.path(stage.output))
                rows = stack.enter_context(RowFile(experiment.path(stage.output)))
                items, told = _read_items(experiment, plan, entry), partial(progress, f"judge {run} {entry.name}")
                task = evaluation.task(entry)
                transient = judge(task, items, answers, others, backend, config.sampling, rows, identity, told)
                record.counts = {"items": len(items), "transient": transient, **backend.counts}


def _answers(
    experiment: Experiment, plan: Plan, run: str, entry: TaskEntry, stack: ExitStack
) -> tuple[RowFile, RowFile | None]:
    """The answers of a run, and those of the seed where it is judged against them."""
    evaluation, base = plan.evaluation, plan.evaluation.base(entry)
    judging = evaluation.task(entry).judge
    runs = [run, plan.seed_arm] if judging and judging.against == "seed" else [run]
    paths: list[Path] = [experiment.path(evaluation.answer_stage(name, base).output) for name in runs]
    opened = [stack.enter_context(RowFile(path, reading=True)) for path in paths]
    return opened[0], opened[1] if len(opened) > 1 else None


def _grade(experiment: Experiment, plan: Plan, run: str, entry: TaskEntry, anew: bool = False) -> None:
    evaluation, task = plan.evaluation, plan.evaluation.task(entry)
    stage = evaluation.score_stage(run, entry)
    if stage is None or task.harness or not all(experiment.finished(source) for source in stage.inputs):
        return
    if experiment.finished(stage) and not anew:
        return
    folder = experiment.path(stage.output).parent
    with experiment.run_stage(stage) as record, ExitStack() as stack:
        items = _read_items(experiment, plan, entry)
        answers, others = _answers(experiment, plan, run, entry, stack)
        if task.judge:
            said = stack.enter_context(RowFile(folder / "judged.jsonl", reading=True))
            rows = graded(task, items, answers, others, said, evaluation.judge_identity)
        else:
            rows = grade(task, items, answers, entry.samples, entry.k)
        write_lines(folder / "grades.jsonl", rows)
        record.counts = summarise(task, [read_lines(folder / "grades.jsonl")]).to_json()
        write_json(folder / "score.json", record.counts)


__all__ = ["evaluate_runs", "grade_again", "prepare_items", "runs_named"]
