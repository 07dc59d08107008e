"""The part of `check` that is about the arms: what each trains on, and how."""

from __future__ import annotations

from collections.abc import Iterator

from ...recipe import ArmConfig
from ..context import Context
from ..entries import has_grader
from ..reasoning import LABELS, decided
from ..train import replay_source
from .thinking_settings import reasoning_lines, reasoning_warnings


def arm_lines(context: Context) -> Iterator[str]:
    recipe = context.recipe
    if any("self" in arm.answers for arm in recipe.arms.values()):
        own = recipe.rewrite
        yield f"self      the training prompts as they are, at most {own.sampling.max_new_tokens} tokens, same grader"
    yield from reasoning_lines(context)
    for name, arm in recipe.arms.items():
        if arm.kind.weights == "seed":
            yield f"arm       {name}: {arm.kind.label}"
            continue
        if arm.checkpoint:
            model = recipe.arm_model(arm)
            yield f"arm       {name}: {arm.kind.label}, {model.path}{' at ' + model.server.url if model.server else ''}"
            continue
        if arm.of:
            yield f"arm       {name}: {arm.alpha:g} of the way from the seed to {arm.of}, untrained"
            continue
        train = recipe.arm_train(arm)
        epochs = f"{train.epochs:g} {'epoch' if train.epochs == 1 else 'epochs'}"
        length = f"{train.max_steps} steps" if train.max_steps else epochs
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
    if (how := decided(context, arm)) and (arm.reasoning or how != "own" or arm.answers):
        parts.append(LABELS[how])
    if (above := context.recipe.arm_train(arm).mask_above) is not None:
        parts.append(f"no loss on tokens over {above:g} nats")
    return ", ".join(parts)


def arm_warnings(context: Context) -> Iterator[str]:
    yield from reasoning_warnings(context)
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
