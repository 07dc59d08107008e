"""Step 6, evaluation: the items of each task, the answers of each run, the judge's replies, and the grades.

Reads the tasks' data and the runs' weights. Writes items/TASK.jsonl, and in arms/RUN/evaluate/TASK/ answers.jsonl,
judged.jsonl (of tasks with a judge), grades.jsonl and score.json. Each file is completed where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

from ..backends import open_backend
from ..backends.cache import EngineCache
from ..errors import ExperimentError, RecipeError
from ..generation.resume import LazyBackend, forget_transient
from ..harness import evaluate as evaluate_benchmark
from ..harness import open_lm
from ..measure.judge import graded, judge
from ..measure.scores import answer, grade, summarise
from ..measure.trace_measures import with_traces
from ..store.experiment import Experiment
from ..store.rows import RowFile, read_lines, write_json, write_lines
from ..store.stage import Stage
from ..types import LOADING, Example, Message, Progress, Report, content_id, messages_json
from .asking import answering_settings, asked_of, looks_setting, parts, sampling_of, trace_limit
from .checkpoint import describe_checkpoints
from .context import Context, Run
from .difficulty import choose_steps, is_open, step_stage
from .entries import EvaluatedTask
from .reasoning import thinks
from .task_items import all_items, items_stage, read_items, write_items
from .train import train_stage

_STUB = Example.of((Message("user", "A request?"),), "A reference.")

# ---- declared


def answer_stage(context: Context, run: Run, task: EvaluatedTask) -> Stage:
    """The answers of a run; for a task that lm-eval asks, its score too."""
    folder, name = f"arms/{run.name}/evaluate/{task.name}", f"answer/{run.name}/{task.name}"
    settings = answering_settings(context, run) | task.entry.deciding("answer")
    trained = train_stage(context, run)
    inputs = (items_stage(context, task), *([trained] if trained else []))
    if task.sampling is None:
        settings |= {"max_thinking_tokens": limit} if (limit := trace_limit(context, run)) is not None else {}
        other = (f"{folder}/answers.jsonl", f"{folder}/grades.jsonl")
        return Stage(name, f"{folder}/score.json", settings, inputs, other_outputs=other)
    output = f"{folder}/answers.jsonl"
    settings["sampling"] = sampling_of(run, task).model_dump()
    return Stage(name, output, settings, inputs, row_files=(output,))


def judge_stage(context: Context, run: Run, task: EvaluatedTask) -> Stage | None:
    """The stage that asks the judge; None for a task without a judge, and for the seed against itself."""
    judging = task.task.judge
    if judging is None or (judging.against == "seed" and run.is_seed):
        return None
    runs = [run, context.runs[context.seed_arm]] if judging.against == "seed" else [run]
    inputs = tuple(answer_stage(context, each, context.tasks[task.answers_of]) for each in runs)
    # Questions are filed by content: after a change of judge or prompt they are asked again, and no reply is lost.
    stub = content_id(*(messages_json(question) for question in judging.ask(_STUB, "An answer.", "Another.")))
    settings = {"task": task.entry.task, "judge": _judge_settings(context), "questions": stub}
    settings |= looks_setting(context)
    output = f"arms/{run.name}/evaluate/{task.name}/judged.jsonl"
    name = f"judge/{run.name}/{task.name}"
    return Stage(name, output, settings, inputs, on_change="rerun", row_files=(output,))


def _judge_settings(context: Context) -> dict[str, Any]:
    """The settings that a judgement depends on. Raises RecipeError if the recipe names no judge."""
    judge = context.recipe.judge
    if judge is None:
        judged = ", ".join(task.name for task in context.tasks.values() if task.task.judge)
        raise RecipeError(
            f"A judge is needed for {judged}; name one in `judge.model`, or take these out of evaluate.tasks."
        )
    return {**judge.deciding("judge"), "model": context.model_settings(judge.model, "judge", judge.backend)}


def grade_stage(context: Context, run: Run, task: EvaluatedTask) -> Stage | None:
    """The stage that writes score.json; None for the seed if it would be compared with itself."""
    if task.task.harness:
        return answer_stage(context, run, task)
    judged = judge_stage(context, run, task)
    source = judged if task.task.judge else answer_stage(context, run, context.tasks[task.answers_of])
    if source is None:
        return None
    settings: dict[str, Any] = {"grader": {"task": task.entry.task}, **task.entry.deciding("grade")}
    if task.is_target:
        settings["grader"] = context.grader_settings()
    if "sandbox" in task.task.needs:
        settings["sandbox"] = context.recipe.sandbox
    settings |= looks_setting(context)
    folder = f"arms/{run.name}/evaluate/{task.name}"
    name, other = f"grade/{run.name}/{task.name}", (f"{folder}/grades.jsonl",)
    return Stage(name, f"{folder}/score.json", settings, (source,), on_change="rerun", other_outputs=other)


def evaluate_stages(context: Context) -> list[Stage]:
    """Levels of probes, items, answers and judgements. Grades are left out: they never stop a run, and are made from
    files alone."""
    runs, tasks = context.runs.values(), context.tasks.values()
    asked = [task for task in tasks if task.asked]
    steps = [stage for task in asked if (stage := step_stage(context, task))]
    items = [items_stage(context, task) for task in asked]
    answered = [answer_stage(context, run, task) for run in runs for task in asked]
    judged = [stage for run in runs for task in tasks if (stage := judge_stage(context, run, task))]
    return [*steps, *items, *answered, *judged]


# ---- run


def prepare_items(experiment: Experiment, context: Context) -> None:
    """The items of every task, drawn once and shared by the runs, but for those of probes whose level is still to be
    chosen; needs no model. Raises RecipeError if lm-eval can't
    ask a task as the recipe says, before anything is trained."""
    for task in context.tasks.values():
        if task.asked and not is_open(experiment, context, task):
            write_items(experiment, context, task)
        answers = [answer_stage(context, run, task) for run in context.runs.values()] if task.task.harness else []
        if not all(map(experiment.finished, answers)):
            _ = task.benchmark


def evaluate_runs(
    experiment: Experiment,
    context: Context,
    runs: Sequence[Run],
    progress: Progress,
    kept: EngineCache | None = None,
) -> None:
    """Answers, judges and grades with `runs`, or with all trained runs if none are named. Engines in `kept` stay up.
    Raises ExperimentError if a named run isn't trained."""
    prepare_items(experiment, context)
    trained = trained_runs(experiment, context, runs)
    describe_checkpoints(experiment, context)
    models = {run.name: context.weights_of(run, experiment.directory) for run in trained}
    asked = [task for task in context.tasks.values() if task.asked]
    engine = context.recipe.evaluate.backend
    with nullcontext(kept) if kept else engines_of(experiment, context, trained) as cache:
        choose_steps(experiment, context, partial(open_backend, engine, context.recipe.model, cache=cache), progress)
        prepare_items(experiment, context)  # of the probes whose level is known now
        for name, (model, adapter) in models.items():
            run = context.runs[name]
            opener = partial(open_backend, context.backend_of(run), model, adapter, cache=cache)
            with LazyBackend(opener) as backend:  # one load serves all tasks of a run
                for task in asked:
                    _answer(experiment, context, run, task, backend, progress)
                    if not task.task.judge:  # scores appear as tasks finish
                        _grade(experiment, context, run, task)
    _judge(experiment, context, [context.runs[name] for name in models], progress)
    for name in models:
        for task in context.tasks.values():
            _grade(experiment, context, context.runs[name], task)


def engines_of(experiment: Experiment, context: Context, runs: Iterable[Run]) -> EngineCache:
    """A cache for the engines of the seed and of `runs`, with room for all their adapters."""
    models = [context.weights_of(run, experiment.directory) for run in runs]
    return EngineCache([*models, (context.recipe.model, None)])


def trained_runs(experiment: Experiment, context: Context, named: Sequence[Run]) -> list[Run]:
    """`named` runs, or all trained runs if none are named. Raises ExperimentError if a named run isn't trained."""
    for run in named or context.runs.values():
        if training := train_stage(context, run):
            experiment.check_files(training)
    trained = [
        run
        for run in context.runs.values()
        if (stage := train_stage(context, run)) is None or experiment.finished(stage)
    ]
    if untrained := [run.name for run in named if run not in trained]:
        raise ExperimentError(f"Not trained yet: {', '.join(untrained)}; run `selfdistill train` first.")
    return list(named) or trained


def grade_again(experiment: Experiment, context: Context) -> None:
    """Grades all answers on file again with the current graders, without asking a model."""
    for run in context.runs.values():
        for task in context.tasks.values():
            judged = judge_stage(context, run, task)
            # Replies to other questions than today's stay as they are: only `evaluate` asks.
            if judged is None or experiment.same_settings(judged):
                _grade(experiment, context, run, task, force=True)


def _answer(
    experiment: Experiment, context: Context, run: Run, task: EvaluatedTask, backend: LazyBackend, progress: Progress
) -> None:
    """Asks for the answers that aren't on file, and again for those that failed because of the engine."""
    stage, report = answer_stage(context, run, task), partial(progress, f"evaluate {run.name} {task.name}")
    if _is_answered(experiment, context, stage, task):
        return
    with experiment.run_stage(stage) as record:
        path = experiment.path(stage.output)
        if task.sampling is None:
            model, _ = context.weights_of(run, experiment.directory)
            if not backend.is_open:
                report(0, 0, LOADING)
            lm = open_lm(context.backend_of(run), model, backend.get, trace_limit(context, run))
            record.counts = evaluate_benchmark(task.benchmark, lm, path.parent, report).to_json()
            write_json(path, record.counts)
        else:
            forget_transient(path)
            asked, transient, sampling = read_items(experiment, context, task), 0, sampling_of(run, task)
            told = partial(_reported, report, len({item.id for item in asked}) * task.entry.samples)
            for some in parts(all_items(experiment, context, task), context.looks):
                with RowFile(path) as rows:
                    transient += answer(task.task, some, backend, sampling, rows, told, task.entry.samples)
            record.counts = {"items": len(asked), "transient": transient, **backend.counts}


def _is_answered(experiment: Experiment, context: Context, stage: Stage, task: EvaluatedTask) -> bool:
    """Whether the stage has answers to all items that are asked: a gate asks for more of them at each look."""
    if not experiment.finished(stage) or experiment.to_retry(stage):
        return False
    if task.sampling is None:
        return True
    items: int = experiment.counts(items_stage(context, task).name).get("items", 0)
    asked: int = experiment.counts(stage.name).get("items", items)
    return asked >= asked_of(items, context.looks)


def _reported(report: Report, total: int, done: int, _of: int, note: str = "") -> None:
    report(done, total, note)


def _judge(experiment: Experiment, context: Context, runs: Sequence[Run], progress: Progress) -> None:
    """Asks the judge for the replies that aren't on file, after the runs' own models are out of memory."""
    tasks = context.tasks.values()
    asked = [(run, task, stage) for run in runs for task in tasks if (stage := judge_stage(context, run, task))]
    config = context.recipe.judge
    if not asked or config is None:
        return
    identity = content_id(_judge_settings(context))
    with LazyBackend(partial(open_backend, config.backend, config.model)) as backend:
        for run, task, stage in asked:
            if experiment.finished(stage) and not experiment.to_retry(stage):
                continue
            if not all(experiment.finished(source) for source in stage.inputs):
                continue
            with experiment.run_stage(stage) as record, ExitStack() as stack:
                answers, others = _answer_files(experiment, context, run, task, stack)
                forget_transient(experiment.path(stage.output))
                rows = stack.enter_context(RowFile(experiment.path(stage.output)))
                items = read_items(experiment, context, task)
                report = partial(progress, f"judge {run.name} {task.name}")
                sampling = config.sampling
                transient = judge(task.task, items, answers, others, backend, sampling, rows, identity, report)
                record.counts = {"items": len(items), "transient": transient, **backend.counts}


def _answer_files(
    experiment: Experiment, context: Context, run: Run, task: EvaluatedTask, stack: ExitStack
) -> tuple[RowFile, RowFile | None]:
    """The answers of a run, and the seed's if it is judged against them."""
    judging, base = task.task.judge, context.tasks[task.answers_of]
    runs = [run, context.runs[context.seed_arm]] if judging and judging.against == "seed" else [run]
    paths = [experiment.path(answer_stage(context, each, base).output) for each in runs]
    opened = [stack.enter_context(RowFile(path, reading=True)) for path in paths]
    return opened[0], opened[1] if len(opened) > 1 else None


def _grade(experiment: Experiment, context: Context, run: Run, task: EvaluatedTask, force: bool = False) -> None:
    """Grades the answers of a run if all of them are on file. With `force`, finished grades are computed again."""
    stage = grade_stage(context, run, task)
    if stage is None or task.task.harness or not all(experiment.finished(source) for source in stage.inputs):
        return
    if experiment.finished(stage) and not force:
        return
    folder = experiment.path(stage.output).parent
    with experiment.run_stage(stage) as record, ExitStack() as stack:
        items = read_items(experiment, context, task)
        answers, others = _answer_files(experiment, context, run, task, stack)
        if task.task.judge:
            replies = stack.enter_context(RowFile(folder / "judged.jsonl", reading=True))
            rows = graded(task.task, items, answers, others, replies, content_id(_judge_settings(context)))
        else:
            rows = grade(task.task, items, answers, task.entry.samples, task.entry.k)
        if thinks(context, run.config):
            rows = with_traces(rows, items, answers, task.entry.samples)
        write_lines(folder / "grades.jsonl", rows)
        record.counts = summarise(task.task, [read_lines(folder / "grades.jsonl")]).to_json()
        write_json(folder / "score.json", record.counts)
