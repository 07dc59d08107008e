"""The runs of an experiment's arms: the rows each trains on, its training, or the interpolation that stands for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from ..data import BadRow, asked_last, draw, iter_conversations, read_conversations
from ..errors import ExperimentError, RecipeError, StageError
from ..recipe import ReplayConfig
from ..store.experiment import Experiment, Stage
from ..store.rows import RowFile, read_lines, write_json, write_lines
from ..training.interpolate import interpolate
from ..training.sequences import trained_example, trained_row
from ..types import Conversation, Progress, Rewrite
from .evaluation import runs_named
from .plan import Plan


def train_runs(experiment: Experiment, plan: Plan, progress: Progress, arms: Sequence[str] = ()) -> None:
    """Trains the runs that aren't trained yet: all, or those of the arms named. Interpolated ones come last, with what
    they are made from."""
    named = runs_named(plan, arms) or list(plan.runs)
    for run in named:
        if plan.runs[run].data != "none":
            _train(experiment, plan, plan.interpolated_from(run) if plan.runs[run].of else run, progress)
    for run in named:
        stage = plan.train_stage(run)
        if stage and plan.runs[run].of and not experiment.finished(stage):
            _interpolate(experiment, plan, run, stage)


def _train(experiment: Experiment, plan: Plan, run: str, progress: Progress) -> None:
    from ..training import train
    from ..training.launch import launch

    stage = plan.train_stage(run)
    folder, settings = experiment.path("arms", run), plan.run_train(run)
    to_merge = settings.merge and settings.method != "full" and not (folder / "merged").is_dir()
    if stage is None or (experiment.finished(stage) and not to_merge):
        return
    sources: Counter[str] = Counter()
    replay: dict[str, int] = {}
    with experiment.run_stage(stage) as record:
        path = folder / "data.jsonl"
        write_lines(path, _counted(_run_rows(experiment, plan, run, replay), sources))
        examples = map(trained_example, read_lines(path))
        told = _without_loss(partial(progress, f"train {run}"))
        if settings.launch and not (folder / "train.json").is_file():
            launch(path, plan.recipe.model, settings, folder, told)
        result = train(examples, plan.recipe.model, settings, folder, told)
        record.counts = {**result.to_json(), "sources": dict(sources.most_common())}
        if replay:
            record.counts["replay"] = replay


def launch_commands(experiment: Experiment, plan: Plan, arms: Sequence[str] = ()) -> dict[str, list[str]]:
    """For a job scheduler: of each run that isn't trained yet the command that trains it, its data written. Raises
    RecipeError where a run has no `train.launch`."""
    from ..training.launch import launch_command

    commands = {}
    for run in runs_named(plan, arms) or list(plan.runs):
        stage = plan.train_stage(run)
        if stage is None or plan.runs[run].of or experiment.finished(stage):
            continue
        folder, settings = experiment.path("arms", run), plan.run_train(run)
        if (folder / "train.json").is_file():
            continue
        if settings.launch is None:
            raise RecipeError(
                f"The arm {run} has no train.launch; set train.launch.processes to how many there will be."
            )
        write_lines(folder / "data.jsonl", _run_rows(experiment, plan, run, {}))
        commands[run] = launch_command(folder / "data.jsonl", plan.recipe.model, settings, folder)
    return commands


def _without_loss(told: Callable[[int, int], None]) -> Callable[[int, int, float | None], None]:
    return lambda step, steps, _loss: told(step, steps)


def _counted(rows: Iterator[dict[str, Any]], sources: Counter[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        sources[row["source"]] += 1
        yield row


def _interpolate(experiment: Experiment, plan: Plan, run: str, stage: Stage) -> None:
    """The weights of a run between the seed's and those of another."""
    config, tuned = plan.runs[run], plan.interpolated_from(run)
    assert config.alpha is not None
    with experiment.run_stage(stage) as record:
        folder = experiment.path("arms", tuned, "model")
        counts = interpolate(plan.recipe.model, folder, config.alpha, experiment.path("arms", run, "model"))
        record.counts = {"of": tuned, "alpha": config.alpha, **counts}
        write_json(experiment.path(stage.output), record.counts)


def _run_rows(experiment: Experiment, plan: Plan, run: str, replay: dict[str, int]) -> Iterator[dict[str, Any]]:
    """One row for each response that a run trains on, the one that its arm's `data` chooses, after the original earlier
    turns; then the replayed rows. Fills `replay` with what was found there."""
    config = plan.runs[run]
    total = experiment.counts("data")["train"]
    choices = plan.responses.choices_stage(config)
    ratio = config.data if isinstance(config.data, float) else float(choices is not None)
    drawn = draw(total, config.n, plan.source.seed)
    derived = np.zeros(total, bool)
    rows = np.flatnonzero(drawn)
    derived[rows[draw(len(rows), round(ratio * len(rows)), plan.source.seed + 1)]] = True
    with RowFile(experiment.path(choices.output), reading=True) if choices else nullcontext() as chosen:
        for index, conversation in enumerate(iter_conversations(experiment.path("data", "train.jsonl"))):
            if drawn[index]:
                yield from _chosen(conversation, chosen if derived[index] else None)
    if config.replay:
        yield from _replayed(experiment, plan, config.replay, len(rows), replay)


def _chosen(conversation: Conversation, choices: RowFile | None) -> Iterator[dict[str, Any]]:
    """A row for each response of a conversation: the chosen one, or without `choices` the original."""
    for example in conversation.examples():
        if choices is None:
            yield trained_row(example, example.reference, "original")
            continue
        row = choices.get(example.id)
        if row is None:
            raise ExperimentError(f"{choices.path} lacks the row {example.id}; delete it and run again.")
        yield trained_row(example, Rewrite.from_json(row).response, row["source"])


def _replayed(
    experiment: Experiment, plan: Plan, replay: ReplayConfig, rows: int, found: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """Rows of other data, unchanged, drawn with the data's seed; none that asks what is held out. Fills `found` with
    the counts of `usable` and `bad` rows, and of those `held_out`. Raises StageError if there are fewer usable rows
    than `share` asks for."""
    held = {asked_last(row) for row in iter_conversations(experiment.path("data", "heldout.jsonl"))}
    task, source = plan.replay_source(replay)
    load, wanted = task.load if task else read_conversations, round(replay.share * rows)
    bad: list[BadRow] = []
    every = sum(1 for _ in load(source, bad.append))

    def usable() -> Iterator[Conversation]:
        return (row for row in load(source, lambda _: None) if asked_last(row) not in held)

    count = sum(1 for _ in usable())
    found |= {"usable": count, "bad": len(bad), "held_out": every - count}
    if count < wanted:
        raise StageError(
            f"{source.path} has {count} rows to replay, and a share of {replay.share:g} of {rows} rows is {wanted}; "
            "lower replay.share, or name more data."
        )
    for conversation in compress(usable(), draw(count, wanted, plan.source.seed)):
        for example in conversation.examples():
            yield trained_row(example, example.reference, "replay")


__all__ = ["launch_commands", "train_runs"]
