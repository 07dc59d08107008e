"""How a run is asked: the model and the sampling that its answers depend on, and the items of each look of a gate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from ..recipe import Sampling
from ..store.identity import path_identity
from ..types import Example, content_id
from .context import Context, Run
from .entries import EvaluatedTask
from .reasoning import thinks


def answering_settings(context: Context, run: Run) -> dict[str, Any]:
    """The settings of the model that answers for a run, and for a checkpoint that is an adapter, its files."""
    if not run.is_given:
        return context.model_settings(context.model_of(run.config), "answer", context.recipe.evaluate.backend)
    model, adapter = context.weights_of(run, Path())
    settings = context.model_settings(model, "answer", context.backend_of(run))
    return settings | ({"adapter": context.identity(path_identity, adapter)} if adapter else {})


def sampling_of(run: Run, task: EvaluatedTask) -> Sampling:
    """How the answers of a run to a task are drawn. Raises TypeError for a task that lm-eval asks."""
    if task.sampling is None:
        raise TypeError(f"lm-eval draws the answers to {task.name}")
    return Sampling.model_validate(task.sampling.model_dump() | run.config.sampling)


def trace_limit(context: Context, run: Run) -> int | None:
    """The limit of a run's think traces in tasks that lm-eval asks; None without such a limit, or without traces."""
    return context.recipe.arm_sampling(run.config).max_thinking_tokens if thinks(context, run.config) else None


def looks_setting(context: Context) -> dict[str, Any]:
    """The setting of stages that read the answers of a gate's looks so far."""
    return {"looks": [*context.looks]} if context.looks else {}


def asked_of(items: int, looks: Sequence[float]) -> int:
    """How many of a task's items are asked up to the last of `looks`."""
    return ceil(looks[-1] * items) if looks else items


def parts(items: list[Example], looks: Sequence[float]) -> list[list[Example]]:
    """The items that are new at each look, or all items without looks. The order is that of a random draw, and depends
    on the items' content alone. `looks` are shares of the items, rising. Each part is asked separately, so the answers
    do not depend on how many looks there were."""
    if not looks:
        return [items]
    order = sorted(items, key=lambda item: content_id("look", item.id))
    ends = [asked_of(len(order), (share,)) for share in looks]
    return [order[start:end] for start, end in pairwise([0, *ends])]
