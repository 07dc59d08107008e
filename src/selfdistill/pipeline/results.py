"""From scores to a verdict: what each arm gained, kept and forgot against the seed, and whether SDFT prevented it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import data_notes, item_notes
from ..measure.comparisons import Pair, compare
from ..measure.scores import IN_ALL_RUNS, GradeRow, unanswered_note, values
from ..measure.scores import summarise as summarise_rows
from ..measure.stats import RunSpread, Values, run_spread, shared_items, table_of
from ..recipe import TaskEntry
from ..reports.sentences import runs_note, summarise
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..tasks import Task
from ..types import Score
from .plan import Plan
from .plan.steps import equally_long, training_notes

# Where more than this share of a task's answers counts neither way, the score is of a chosen few.
_MANY_LOST = 0.1


def make_verdict(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """Scores, paired comparisons and sentences over what is evaluated so far; written to verdict.json."""
    measured = [_Measured.read(experiment, plan, entry) for entry in plan.evaluation.entries]
    measured = [task for task in measured if task.rows]
    spreads = {arm: _spread(measured, arm) for arm in plan.recipe.arms}
    tasks = [task.to_json(plan, spreads) for task in measured]
    margin = plan.recipe.evaluate.margin / 100
    comparisons = compare([pair for task in measured for pair in task.pairs(plan)], margin)
    acceptance, shift = experiment.counts("verify") or None, _shift(experiment, plan)
    return {
        "model": plan.recipe.model.path,
        "task": plan.recipe.task,
        "arms": list(plan.recipe.arms),
        "seed_arm": plan.seed_arm,
        "seeds": plan.recipe.seeds,
        "margin": margin,
        "twins": {
            arm: {
                "against": twin,
                "equal": twin == plan.equal_twin(arm) and equally_long(experiment, plan, arm, twin),
            }
            for arm in plan.recipe.arms
            if (twin := plan.twin(arm))
        },
        "tasks": tasks,
        "comparisons": [row.to_json() for row in comparisons],
        "acceptance": acceptance,
        "sweeps": [point.to_json() for point in plan.points],
        "gap": experiment.counts("gap") or None,
        "shift": shift,
        "summary": summarise(plan, tasks, comparisons, acceptance, margin),
        "notes": runs_note(plan, comparisons, margin)
        + _notes(experiment, plan, tasks)
        + _unmeasured(plan, shift)
        + _trained_on(experiment, plan),
    }


def _shift(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """How far each run moved from the seed, where that is measured, without the figures of single prompts."""
    stages = {run: stage for run in plan.runs if (stage := plan.shift.stage(run)) and experiment.finished(stage)}
    for stage in stages.values():
        experiment.check_files(stage)
    measured = {run: _read_json(experiment.path(stage.output)) for run, stage in stages.items()}
    return {run: {key: row[key] for key in row if key != "distributions"} for run, row in measured.items()}


def _unmeasured(plan: Plan, shift: Mapping[str, Any]) -> list[str]:
    """The runs, and the metrics, whose shift could not be measured where others could."""
    lacking = [run for run in plan.runs if plan.shift.stage(run) and run not in shift] if shift else []
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


def _trained_on(experiment: Experiment, plan: Plan) -> list[str]:
    """What the arms that choose among several answers, or mix in other data, came to train on."""
    notes = []
    for name, arm in plan.recipe.arms.items():
        sources = experiment.counts(f"train/{plan.runs_of(name)[0]}").get("sources", {})
        if sources and ("self" in arm.uses or arm.best_of or arm.replay or arm.template):
            notes.append(f"{name} trains on " + ", ".join(f"{n} {_SOURCES[key]}" for key, n in sources.items()) + ".")
    return notes


def _notes(experiment: Experiment, plan: Plan, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know to read the figures."""
    notes, data = [plan.recipe.note] if plan.recipe.note else [], experiment.counts("data")
    lines = Counter((point.parameter, point.series) for point in plan.points)
    if single := [f"{parameter} for {series}" for (parameter, series), count in lines.items() if count == 1]:
        notes.append(f"A sweep with one point is no curve: {', '.join(single)}.")
    if few := [name for name, arm in plan.recipe.arms.items() if arm.n and arm.n > data.get("train", arm.n)]:
        notes.append(f"There are {data['train']} rows, fewer than n of {', '.join(few)}; all were used.")
    if "fake" in map(plan.recipe.model.answering, (plan.recipe.rewrite.backend, plan.recipe.evaluate.backend)):
        notes.append("The fake backend made up answers: the figures are of no model.")
    settings = [record["settings"] for record in experiment.manifest["stages"].values()]
    if any("none" in (own.get("sandbox"), _grader(own).get("sandbox")) for own in settings):
        notes.append("sandbox: none. Programs that a model wrote were run without a sandbox.")
    notes += data_notes(data)
    for entry in plan.evaluation.asked:
        notes += item_notes(entry.name, experiment.counts(plan.evaluation.items_stage(entry).name))
    notes += _left_out(experiment)
    if any("python_asserts" in str(_grader(own).get("grader")) for own in settings):
        notes.append(
            "python_asserts: asserts that look at objects of a program's classes run in the program's own process, "
            "where it can fool them; the reason of such a pass ends with 'run in its own process'."
        )
    if plan.recipe.gap and plan.gap_stage is None and plan.needs_rewrites:
        notes.append("The gap before training was not measured: the seed is behind a server.")
    notes += training_notes(experiment, plan)
    if absent := [
        f"{', '.join(arms)} on {task['task']}"
        for task in tasks
        if (arms := [arm for arm in plan.recipe.arms if arm not in task["scores"] and _scored(plan, arm, task)])
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


def _scored(plan: Plan, arm: str, task: Mapping[str, Any]) -> bool:
    """False for the seed where the others are judged against it."""
    entry = next(entry for entry in plan.evaluation.entries if entry.name == task["task"])
    return plan.evaluation.score_stage(plan.runs_of(arm)[0], entry) is not None


def _grader(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    grader = settings.get("grader")
    return grader if isinstance(grader, dict) else {}


@dataclass(frozen=True)
class _Measured:
    """A task's graded rows and score of every arm that is scored in all its runs: arm → one for each run."""

    entry: TaskEntry
    task: Task
    answers_of: str
    rows: dict[str, list[list[GradeRow]]]
    scores: dict[str, list[Score]]

    @classmethod
    def read(cls, experiment: Experiment, plan: Plan, entry: TaskEntry) -> _Measured:
        evaluation = plan.evaluation
        rows: dict[str, list[list[GradeRow]]] = {}
        scores: dict[str, list[Score]] = {}
        for arm in plan.recipe.arms:
            stages = [evaluation.score_stage(run, entry) for run in plan.runs_of(arm)]
            if all(stage and experiment.finished(stage) for stage in stages):
                for stage in filter(None, stages):
                    experiment.check_files(stage)
                folders = [experiment.path(stage.output).parent for stage in stages if stage]
                rows[arm] = [list(read_lines(folder / "grades.jsonl")) for folder in folders]
                scores[arm] = [Score.from_json(_read_json(folder / "score.json")) for folder in folders]
        return cls(entry, evaluation.task(entry), evaluation.base(entry).name, rows, scores)

    def judged(self, arm: str) -> list[Values]:
        return [values(rows) for rows in self.rows.get(arm, [])]

    def to_json(self, plan: Plan, spreads: Mapping[str, RunSpread | None]) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "skill": self.task.skill,
            "role": "target" if plan.evaluation.is_target(self.entry) else "other",
            "metric": self.task.metric,
            "answers_of": self.answers_of,
            "system": self.entry.system,
            "asked": plan.evaluation.manner(self.entry),
            "n": max(score.n for scores in self.scores.values() for score in scores),
            "scores": {arm: self._score(arm, spreads[arm]).to_json() for arm in self.rows},
            "runs": {
                arm: {run: score.value for run, score in zip(plan.runs_of(arm), scores, strict=True)}
                for arm, scores in self.scores.items()
                if len(scores) > 1
            },
        }

    def _score(self, arm: str, spread: RunSpread | None) -> Score:
        """The run's score, or the pooled score over several runs."""
        if len(self.scores[arm]) == 1:
            return self.scores[arm][0]
        return summarise_rows(self.task, self.rows[arm], spread)

    def pairs(self, plan: Plan) -> list[Pair]:
        """Each arm against the seed, and each arm that uses rewrites against its twin that trains on the originals."""
        judged = {arm: self.judged(arm) for arm in self.rows}
        if self.task.judge and self.task.judge.against == "seed":
            # The seed against itself is a tie on every item.
            shared = {key for runs in judged.values() for run in runs for key in run}
            judged[plan.seed_arm] = [dict.fromkeys(shared, 0.5)]
        trained = {arm for arm in judged if plan.recipe.arms[arm].data != "none"}
        pairs = [(arm, plan.seed_arm) for arm in judged if arm != plan.seed_arm]
        pairs += [(arm, twin) for arm in judged if (twin := plan.twin(arm))]
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
