"""The level of difficulty of each probe, chosen by the seed's score on items that are not reported.

Reads the seed model. Writes items/TASK.choosing.jsonl (the seed's answers) and items/TASK.step.json. A probe whose
entry names a level, as in `{task: probe-json, split: easy}`, is asked at that level, and nothing is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..backends import Backend
from ..generation.resume import LazyBackend, forget_transient
from ..measure.scores import answer, grade, values
from ..recipe import DataConfig
from ..recipe.suites import AUTO
from ..store.experiment import Experiment
from ..store.rows import RowFile, write_json
from ..store.stage import Stage
from ..types import Progress, Report
from .context import Context
from .entries import EvaluatedTask

FLOOR, CEILING = 0.15, 0.85
"""A probe whose seed scores outside these, at the level chosen, is uninformative."""
_TOO_HARD, _TOO_EASY = 0.3, 0.8
_FIRST = "medium"
_FEWEST = 12  # choosing items per level, also of a task with few items


def step_stage(context: Context, task: EvaluatedTask) -> Stage | None:
    """The stage that chooses a task's level; None if the task has no levels, or its entry names one. The task's n is a
    setting of the items, which read this stage."""
    if not task.task.steps or task.source is None or task.sampling is None:
        return None
    if task.source.split.partition(".")[0] != AUTO:
        return None
    recipe, output = context.recipe, f"items/{task.name}.step.json"
    settings = context.model_settings(recipe.model, "answer", recipe.evaluate.backend) | task.entry.deciding("answer")
    settings |= {"task": task.entry.task, "version": task.task.version, "sampling": task.sampling.model_dump()}
    answers = f"items/{task.name}.choosing.jsonl"
    return Stage(f"step/{task.name}", output, settings, other_outputs=(answers,), row_files=(answers,))


def is_open(experiment: Experiment, context: Context, task: EvaluatedTask) -> bool:
    """Whether the task's level is still to be chosen."""
    stage = step_stage(context, task)
    return stage is not None and not experiment.finished(stage)


def choose_steps(
    experiment: Experiment, context: Context, open_seed: Callable[[], Backend], progress: Progress
) -> None:
    """Chooses the levels that are still open. The seed answers 40 items at the medium level, and, if these are too hard
    or too easy for it, 40 at the next one; the level nearest to a score of one half is chosen. With an n below 80 these
    are n / 2 items, and at least 12."""
    tasks = [task for task in context.tasks.values() if is_open(experiment, context, task)]
    with LazyBackend(open_seed) as backend:
        for task in tasks:
            stage = step_stage(context, task)
            assert stage is not None
            with experiment.run_stage(stage) as record:
                path, scores = experiment.path(stage.other_outputs[0]), dict[str, float | None]()
                forget_transient(path)
                while (step := next_step(scores)) is not None:
                    scores[step] = _score(task, step, backend, path, partial(progress, f"level {task.name}"))
                record.counts = {"step": chosen_step(scores), "scores": scores}
                write_json(experiment.path(stage.output), record.counts)


def _score(task: EvaluatedTask, step: str, backend: LazyBackend, path: Path, report: Report) -> float | None:
    """The seed's score on the choosing items of a level; None if none could be judged."""
    assert task.source is not None
    assert task.sampling is not None
    source = task.source.model_copy(update={"split": f"{step}.choosing"})
    items = [item for row in task.task.load(source, None) for item in task.task.items(row)]
    items = items[: max(_FEWEST, task.entry.n // 2)] if task.entry.n else items
    with RowFile(path) as rows:
        answer(task.task, items, backend, task.sampling, rows, report)
    with RowFile(path, reading=True) as rows:  # which holds the rows that were there when it was opened
        found = values(grade(task.task, items, rows))
    return sum(found.values()) / len(found) if found else None


def next_step(scores: Mapping[str, float | None]) -> str | None:
    """The level to try after those in `scores`; None if one of them fits."""
    if _FIRST not in scores:
        return _FIRST
    score = scores[_FIRST]
    wanted = None if score is None else "easy" if score < _TOO_HARD else "hard" if score > _TOO_EASY else None
    return wanted if wanted not in scores else None


def chosen_step(scores: Mapping[str, float | None]) -> str:
    """The level whose score is nearest to one half, the later one of two that are equally near; the medium one if no
    level has a score."""
    known = {step: score for step, score in scores.items() if score is not None}
    return min(reversed(known), key=lambda step: abs(known[step] - 0.5), default=_FIRST)


def source_of(experiment: Experiment, context: Context, task: EvaluatedTask) -> DataConfig:
    """The source of a task's items, with the level that was chosen."""
    assert task.source is not None
    stage = step_stage(context, task)
    if stage is None:
        return task.source
    step = json.loads(experiment.path(stage.output).read_text(encoding="utf-8"))["step"]
    _, dot, part = task.source.split.partition(".")
    return task.source.model_copy(update={"split": f"{step}{dot}{part}"})


def step_results(experiment: Experiment, context: Context, task: EvaluatedTask) -> dict[str, Any]:
    """For the verdict: the level of a probe, and the seed's scores by which it was chosen; empty for other tasks."""
    if not task.task.steps or task.source is None:
        return {}
    stage = step_stage(context, task)
    chosen = experiment.counts(stage.name) if stage else {}
    step = chosen.get("step", task.source.split.partition(".")[0])
    return {"step": step, "step_scores": chosen.get("scores"), "version": task.task.version}


def choosing_score(experiment: Experiment, context: Context, task: EvaluatedTask) -> float | None:
    """The seed's score on the choosing items of the level that was chosen; None if no level was chosen."""
    found = step_results(experiment, context, task)
    return (found.get("step_scores") or {}).get(found.get("step"))


def uninformative(value: float | None) -> Literal["floor", "ceiling"] | None:
    """Whether the seed's score at the chosen level leaves too little room: at the floor hardly a loss can show, at the
    ceiling only a large one."""
    if value is None:
        return None
    return "floor" if value < FLOOR else "ceiling" if value > CEILING else None
