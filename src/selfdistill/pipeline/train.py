"""Step 5, training: the rows of each run, its training, or the interpolation of its weights.

Reads data/train.jsonl and the chosen responses. Writes arms/RUN/data.jsonl (the rows that the run trains on, each with
the source of its response), arms/RUN/model and arms/RUN/train.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from ..data import BadRow, asked_last, asks_any, check_format, draw, iter_conversations, read_conversations
from ..errors import ExperimentError, RecipeError, StageError
from ..recipe import DataConfig, ReplayConfig
from ..store.experiment import Experiment
from ..store.identity import source_identity
from ..store.marks import marks_id
from ..store.rows import RowFile, read_lines, write_json, write_lines
from ..store.stage import Stage
from ..tasks import Task, get_task
from ..training.interpolate import interpolate
from ..training.sequences import trained_example, trained_row
from ..types import LOADING, Conversation, Example, Progress, Rewrite
from .by_hand import marks_for
from .choose import choice_stage
from .context import Context, Run
from .data import HELDOUT_ROWS, TRAIN, data_stage
from .reasoning import Decision, count_thought, decided, thought_of

# ---- declared


def train_stage(context: Context, run: Run) -> Stage | None:
    """The stage that makes the weights of a run; None for the seed and for a checkpoint."""
    folder, arm = f"arms/{run.name}", run.config
    if run.is_seed or run.is_given:
        return None
    if run.towards:
        trained = train_stage(context, context.runs[run.towards])
        assert trained is not None
        share = {"of": run.towards, "alpha": arm.alpha}
        output = f"{folder}/interpolation.json"
        return Stage(f"train/{run.name}", output, share, (trained,), other_outputs=(f"{folder}/model",))
    step = "train" if run.train.mask_above is None else "masking"
    settings = {
        **context.model_settings(context.model_of(arm), step),
        **arm.deciding("train"),
        **({"reasoning": how} if (how := decided(context, arm)) in ("mask", "empty") else {}),
        "template": arm.template and Path(arm.template).name,
        **({"replay": _replay_settings(context, run.arm, arm.replay)} if arm.replay else {}),
        **run.train.deciding("train"),
        **({"marks": marks_id(marks)} if (marks := marks_for(context, arm)) else {}),
    }
    choices = choice_stage(context, arm)
    inputs = (data_stage(context), *([choices] if choices else []))
    made = (f"{folder}/data.jsonl", f"{folder}/model")
    return Stage(f"train/{run.name}", f"{folder}/train.json", settings, inputs, resumable=True, other_outputs=made)


def train_stages(context: Context) -> list[Stage]:
    return [stage for run in context.runs.values() if (stage := train_stage(context, run))]


def replay_source(replay: ReplayConfig) -> tuple[Task | None, DataConfig]:
    """The source of the rows to replay, and the task that reads them (None for the user's own data)."""
    changes = replay.model_dump(exclude={"task", "share"}, exclude_none=True)
    if replay.task is None:
        return None, DataConfig(**changes)
    task = get_task(replay.task)
    default = task.train.model_dump() if task.train else {}
    if not (default | changes).get("path"):
        raise RecipeError(f"The task '{replay.task}' names no training data to replay; give it a `path`.")
    return task, DataConfig.model_validate(default | changes)


def too_few_to_replay(replay: ReplayConfig, source: DataConfig, count: int, rows: int) -> str:
    return (
        f"{source.path} has {count} rows to replay, and a share of {replay.share:g} of {rows} rows is "
        f"{round(replay.share * rows)}; lower replay.share, or name more data."
    )


def _replay_settings(context: Context, arm: str, replay: ReplayConfig) -> dict[str, Any]:
    check_format(replay.format or "auto", f"arms.{arm}.replay.format")
    _, source = replay_source(replay)
    return {**replay.deciding("train"), "task": replay.task, "source": context.identity(source_identity, source)}


# ---- run


def train_runs(experiment: Experiment, context: Context, runs: Sequence[Run], progress: Progress) -> None:
    """Trains the runs that aren't trained yet. Interpolated runs come last, after the runs that they need."""
    for run in runs:
        if not (run.is_seed or run.is_given):
            _train(experiment, context, context.runs[run.towards] if run.towards else run, progress)
    for run in runs:
        stage = train_stage(context, run)
        if stage and run.towards and not experiment.finished(stage):
            _interpolate(experiment, context, run, run.towards, stage)


def _train(experiment: Experiment, context: Context, run: Run, progress: Progress) -> None:
    from ..training import train
    from ..training.launch import launch

    stage, folder, settings = train_stage(context, run), experiment.path("arms", run.name), run.train
    to_merge = settings.merge and settings.method != "full" and not (folder / "merged").is_dir()
    if stage is None or (experiment.finished(stage) and not to_merge):
        return
    sources, thoughts, model = Counter[str](), Counter[str](), context.model_of(run.config)
    replay: dict[str, int] = {}
    with experiment.run_stage(stage) as record:
        path = folder / "data.jsonl"
        write_lines(path, _counted(_run_rows(experiment, context, run, replay), sources, thoughts))
        examples = map(trained_example, read_lines(path))
        report = _without_loss(partial(progress, f"train {run.name}"))
        progress(f"train {run.name}", 0, 0, LOADING)
        if settings.launch and not (folder / "train.json").is_file():
            launch(path, model, settings, folder, report)
        result = train(examples, model, settings, folder, report)
        record.counts = {**result.to_json(), "sources": dict(sources.most_common())}
        if by_hand := _by_hand(experiment, context, run):
            record.counts["by_hand"] = by_hand
        if thoughts:
            record.counts["think_blocks"] = dict(thoughts.most_common())
        if replay:
            record.counts["replay"] = replay


def _by_hand(experiment: Experiment, context: Context, run: Run) -> dict[str, int]:
    """How many rows were decided by hand, by the decision; empty if none of the arm's."""
    choices = choice_stage(context, run.config)
    found: dict[str, int] = experiment.counts(choices.name).get("by_hand", {}) if choices else {}
    return found if marks_for(context, run.config) else {}


def launch_commands(experiment: Experiment, context: Context, runs: Sequence[Run]) -> dict[str, list[str]]:
    """For a job scheduler: the command that trains each run that isn't trained yet, after writing its rows. Raises
    RecipeError if a run has no `train.launch`."""
    from ..training.launch import launch_command

    commands = {}
    for run in runs:
        stage, folder = train_stage(context, run), experiment.path("arms", run.name)
        if stage is None or run.towards or experiment.finished(stage) or (folder / "train.json").is_file():
            continue
        if run.train.launch is None:
            raise RecipeError(
                f"The arm {run.name} has no train.launch; set train.launch.processes to how many there will be."
            )
        write_lines(folder / "data.jsonl", _run_rows(experiment, context, run, {}))
        model = context.model_of(run.config)
        commands[run.name] = launch_command(folder / "data.jsonl", model, run.train, folder)
    return commands


def _without_loss(report: Callable[[int, int], None]) -> Callable[[int, int, float | None], None]:
    return lambda step, steps, _loss: report(step, steps)


def _counted(rows: Iterator[dict[str, Any]], sources: Counter[str], thoughts: Counter[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        sources[row["source"]] += 1
        if block := count_thought(row.get("thought")):
            thoughts[block] += 1
        yield row


def _interpolate(experiment: Experiment, context: Context, run: Run, towards: str, stage: Stage) -> None:
    """Writes the weights between the seed's and those of another run."""
    alpha = run.config.alpha
    assert alpha is not None
    with experiment.run_stage(stage) as record:
        tuned, own = experiment.path("arms", towards, "model"), experiment.path("arms", run.name, "model")
        counts = interpolate(context.recipe.model, tuned, alpha, own)
        record.counts = {"of": towards, "alpha": alpha, **counts}
        write_json(experiment.path(stage.output), record.counts)


# ---- the rows of a run


def _run_rows(experiment: Experiment, context: Context, run: Run, replay: dict[str, int]) -> Iterator[dict[str, Any]]:
    """One row for each response that a run trains on, after the original earlier turns; then the replayed rows. Fills
    `replay` with the counts of the replayed data."""
    config, source = run.config, context.source
    total = experiment.counts("data")["train"]
    choices, how = choice_stage(context, config), decided(context, config)
    drawn = draw(total, config.n, source.seed)
    derived = np.zeros(total, bool)
    rows = np.flatnonzero(drawn)
    derived[rows[draw(len(rows), round(config.share * len(rows)), source.seed + 1)]] = True
    with RowFile(experiment.path(choices.output), reading=True) if choices else nullcontext() as chosen:
        for index, conversation in enumerate(iter_conversations(experiment.path(TRAIN))):
            if drawn[index]:
                yield from _responses(conversation, chosen if derived[index] else None, how)
    if config.replay:
        for row in _replayed(experiment, context, config.replay, len(rows), replay):
            yield trained_row(row, row.reference, "replay", thought_of(how, "replay", row.thought))


def _responses(conversation: Conversation, choices: RowFile | None, how: Decision | None) -> Iterator[dict[str, Any]]:
    """A row for each response of a conversation: the chosen response, or the original if there are no `choices`. `how`
    think blocks are trained."""
    for example in conversation.examples():
        response, source, thought = example.reference, "original", example.thought
        if choices is not None:
            row = choices.get(example.id)
            if row is None:
                raise ExperimentError(f"{choices.path} lacks the row {example.id}; delete it and run again.")
            rewrite, source = Rewrite.from_json(row), row["source"]
            if rewrite.grade.passed:
                response, thought = rewrite.response, rewrite.completion.thought
        yield trained_row(example, response, source, thought_of(how, source, thought))


def _replayed(
    experiment: Experiment, context: Context, replay: ReplayConfig, rows: int, found: dict[str, int]
) -> Iterator[Example]:
    """Responses of other data, unchanged, drawn with the data's seed, without rows that ask a held-out question. Fills
    `found` with the counts of `usable`, `bad` and `held_out` rows. Raises StageError if there are fewer usable rows
    than `share` asks for."""
    held = {asked_last(row) for row in iter_conversations(experiment.path(HELDOUT_ROWS))}
    task, source = replay_source(replay)
    load, wanted = task.load if task else read_conversations, round(replay.share * rows)
    bad: list[BadRow] = []
    every = sum(1 for _ in load(source, bad.append))

    def usable() -> Iterator[Conversation]:
        return (row for row in load(source, lambda _: None) if not asks_any(row, held))

    count = sum(1 for _ in usable())
    found |= {"usable": count, "bad": len(bad), "held_out": every - count}
    if count < wanted:
        raise StageError(too_few_to_replay(replay, source, count, rows))
    for conversation in compress(usable(), draw(count, wanted, context.source.seed)):
        yield from conversation.examples()
