"""From scores to a verdict: what each arm gained, kept and forgot against the seed, and whether SDFT prevented it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends import answering_class
from ..data import data_notes, item_notes
from ..measure.comparisons import Pair, compare
from ..measure.scores import IN_ALL_RUNS, Row, unanswered_note, values
from ..measure.scores import summarise as summarise_rows
from ..measure.stats import RunSpread, Values, run_spread, shared_items, table_of
from ..reports.sentences import runs_note, summarise
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..tasks import Task
from ..types import Score
from .context import Context
from .entries import EvaluatedTask
from .evaluate import grade_stage, items_stage
from .gap import gap_stage
from .rewrite import needs_rewrites
from .shift import shift_stage
from .training_counts import equally_long, training_notes

# Where more than this share of a task's answers counts neither way, the score is of a chosen few.
_MANY_LOST = 0.1


def make_verdict(experiment: Experiment, context: Context) -> dict[str, Any]:
    """Scores, paired comparisons and sentences over what is evaluated so far; written to verdict.json."""
    measured = [_Measured.read(experiment, context, task) for task in context.tasks.values()]
    measured = [task for task in measured if task.rows]
    spreads = {arm: _spread(measured, arm) for arm in context.recipe.arms}
    tasks = [task.to_json(context, spreads) for task in measured]
    margin = context.recipe.evaluate.margin / 100
    comparisons = compare([pair for task in measured for pair in task.pairs(context)], margin)
    acceptance, shift = experiment.counts("verify") or None, _shift(experiment, context)
    return {
        "model": context.recipe.model.path,
        "task": context.recipe.task,
        "arms": list(context.recipe.arms),
        "seed_arm": context.seed_arm,
        "seeds": context.recipe.seeds,
        "margin": margin,
        "baseline_arms": {
            arm: {
                "against": baseline.arm,
                "equal": baseline.equal and equally_long(experiment, context, arm, baseline.arm),
            }
            for arm, baseline in context.baselines.items()
        },
        "tasks": tasks,
        "comparisons": [row.to_json() for row in comparisons],
        "acceptance": acceptance,
        "sweeps": [point.to_json() for point in context.points],
        "gap": experiment.counts("gap") or None,
        "shift": shift,
        "summary": summarise(context, tasks, comparisons, acceptance, margin),
        "notes": runs_note(context, comparisons, margin)
        + _notes(experiment, context, tasks)
        + _unmeasured(context, shift)
        + _trained_on(experiment, context),
    }


def _shift(experiment: Experiment, context: Context) -> dict[str, Any]:
    """How far each run moved from the seed, where that is measured, without the figures of single prompts."""
    stages = {
        name: stage
        for name, run in context.runs.items()
        if (stage := shift_stage(context, run)) and experiment.finished(stage)
    }
    for stage in stages.values():
        experiment.check_files(stage)
    measured = {run: _read_json(experiment.path(stage.output)) for run, stage in stages.items()}
    return {run: {key: row[key] for key in row if key != "distributions"} for run, row in measured.items()}


def _unmeasured(context: Context, shift: Mapping[str, Any]) -> list[str]:
    """The runs, and the metrics, whose shift could not be measured where others could."""
    lacking = (
        [name for name, run in context.runs.items() if shift_stage(context, run) and name not in shift] if shift else []
    )
    notes = (
        [f"The shift of {', '.join(lacking)} is not measured; `selfdistill shift` does, once they are evaluated."]
        if lacking
        else []
    )
    return notes + list(dict.fromkeys(why for row in shift.values() for why in row["missing"].values()))


_SOURCES = {
    "self": "own answers of the seed",
    "rewrite": "rewrites",
    "original": "originals",
    "replay": "rows of other data",
}


def _trained_on(experiment: Experiment, context: Context) -> list[str]:
    """What the arms that choose among several answers, or mix in other data, came to train on."""
    notes = []
    for name, arm in context.recipe.arms.items():
        sources = experiment.counts(f"train/{context.runs_of(name)[0].name}").get("sources", {})
        if sources and ("self" in arm.answers or arm.best_of or arm.replay or arm.template):
            notes.append(f"{name} trains on " + ", ".join(f"{n} {_SOURCES[key]}" for key, n in sources.items()) + ".")
    return notes


def _notes(experiment: Experiment, context: Context, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know to read the figures."""
    notes, data = [context.recipe.note] if context.recipe.note else [], experiment.counts("data")
    lines = Counter((point.parameter, point.series) for point in context.points)
    if single := [f"{parameter} for {series}" for (parameter, series), count in lines.items() if count == 1]:
        notes.append(f"A sweep with one point is no curve: {', '.join(single)}.")
    if few := [name for name, arm in context.recipe.arms.items() if arm.n and arm.n > data.get("train", arm.n)]:
        notes.append(f"There are {data['train']} rows, fewer than n of {', '.join(few)}; all were used.")
    if any(answering_class(name, model).invents for model, name in context.engines[:2]):
        notes.append("The fake backend made up answers: the figures are of no model.")
    settings = [record["settings"] for record in experiment.manifest["stages"].values()]
    if any("none" in (own.get("sandbox"), _grader(own).get("sandbox")) for own in settings):
        notes.append("sandbox: none. Programs that a model wrote were run without a sandbox.")
    notes += data_notes(data)
    for asked in context.tasks.values():
        if asked.asked:
            notes += item_notes(asked.name, experiment.counts(items_stage(context, asked).name))
    notes += _left_out(experiment)
    if any("python_asserts" in str(_grader(own).get("grader")) for own in settings):
        notes.append(
            "python_asserts: asserts that look at objects of a program's classes run in the program's own process, "
            "where it can fool them; the reason of such a pass ends with 'run in its own process'."
        )
    if context.recipe.gap and gap_stage(context) is None and needs_rewrites(context):
        notes.append("The gap before training was not measured: the seed is behind a server.")
    notes += training_notes(experiment, context)
    if absent := [
        f"{', '.join(arms)} on {task['task']}"
        for task in tasks
        if (arms := [arm for arm in context.recipe.arms if arm not in task["scores"] and _scored(context, arm, task)])
    ]:
        notes.append(f"Not evaluated yet: {'; '.join(absent)}.")
    notes += [note for task in tasks if (note := unanswered_note(task["task"], task["scores"]))]
    for task in tasks:
        if lost := [
            f"{arm} {score['unjudged'] + score['errors']} of {score['n']}"
            for arm, score in task["scores"].items()
            if score["unjudged"] + score["errors"] > _MANY_LOST * score["n"]
        ]:
            notes.append(f"{task['task']}: the scores leave out what couldn't be judged ({', '.join(lost)}).")
        if few := [
            f"{arm} {share:.0%}"
            for arm, score in task["scores"].items()
            if (share := score["details"].get(IN_ALL_RUNS, 1.0)) < 1 - _MANY_LOST
        ]:
            notes.append(f"{task['task']}: the scores are of the items judged in every run ({', '.join(few)}).")
    return notes


def _left_out(experiment: Experiment) -> list[str]:
    """The sampling settings that servers rejected, by the stages whose answers were drawn without them."""
    stages: dict[str, list[str]] = {}
    for name, record in experiment.manifest["stages"].items():
        if left_out := record.get("counts", {}).get("settings_left_out"):
            stages.setdefault(", ".join(left_out), []).append(name)
    notes = []
    for settings, names in stages.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more stages"
        seed = " Without seed, another run draws other answers." if "seed" in settings.split(", ") else ""
        notes.append(f"{where}: the server did not take {settings}, so its own defaults may apply.{seed}")
    return notes


def _scored(context: Context, arm: str, task: Mapping[str, Any]) -> bool:
    """False for the seed where the others are judged against it."""
    return grade_stage(context, context.runs_of(arm)[0], context.tasks[task["task"]]) is not None


def _grader(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    grader = settings.get("grader")
    return grader if isinstance(grader, dict) else {}


@dataclass(frozen=True)
class _Measured:
    """A task's graded rows and score of every arm that is scored in all its runs: arm → one for each run."""

    evaluated: EvaluatedTask
    rows: dict[str, list[list[Row]]]
    scores: dict[str, list[Score]]

    @classmethod
    def read(cls, experiment: Experiment, context: Context, task: EvaluatedTask) -> _Measured:
        rows: dict[str, list[list[Row]]] = {}
        scores: dict[str, list[Score]] = {}
        for arm in context.recipe.arms:
            stages = [grade_stage(context, run, task) for run in context.runs_of(arm)]
            if all(stage and experiment.finished(stage) for stage in stages):
                for stage in filter(None, stages):
                    experiment.check_files(stage)
                folders = [experiment.path(stage.output).parent for stage in stages if stage]
                rows[arm] = [list(read_lines(folder / "grades.jsonl")) for folder in folders]
                scores[arm] = [Score.from_json(_read_json(folder / "score.json")) for folder in folders]
        return cls(task, rows, scores)

    @property
    def task(self) -> Task:
        return self.evaluated.task

    def judged(self, arm: str) -> list[Values]:
        return [values(rows) for rows in self.rows.get(arm, [])]

    def to_json(self, context: Context, spreads: Mapping[str, RunSpread | None]) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "skill": self.task.skill,
            "role": "target" if self.evaluated.is_target else "other",
            "metric": self.task.metric,
            "answers_of": self.evaluated.answers_of,
            "system": self.evaluated.entry.system,
            "asked": self.evaluated.conditions(),
            "n": max(score.n for scores in self.scores.values() for score in scores),
            "scores": {arm: self._score(arm, spreads[arm]).to_json() for arm in self.rows},
            "runs": {
                arm: {run.name: score.value for run, score in zip(context.runs_of(arm), scores, strict=True)}
                for arm, scores in self.scores.items()
                if len(scores) > 1
            },
        }

    def _score(self, arm: str, spread: RunSpread | None) -> Score:
        """The run's score, or the pooled score over several runs."""
        if len(self.scores[arm]) == 1:
            return self.scores[arm][0]
        return summarise_rows(self.task, self.rows[arm], spread)

    def pairs(self, context: Context) -> list[Pair]:
        """Each arm against the seed, and each arm that uses rewrites against its twin that trains on the originals."""
        judged = {arm: self.judged(arm) for arm in self.rows}
        if self.task.judge and self.task.judge.against == "seed":
            # The seed against itself is a tie on every item.
            shared = {key for runs in judged.values() for run in runs for key in run}
            judged[context.seed_arm] = [dict.fromkeys(shared, 0.5)]
        trained = {arm for arm in judged if context.recipe.arms[arm].kind.weights != "seed"}
        pairs = [(arm, context.seed_arm) for arm in judged if arm != context.seed_arm]
        pairs += [(arm, context.baselines[arm].arm) for arm in judged if arm in context.baselines]
        return [
            Pair(self.task.name, arm, other, judged[arm], judged[other], both_trained={arm, other} <= trained)
            for arm, other in pairs
            if other in judged
        ]


def _spread(measured: Sequence[_Measured], arm: str) -> RunSpread | None:
    """How much the arm's true score varies between its runs, pooled over the tasks; None with a single run."""
    judged = [runs for task in measured if len(runs := task.judged(arm)) > 1]
    return run_spread([table_of(runs, shared_items(runs)) for runs in judged])


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
