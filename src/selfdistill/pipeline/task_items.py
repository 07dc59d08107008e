"""The items of each evaluated task, drawn once and shared by all runs.

Reads the tasks' data. Writes items/TASK.jsonl.
"""

from __future__ import annotations

from itertools import compress
from typing import Any

from ..data import BadRow, draw, iter_conversations, near_duplicates, prompt_key
from ..errors import StageError
from ..harness import mmlu_shots
from ..store.experiment import Experiment
from ..store.identity import file_identity, path_identity, source_identity
from ..store.rows import read_lines, write_lines
from ..store.stage import Stage
from ..types import Conversation, Example, Message
from .asking import parts
from .context import Context
from .data import HELDOUT_ROWS, TRAIN, data_stage
from .difficulty import source_of, step_stage
from .entries import EvaluatedTask


def items_stage(context: Context, task: EvaluatedTask) -> Stage:
    entry, name, output = task.entry, f"items/{task.name}", f"items/{task.name}.jsonl"
    settings = {"task": entry.task, **entry.deciding("items")}
    if harness := task.task.harness:
        shots = context.once(mmlu_shots, entry.path) if entry.path and harness.task == "mmlu" else None
        source = context.identity(path_identity, entry.path) if entry.path else harness.task
        files = [source, context.identity(file_identity, str(shots or ""))]
        return Stage(name, output, {**settings, "source": files})
    if task.source is None:
        return Stage(name, output, settings, (data_stage(context),))
    source = context.identity(source_identity, task.source)
    identity = {"source": source, "config": task.source.config, **task.source.deciding("items")}
    if not task.task.steps:
        return Stage(name, output, {**settings, **identity})
    step = step_stage(context, task)
    identity |= {"split": task.source.split, "version": task.task.version}
    return Stage(name, output, {**settings, **identity}, (step,) if step else ())


def write_items(experiment: Experiment, context: Context, task: EvaluatedTask) -> None:
    """Draws the items of a task, unless they are on file."""
    stage, entry = items_stage(context, task), task.entry
    if experiment.finished(stage):
        return
    with experiment.run_stage(stage) as record:
        bad: list[BadRow] = []
        trained: dict[str, Any] = {}
        if task.task.harness:
            items = list(task.benchmark.items())
        else:
            held = iter_conversations(experiment.path(HELDOUT_ROWS))
            source = task.source and source_of(experiment, context, task)
            conversations = held if source is None else task.task.load(source, bad.append)
            loaded = [item for conversation in conversations for item in task.task.items(conversation)]
            if task.source is not None:
                loaded, trained = _without_trained(experiment, loaded, drop=task.task.own_rows)
            items = list(compress(loaded, draw(len(loaded), entry.n, entry.seed)))
        if not items:
            why = "all of them ask what is trained on" if trained else "check its path and split"
            raise StageError(f"The task '{task.name}' has no items; {why}.")
        if task.source is not None and task.task.own_rows:
            trained |= _near_trained(experiment, context, items)
        write_lines(experiment.path(stage.output), (item.to_json() for item in items))
        absent = entry.n - len(items) if entry.n and not task.task.harness else 0
        short = {"short": absent} if absent else {}
        first = {"first_bad": f"{bad[0].where}: {bad[0].reason}"} if bad else {}
        record.counts = {"items": len(items), "bad": len(bad), **first, **trained, **short}


def _without_trained(experiment: Experiment, items: list[Example], drop: bool) -> tuple[list[Example], dict[str, Any]]:
    """The items, and how many ask a question that is trained on; `drop` removes these items."""
    asked = {prompt_key(item.prompt) for item in items}
    path = experiment.path(TRAIN)
    rows = iter_conversations(path) if path.is_file() else iter(())
    trained = {key for row in rows for example in row.examples() if (key := prompt_key(example.prompt)) in asked}
    kept = [item for item in items if prompt_key(item.prompt) not in trained] if trained else items
    if len(kept) == len(items):
        return items, {}
    return (kept if drop else items), {"trained_on": len(items) - len(kept), "left_out": int(drop)}


def _near_trained(experiment: Experiment, context: Context, items: list[Example]) -> dict[str, Any]:
    """How many items nearly repeat a training row, with one pair; empty if none does."""
    threshold, path = context.source.near_duplicates.threshold, experiment.path(TRAIN)
    if threshold is None or not path.is_file():
        return {}
    asked = [Conversation((*item.prompt, Message("assistant", item.reference))) for item in items]
    near = near_duplicates(asked, iter_conversations(path), threshold)
    return {"near_duplicates": len(near.found), "near_pair": near.pair} if near.found else {}


def read_items(experiment: Experiment, context: Context, task: EvaluatedTask) -> list[Example]:
    """The items that are asked: all items, or those of a gate's looks so far."""
    return [item for some in parts(all_items(experiment, context, task), context.looks) for item in some]


def all_items(experiment: Experiment, context: Context, task: EvaluatedTask) -> list[Example]:
    """The items on file, also those that a gate has not asked yet."""
    path = experiment.path(items_stage(context, context.tasks.get(task.answers_of, task)).output)
    return [Example.from_json(row) for row in read_lines(path)]
