"""How much of a whole run is done: its steps, and the seconds that the steps after the active one will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..errors import SelfDistillError
from ..store.experiment import Experiment
from ..store.stage import Stage
from ..types import WHOLE, Progress
from ..types.wording import counted
from .context import Context
from .rewrite import needs_rewrites, rewrites
from .stages import stages_of

# The kinds of stages that take most of a run. Before one of a kind has finished, nothing is said of the time left.
_LONG = ("rewrite", "train", "answer", "judge")


@dataclass(frozen=True)
class Unfinished:
    """How much of a run is done: its finished and all steps, and the arms that are trained."""

    done: int
    steps: int
    trained: list[str]

    def __str__(self) -> str:
        trained = f"trained so far: {', '.join(self.trained)}" if self.trained else "no arm trained yet"
        return f"Unfinished: {self.done} of {counted(self.steps, 'step')} done, {trained}."


def unfinished(experiment: Experiment, context: Context) -> Unfinished | None:
    """How much of a run is done; None if all of it is, or if its steps can't be told here."""
    try:
        planned = planned_stages(context)
    except SelfDistillError:  # such as an engine that is not installed on this machine
        return None
    done = [name for name, stage in planned.items() if experiment.finished(stage)]
    if len(done) == len(planned):
        return None
    return Unfinished(len(done), len(planned), [run for run in context.runs if f"train/{run}" in done])


def report_whole(experiment: Experiment, context: Context, progress: Progress) -> None:
    """Reports the steps of a run now, and whenever one of them begins or ends."""
    planned = planned_stages(context)
    left = [name for name, stage in planned.items() if not experiment.finished(stage)]

    def report(stage: Stage | None = None, ended: bool = False) -> None:
        if ended and stage and stage.name in left:
            left.remove(stage.name)
        after = [name for name in left if stage is None or name != stage.name]
        seconds = expected_seconds(experiment.manifest, after)
        progress(WHOLE, len(planned) - len(left), len(planned), "" if seconds is None else f"{seconds:.0f}")

    experiment.on_stage = report
    report()


def planned_stages(context: Context) -> dict[str, Stage]:
    """The stages of a whole run by name, in order."""
    planned = {stage.name: stage for stage in stages_of(context)}
    if not needs_rewrites(context):
        unused = rewrites(context)
        for stage in (unused.generating, unused.verifying):
            planned.pop(stage.name, None)
    return planned


def expected_seconds(manifest: Mapping[str, Any], names: Iterable[str]) -> float | None:
    """What stages will take, from the finished ones of the same kind and task, else of the same kind. Stages of a kind
    without a finished one count as much as an answer stage; None if it is one of the long kinds."""
    took: dict[str, list[float]] = {}
    for name, record in manifest["stages"].items():
        if "finished" in record:
            for key in _alike(name):
                took.setdefault(key, []).append(record["seconds"])
    total = 0.0
    for name in names:
        known = next((took[key] for key in _alike(name) if key in took), None)
        known = known or (None if name.partition("/")[0] in _LONG else took.get("answer"))
        if known is None:
            return None
        total += fmean(known)
    return total


def _alike(name: str) -> tuple[str, str]:
    """The keys of stages that take about as long: `answer` for gsm8k, then `answer`."""
    kind, _, rest = name.partition("/")
    return f"{kind} {rest.partition('/')[2]}", kind
