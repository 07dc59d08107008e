"""The part of `check` that is about sizes: tokens, optimiser steps, items and the change they can show, disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data import DataCounts, iter_conversations
from ...errors import SelfDistillError
from ...measure.planning import ASSUMED_DISAGREEMENT, smallest_change
from ...measure.stats import LEVEL
from ...recipe.data import grader_names
from ...types.wording import counted
from ..context import Context, Run
from ..disk import DiskUse, run_steps, size
from ..entries import HELDOUT
from ..grader_guess import comparable
from ..lengths import Ints, RowLengths
from .evaluation import MOST_ITEMS, items_of

_COLLAPSE = 0.3  # as a share: whoever measures a target wants to see smaller changes
_ENOUGH = 200


def token_lines(lengths: RowLengths) -> Iterator[str]:
    """Quantiles of the tokens of prompts, responses and whole sequences."""
    if not len(lengths.sequences):
        return
    every, some = lengths.typical.all(), lengths.typical
    sampled = "" if every else f" (quantiles of {some.sum():,} responses drawn from {lengths.responses:,})"
    columns = {
        "prompt": lengths.prompts,
        "response": lengths.sequences - lengths.prompts,
        "both": lengths.sequences,
    }
    yield "tokens    " + "; ".join(f"{name} {_quantiles(column, some)}" for name, column in columns.items()) + sampled


def _quantiles(column: Ints, typical: npt.NDArray[np.bool_]) -> str:
    middle, high = np.percentile(column[typical], [50, 95])
    return f"median {middle:,.0f}, 95th percentile {high:,.0f}, longest {column.max():,}"


def rewriting_warnings(context: Context, lengths: RowLengths) -> Iterator[str]:
    if lengths.no_room:
        yield (
            "Rewriting prompts that leave no room for an answer in the model's context: "
            f"{lengths.no_room:,}. These rows are trained on with their original responses."
        )
    if lengths.refused_prompts:
        yield (
            f"The chat template refuses {lengths.refused_prompts:,} of {len(lengths.rows):,} rewriting prompts; their "
            "rows are trained on unchanged."
        )


def step_lines(context: Context, runs: Sequence[Run], counts: DataCounts) -> Iterator[str]:
    trained = {run.name: run_steps(context, run, counts.to_json()) for run in runs if run.config.trained}
    if trained:
        yield "steps     " + ", ".join(f"{name} {steps:,}" for name, steps in trained.items()) + " (optimiser steps)"


def item_counts(context: Context, heldout: Path, unread: Callable[[SelfDistillError], None]) -> dict[str, int]:
    """The items of each task; its n if the items can't be read or are asked by lm-eval, and nothing without an n.
    `heldout` holds the rows that are set aside."""
    found: dict[str, int] = {}
    for task in context.tasks.values():
        if not task.asked or (task.task.harness and not task.entry.n):
            continue
        try:
            rows = list(iter_conversations(heldout)) if task.source is None else []
            there = sum(1 for _ in islice(items_of(task, rows), MOST_ITEMS))
        except SelfDistillError as error:
            unread(error)
            if task.entry.n and task.entry.task != HELDOUT:
                found[task.name] = task.entry.n
            continue
        found[task.name] = task.entry.n or 0 if task.task.harness else there
    return found


def comparable_counts(context: Context, heldout: Path, items: Mapping[str, int]) -> dict[str, int]:
    """The items of each task in `items`, up to its n, that can be compared: of the target's items, those whose
    reference adds a fact if the grader is facts."""
    found = {name: min(context.tasks[name].entry.n or there, there) for name, there in items.items()}
    for name, n in found.items():
        task = context.tasks[name]
        if n and task.entry.task == HELDOUT and grader_names(context.recipe.rewrite.grader) == ["facts"]:
            rows = list(iter_conversations(heldout)) if task.source is None else []
            share = len(comparable(islice(items_of(task, rows), MOST_ITEMS))) / items[name]
            found[name] = round(share * n)
    return found


def size_warnings(context: Context, counts: DataCounts, items: Mapping[str, int]) -> Iterator[str]:
    """Warnings about an n that is larger than what there is."""
    for name, arm in context.recipe.arms.items():
        if arm.n and arm.n > counts.train:
            yield f"{name} asks for {counted(arm.n, 'row')}, and there are {counts.train:,}; it trains on all of them."
    for name, there in items.items():
        task = context.tasks[name]
        if not task.task.harness and task.entry.n and task.entry.n > there:
            yield f"{name} asks for {counted(task.entry.n, 'item')}, and there are {there:,}; all of them are asked."


def change_lines(context: Context, items: Mapping[str, int], compared: Mapping[str, int]) -> Iterator[str]:
    """A table of the smallest change that the `compared` items of each task can show."""
    tasks, runs = _tests(context)
    sizes = {name: min(context.tasks[name].entry.n or there, there) for name, there in items.items()}
    counts = sorted({n for n in compared.values() if n})
    uncounted = [task.name for task in context.tasks.values() if task.task.harness and task.name not in items]
    if not counts and not uncounted:
        return
    yield "detects   items  points  task"
    for n in counts:
        change = smallest_change(n, tasks, runs)
        points = "none" if change is None else f"{100 * change:.1f}"
        named = [
            name if n == sizes[name] else f"{name} (the others of its {sizes[name]:,} add no fact to compare)"
            for name, own in compared.items()
            if own == n
        ]
        yield f"          {n:5,}  {points:>6}  {', '.join(named)}"
    if uncounted:
        yield f"              ?       ?  {', '.join(uncounted)} (lm-eval counts the items when it asks them)"
    if not counts:
        return
    corrected = f", corrected over {tasks} tasks" if tasks > 1 else ""
    several = f"{runs} runs per arm" if runs > 1 else "one run per arm"
    yield (
        "          points: the smallest change that the paired test finds in 80 % of cases (level "
        f"{LEVEL:g}{corrected}; {several}; assuming that {ASSUMED_DISAGREEMENT * 100:g} % of items change anyway)"
    )


def few_items_warnings(context: Context, compared: Mapping[str, int], rows: int) -> Iterator[str]:
    """Warnings about targets whose `compared` items can show nothing but a collapse. `rows`: those of the data, to
    train on or held out."""
    for name, n in compared.items():
        if not (n and context.tasks[name].is_target):
            continue
        change = smallest_change(n, *_tests(context))
        if change is None or change > _COLLAPSE:
            shows = f"only a change of {100 * change:.0f} points or more" if change else "no change"
            key = "data.heldout" if name == HELDOUT else "its n in evaluate.tasks"
            advice = f"raise {key} to {_ENOUGH} or more"
            if name == HELDOUT and rows < 2 * _ENOUGH:
                advice = f"the data has {counted(rows, 'row')}, so raise {key} as far as you can, or add rows"
            yield f"{name}: {counted(n, 'item')} to compare can show {shows}; {advice}."


def _tests(context: Context) -> tuple[int, int]:
    """The tasks of a family of tests, and the runs of an arm."""
    return len(context.tasks), max(1, len(context.recipe.seeds))


def disk_line(use: DiskUse, where: Path) -> str:
    unknown = "" if use.weights + use.adapters else "; weights are not counted, as the seed is not on this machine yet"
    return f"disk      at most {size(use.needed)} in {where}: {use.parts}; {size(use.free)} free{unknown}"
