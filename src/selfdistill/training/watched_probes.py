"""The probes that a model is asked while it trains."""

from __future__ import annotations

from itertools import chain, islice, zip_longest
from math import ceil
from typing import NamedTuple

from ..recipe import DataConfig
from ..recipe.budget import Budget
from ..recipe.suites import SUITES
from ..tasks import Task, get_task
from ..types import Example, Prompt

_LIMIT = 128  # new tokens, for tasks whose suite sets none


class Probe(NamedTuple):
    """An item of a task, and the most new tokens of its answer."""

    task: Task
    item: Example
    limit: int

    @property
    def prompt(self) -> Prompt:
        return Prompt(self.item.id, self.task.ask(self.item))


def probes_of(budget: Budget) -> tuple[list[Probe], list[str]]:
    """The probes of a budget, from its suite's tasks in turn, and the tasks that are left out: those that run programs
    or whose items are all reported. The items are those of a part that no evaluation reports."""
    left_out, asked = list(budget.without), list[tuple[Task, DataConfig, int]]()
    for entry in SUITES[budget.suite].tasks:
        task = get_task(entry["task"])
        split = f"{budget.step}.choosing" if task.steps else "dev" if budget.suite == "demo" else None
        if task.name in budget.without:
            continue
        if task.needs or split is None or task.test is None:
            left_out.append(task.name)
        else:
            source = task.test.model_copy(update={"split": split})
            asked.append((task, source, entry.get("max_new_tokens", _LIMIT)))
    wanted = ceil(budget.items / max(len(asked), 1))
    of_tasks = []
    for task, source, limit in asked:
        items = chain.from_iterable(map(task.items, task.load(source, None)))
        of_tasks.append([Probe(task, item, limit) for item in islice(items, wanted)])
    found = [probe for turn in zip_longest(*of_tasks) for probe in turn if probe is not None]
    return found[: budget.items], left_out
