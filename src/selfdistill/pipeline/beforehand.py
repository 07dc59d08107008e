"""Stops a run in its first seconds for everything about rows, sizes and disk that would stop it later, after work that
was paid for. `check` reports the same facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from ..errors import StageError
from ..models.loading import check_model_files, load_renderer
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..types import Example, Progress
from .context import Context, Run
from .data import TRAIN
from .disk import disk_problem, disk_use
from .lengths import RowLengths, measure_rows, unusable_rows
from .needs import missing_here, training_needs
from .replay import replayed_rows
from .task_items import items_stage
from .train import train_stage


def stop_without_needs(experiment: Experiment, context: Context) -> None:
    """Raises StageError if a package, an engine, a GPU or a server's key is missing, or a setting is not known."""
    if missing := missing_here(context, _left(experiment, context, context.runs.values())):
        raise StageError(" ".join(missing))


def stop_without_training_needs(experiment: Experiment, context: Context, runs: Iterable[Run]) -> None:
    """Raises StageError if `runs` can't be trained here: a package or a GPU is missing, or a setting is not known."""
    if missing := list(training_needs(context, _left(experiment, context, runs))):
        raise StageError(" ".join(dict.fromkeys(missing)))


def stop_if_unfit(experiment: Experiment, context: Context, runs: Iterable[Run], progress: Progress) -> None:
    """Raises StageError if `runs` can't train on the rows, if there are too few to replay, or if the disk is too small,
    and ModelError if the seed is not there or its chat template ignores the tools of a task. The rows must have been
    prepared; without items the answers are not counted for the disk."""
    runs = _left(experiment, context, runs)
    arms = list(dict.fromkeys(run.arm for run in runs if run.config.trained))
    if not arms:
        return
    check_model_files(context.recipe.model)
    train, counts = experiment.path(TRAIN), experiment.counts("data")
    lengths = measure_rows(context, train, partial(progress, "data, counting tokens"))
    _refuse_tools_of_items(experiment, context)
    problems = [sentence for allowed, sentence in unfit_rows(context, arms, lengths, train) if not allowed]
    items = {
        task.name: experiment.counts(items_stage(context, task).name).get("items", 0)
        for task in context.tasks.values()
        if task.asked
    }
    use = disk_use(context, runs, train.parent, counts, items, experiment.directory)
    if problem := disk_problem(use, experiment.directory):
        problems.append(problem)
    if problems:
        raise StageError(" ".join(problems))


def _refuse_tools_of_items(experiment: Experiment, context: Context) -> None:
    """Raises ModelError if the items of a task have tools that the chat template doesn't show."""
    renderer = load_renderer(context.recipe.model)
    for task in context.tasks.values():
        path = experiment.path(items_stage(context, task).output)
        for row in islice(read_lines(path), 1) if task.asked and path.is_file() else ():
            renderer.refuse_tools(Example.from_json(row).prompt)


def unfit_rows(context: Context, arms: Iterable[str], lengths: RowLengths, train: Path) -> Iterator[tuple[bool, str]]:
    """A sentence about the rows that can't be trained on, for each arm about the rows that it replays, and whether each
    fact allows a run. `lengths` are those of `train`, a train.jsonl with its heldout.jsonl next to it. Raises DataError
    or ModelError if rows or tokenizer can't be read."""
    arms = list(arms)
    yield from unusable_rows(context, arms, lengths, train, context.source, context.task.load)
    for name in arms:
        yield from replayed_rows(context, name, train.parent, lengths.conversations)


def _left(experiment: Experiment, context: Context, runs: Iterable[Run]) -> list[Run]:
    """The runs whose weights are not there yet."""
    stages = ((run, train_stage(context, run)) for run in runs)
    return [run for run, stage in stages if stage and not experiment.finished(stage)]
