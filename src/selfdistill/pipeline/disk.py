"""The disk space that a run takes, known before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.footprint import Footprint, footprint, optimiser_steps, weight_shapes
from .context import Context, Run

_TOKEN = 6  # bytes of a token's text, with its share of the row around it


@dataclass(frozen=True)
class DiskUse:
    """Bytes: `weights` of fully trained runs, `adapters`, `checkpoints` (of the training that needs most), `texts`
    (data, rewrites and answers that run to their limits), and the `free` bytes there."""

    weights: int
    adapters: int
    checkpoints: int
    texts: int
    free: int

    @property
    def models(self) -> int:
        return self.weights + self.adapters + self.checkpoints

    @property
    def needed(self) -> int:
        return self.models + self.texts

    @property
    def parts(self) -> str:
        named = {
            "weights of fully trained arms": self.weights,
            "adapters": self.adapters,
            "checkpoints while an arm trains": self.checkpoints,
            "texts": self.texts,
        }
        return ", ".join(f"{name} {size(value)}" for name, value in named.items() if value)


def disk_use(
    context: Context, runs: Sequence[Run], data: Path, counts: Mapping[str, Any], items: Mapping[str, int], where: Path
) -> DiskUse:
    """What `runs` will take in the directory `where`. `data` is the folder with train.jsonl, `counts` are its counts,
    `items` the number of items of each task. Weights count as nothing if the seed is not on this machine yet."""
    shapes = weight_shapes(context.recipe.model)
    weights = adapters = checkpoints = 0
    for run in runs:
        steps = run_steps(context, run, counts)
        taken = footprint(run.train, shapes, steps) if shapes else Footprint(0, 0)
        full = run.train.method == "full"
        weights, adapters = weights + full * taken.model, adapters + (not full) * taken.model
        checkpoints = max(checkpoints, 0 if run.towards else taken.checkpoints)
    rows = (data / "train.jsonl").stat().st_size * (3 + len(runs))
    tokens = counts["examples"] * context.recipe.rewrite.sampling.limit(thinks=True)
    for name, count in items.items():
        task = context.tasks[name]
        limit = task.sampling.limit(thinks=True) if task.sampling else 0
        tokens += count * limit * task.entry.samples * len(context.runs)
    existing = next(folder for folder in (where.absolute(), *where.absolute().parents) if folder.exists())
    return DiskUse(weights, adapters, checkpoints, rows + tokens * _TOKEN, shutil.disk_usage(existing).free)


def disk_problem(use: DiskUse, where: Path) -> str | None:
    """A sentence if there is too little space for the models, else None. How long the texts will be is not known."""
    if use.models <= use.free:
        return None
    return (
        f"The run needs about {size(use.needed)} in {where} ({use.parts}), and {size(use.free)} are free. Free some "
        "space, or name a directory on another disk with --dir."
    )


def arm_rows(run: Run, counts: Mapping[str, Any]) -> int:
    """The responses that a run trains on; an estimate if rows have several responses and the run draws rows."""
    rows = min(run.config.n or counts["train"], counts["train"])
    replayed = round(run.config.replay.share * rows) if run.config.replay else 0
    responses: int = round(counts["examples"] * rows / counts["train"])
    return responses + replayed


def run_steps(context: Context, run: Run, counts: Mapping[str, Any]) -> int:
    """The optimiser steps of a run; for interpolated weights those of the run that they need."""
    trained = context.runs[run.towards] if run.towards else run
    return optimiser_steps(trained.train, arm_rows(trained, counts))


def size(count: int) -> str:
    """Bytes in a unit that people read."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:,.1f} GiB"
