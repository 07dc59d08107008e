"""The numbers of the verdict: what each arm gained, kept and forgot against the seed. Sentences are in `reports`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..measure.comparisons import ASSUMED_SPREAD, MOST_RUNS, Comparison, Pair, compare, runs_needed
from ..measure.scores import Row, summarise, values
from ..measure.stats import RunSpread, Values, run_spread, shared_items, table_of
from ..recipe import TaskEntry
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..tasks import Task
from ..types import Score
from .plan import Plan

# The counts of a training that the verdict repeats. Speed and memory differ from run to run, so they are left out.
_TRAINING_COUNTS = ("steps", "sequences", "cut", "dropped", "masked_rows", "replay")


def results(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """Scores, paired comparisons and counts of everything that is evaluated so far: verdict.json without its texts."""
    recipe, arms = plan.recipe, plan.recipe.arms
    measured = [_TaskResults.read(experiment, plan, entry) for entry in plan.evaluation.entries]
    measured = [task for task in measured if task.rows]
    spreads = {arm: _spread(measured, arm) for arm in arms}
    margin = recipe.evaluate.margin / 100
    comparisons = compare([pair for task in measured for pair in task.pairs(plan)], margin)
    return {
        "model": recipe.model.path,
        "task": recipe.task,
        "arms": list(arms),
        "seed_arm": plan.seed_arm,
        "swept": [arm for arm in arms if arm in plan.swept],
        "seeds": recipe.seeds,
        "margin": margin,
        "baseline_arms": _baseline_arms(experiment, plan),
        "tasks": [task.to_json(plan, spreads) for task in measured],
        "comparisons": [row.to_json() for row in comparisons],
        "runs_needed": needed_runs(comparisons, plan.seed_arm, margin),
        "not_evaluated": {task.task.name: missing for task in measured if (missing := task.missing_arms(plan))},
        "acceptance": experiment.counts("verify") or None,
        "sweeps": [point.to_json() for point in plan.points],
        "gap": experiment.counts("gap") or None,
        "shift": _shift(experiment, plan),
        "data": experiment.counts("data"),
        "items": {
            entry.name: experiment.counts(plan.evaluation.items_stage(entry).name) for entry in plan.evaluation.asked
        },
        "training": {run: counts for run in plan.runs if "steps" in (counts := _training(experiment, run))},
        "trained_on": _trained_on(experiment, plan),
        "settings_left_out": {
            stage: left_out
            for stage, record in experiment.manifest["stages"].items()
            if (left_out := record.get("counts", {}).get("settings_left_out"))
        },
        "caveats": _caveats(experiment, plan),
    }


def needed_runs(comparisons: Sequence[Comparison], seed_arm: str, margin: float) -> dict[str, Any] | None:
    """How many training runs find a `drop` in one task in 80 % of cases, if runs differ by `spread`; None if no arm was
    compared with the seed after a single run. `runs` is None if even `most` runs are too few."""
    single = [row for row in comparisons if row.runs == 1 and row.against == seed_arm]
    if not single:
        return None
    return {"runs": runs_needed(single, 2 * margin), "most": MOST_RUNS, "drop": 2 * margin, "spread": ASSUMED_SPREAD}


def _baseline_arms(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """The arm on the originals that each arm is compared with; `equal` if the two differ in their data alone."""

    def steps(arm: str) -> list[tuple[Any, ...] | None]:
        runs = [plan.interpolated_from(run) if plan.runs[run].of else run for run in plan.runs_of(arm)]
        counts = [_training(experiment, run) for run in runs]
        return [(found.get("steps"), found.get("sequences")) if found else None for found in counts]

    return {
        arm: {
            "against": other,
            "equal": other == plan.equal_twin(arm)
            and all(a == b for a, b in zip(steps(arm), steps(other), strict=False) if a and b),
        }
        for arm in plan.recipe.arms
        if (other := plan.twin(arm))
    }


def _training(experiment: Experiment, run: str) -> dict[str, Any]:
    counts = experiment.counts(f"train/{run}")
    return {key: counts[key] for key in _TRAINING_COUNTS if key in counts}


def _trained_on(experiment: Experiment, plan: Plan) -> dict[str, dict[str, int]]:
    """The sources of the training rows, for each arm that chooses among several answers or mixes in other data."""
    return {
        name: sources
        for name, arm in plan.recipe.arms.items()
        if ("self" in arm.uses or arm.best_of or arm.replay or arm.template)
        and (sources := experiment.counts(f"train/{plan.runs_of(name)[0]}").get("sources"))
    }


def _shift(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """How far each measured run moved from the seed, without the values of single prompts."""
    stages = {run: stage for run in plan.runs if (stage := plan.shift.stage(run)) and experiment.finished(stage)}
    for stage in stages.values():
        experiment.check_files(stage)
    measured = {run: _read_json(experiment.path(stage.output)) for run, stage in stages.items()}
    return {run: {key: row[key] for key in row if key != "distributions"} for run, row in measured.items()}


def _caveats(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """Facts that limit how the numbers may be read."""
    recipe, rows = plan.recipe, experiment.counts("data").get("train")
    settings = [record["settings"] for record in experiment.manifest["stages"].values()]
    graders = [own["grader"] for own in settings if isinstance(own.get("grader"), dict)]
    measured = [run for run in plan.runs if (stage := plan.shift.stage(run)) and experiment.finished(stage)]
    return {
        "note": recipe.note,
        "few_rows": [name for name, arm in recipe.arms.items() if rows and arm.n and arm.n > rows],
        "fake": "fake" in map(recipe.model.answering, (recipe.rewrite.backend, recipe.evaluate.backend)),
        "no_sandbox": any(own.get("sandbox") == "none" for own in [*settings, *graders]),
        "python_asserts": any("python_asserts" in str(grader.get("grader")) for grader in graders),
        "gap_unmeasured": bool(recipe.gap and plan.gap_stage is None and plan.needs_rewrites),
        "shift_unmeasured": [run for run in plan.runs if plan.shift.stage(run) and run not in measured]
        if measured
        else [],
    }


@dataclass(frozen=True)
class _TaskResults:
    """The graded rows and scores of a task, for each arm that is scored in all its runs: arm → one entry per run."""

    entry: TaskEntry
    task: Task
    answers_of: str
    rows: dict[str, list[list[Row]]]
    scores: dict[str, list[Score]]

    @classmethod
    def read(cls, experiment: Experiment, plan: Plan, entry: TaskEntry) -> _TaskResults:
        evaluation = plan.evaluation
        rows: dict[str, list[list[Row]]] = {}
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

    def missing_arms(self, plan: Plan) -> list[str]:
        """The arms without a score. The seed is not one of them if the other arms are judged against it."""
        stage = plan.evaluation.score_stage
        return [a for a in plan.recipe.arms if a not in self.rows and stage(plan.runs_of(a)[0], self.entry)]

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
        return summarise(self.task, self.rows[arm], spread)

    def pairs(self, plan: Plan) -> list[Pair]:
        """Each arm against the seed, and each arm against its baseline arm, which trains on the originals."""
        judged = {arm: self.judged(arm) for arm in self.rows}
        if self.task.judge and self.task.judge.against == "seed":
            # The seed against itself is a tie on every item.
            shared = {key for runs in judged.values() for run in runs for key in run}
            judged[plan.seed_arm] = [dict.fromkeys(shared, 0.5)]
        trained = {arm for arm in judged if plan.recipe.arms[arm].data != "none"}
        pairs = [(arm, plan.seed_arm) for arm in judged if arm != plan.seed_arm]
        pairs += [(arm, baseline) for arm in judged if (baseline := plan.twin(arm))]
        return [
            Pair(self.task.name, arm, other, judged[arm], judged[other], both_trained={arm, other} <= trained)
            for arm, other in pairs
            if other in judged
        ]


def _spread(measured: Sequence[_TaskResults], arm: str) -> RunSpread | None:
    """The spread of the arm's true score between its runs, pooled over the tasks; None after a single run."""
    judged = [runs for task in measured if len(runs := task.judged(arm)) > 1]
    return run_spread([table_of(runs, shared_items(runs)) for runs in judged])


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
