"""Whether the arms of an experiment were trained equally long: rows, optimiser steps, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..store.experiment import Experiment
from .context import Context, Run


def equally_long(experiment: Experiment, context: Context, arm: str, other: str) -> bool:
    """Whether the runs of two arms saw as many rows in as many optimiser steps, as far as they are trained."""
    pairs = zip(context.runs_of(arm), context.runs_of(other), strict=False)
    counts = [(_counts(experiment, run), _counts(experiment, its)) for run, its in pairs]
    return all(
        mine.get(key) == theirs.get(key) for mine, theirs in counts if mine and theirs for key in ("steps", "sequences")
    )


def training_notes(experiment: Experiment, context: Context) -> Iterator[str]:
    """The optimiser steps of each run, and the rows that a training left out, cut or took the loss off."""
    trained = {
        run: counts for run in context.runs if (counts := experiment.counts(f"train/{run}")) and "steps" in counts
    }
    steps = {run: counts["steps"] for run, counts in trained.items()}
    if len(set(steps.values())) > 1:
        said = ", ".join(f"{run} {count:,}" for run, count in steps.items())
        yield f"Optimiser steps are not equal: {said}. Arms that differ in them differ in more than the data."
    elif len(steps) > 1:
        yield f"Optimiser steps are equal: {next(iter(steps.values())):,} in each of {', '.join(steps)}."
    for run, counts in trained.items():
        if cut := counts.get("cut"):
            yield f"{run}: {cut} rows were cut at train.max_length, and so are trained on without their end."
        if dropped := counts.get("dropped"):
            yield (
                f"{run}: {dropped} rows were left out of training: they can't be rendered, or no token of their "
                "response is within the limit."
            )
        if masked := counts.get("masked_rows"):
            yield f"{run}: {masked} rows have no loss on any token, as train.mask_above masks all of them."
        replay = counts.get("replay", {})
        if replay.get("bad") or replay.get("held_out"):
            yield (
                f"{run}: of the rows to replay {replay['bad']} can't be used and {replay['held_out']} ask what is held "
                "out; none of these is trained on."
            )


def _counts(experiment: Experiment, run: Run) -> dict[str, Any]:
    """Of the training behind a run: of an interpolated one, of the run that it goes towards."""
    return experiment.counts(f"train/{run.towards or run.name}")
