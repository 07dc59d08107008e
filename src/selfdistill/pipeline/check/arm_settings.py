"""The part of `check` that is about the arms: what each trains on, and how."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ...data import iter_conversations, prepare, read_conversations, unused_columns, unused_sentence
from ...errors import DataError, SelfDistillError
from ...models.loading import load_context_length, load_renderer
from ...recipe import ArmConfig
from ..context import Context
from ..entries import has_grader
from ..train import replay_source
from .data import data_warnings, measure


def arm_lines(context: Context) -> Iterator[str]:
    recipe = context.recipe
    if any("self" in arm.answers for arm in recipe.arms.values()):
        own = recipe.rewrite
        yield f"self      the training prompts as they are, at most {own.sampling.max_new_tokens} tokens, same grader"
    for name, arm in recipe.arms.items():
        if arm.kind.weights == "seed":
            yield f"arm       {name}: {arm.kind.label}"
            continue
        if arm.of:
            yield f"arm       {name}: {arm.alpha:g} of the way from the seed to {arm.of}, untrained"
            continue
        train = recipe.arm_train(arm)
        length = f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epochs"
        loss = f", {train.extra['loss_type']} loss" if "loss_type" in train.extra else ""
        seeds = f", seeds {', '.join(map(str, recipe.seeds))}" if recipe.seeds else ""
        yield (
            f"arm       {name}: {_data(context, arm)}, {train.method}, lr {train.lr:g}, {length}, "
            f"batch {train.batch_size}{loss}{seeds}"
        )


def _data(context: Context, arm: ArmConfig) -> str:
    share = f"{arm.share:.0%} " if isinstance(arm.data, float) else ""
    parts = [share + (f"the likeliest of {arm.best_of} rewrites" if arm.best_of else arm.kind.label)]
    if arm.template:
        parts.append(f"template {arm.template}")
    if arm.n:
        parts.append(f"n={arm.n}")
    if arm.replay:
        _, source = replay_source(arm.replay)
        parts.append(f"with {arm.replay.share * 100:g} % as many rows of {source.path}")
    if (above := context.recipe.arm_train(arm).mask_above) is not None:
        parts.append(f"no loss on tokens over {above:g} nats")
    return ", ".join(parts)


def arm_warnings(context: Context) -> Iterator[str]:
    own = [name for name, arm in context.recipe.arms.items() if "self" in arm.answers]
    if own and not has_grader(context.recipe):
        yield (
            f"No grader is named, so every whole answer of the seed's own passes, right or wrong, and {', '.join(own)} "
            "would train on it. Name one in rewrite.grader."
        )
    yield from _longer_arms(context)


def _longer_arms(context: Context) -> Iterator[str]:
    """Warnings about arms that replay rows and so take more optimiser steps than their baseline arm."""
    for name, arm in context.recipe.arms.items():
        baseline = context.baseline_arm(name)
        if baseline is None or arm.replay is None or context.recipe.arm_train(arm).max_steps:
            continue
        if arm.replay != context.recipe.arms[baseline].replay:
            yield (
                f"{name} replays {arm.replay.share:.0%} as many rows, so it takes about {arm.replay.share:.0%} more "
                f"optimiser steps than {baseline}, with which it is compared; train.max_steps makes them equal."
            )


def check_replay(context: Context, missing: Callable[[SelfDistillError], None], warnings: list[str]) -> None:
    """Reads all rows that may be replayed. Passes errors to `missing`, and adds counts of unused data to `warnings`."""
    for name, arm in context.recipe.arms.items():
        if arm.replay is None:
            continue
        task, source = replay_source(arm.replay)
        with TemporaryDirectory() as folder:
            try:
                counts = prepare(
                    source.model_copy(update={"heldout": 0, "n": None}),
                    Path(folder),
                    task.load if task else read_conversations,
                )
            except SelfDistillError as error:
                missing(error)
                continue
            unused = unused_sentence(unused_columns(iter_conversations(Path(folder) / "train.jsonl")), counts.train)
            notes = [*data_warnings(counts, Path(folder)), *([f"{unused[0].upper()}{unused[1:]}."] if unused else [])]
            warnings += [f"Rows that {name} replays: {note}" for note in notes]
            if long := _long_rows(context, arm, Path(folder) / "train.jsonl"):
                said = f"Rows that {name} replays: {long}"
                if context.recipe.arm_train(arm).allow_unusable_rows:
                    warnings.append(said)
                else:
                    missing(DataError(said))


def _long_rows(context: Context, arm: ArmConfig, rows: Path) -> str | None:
    """A sentence about the rows that are too long to train on, None if there are none or the model can't be read."""
    try:
        renderer, window = load_renderer(context.recipe.model), load_context_length(context.recipe.model)
    except SelfDistillError:
        return None
    limit = min(context.recipe.arm_train(arm).max_length, window or sys.maxsize)
    lengths = measure(context, rows, renderer, None, limit, None, lambda _done, _total: None)
    if not lengths.too_long:
        return None
    return (
        f"{lengths.too_long:,} training sequences have more than {limit:,} tokens, the longest is {lengths.named()}. "
        "Raise train.max_length, or set train.allow_unusable_rows=true, which cuts them."
    )
