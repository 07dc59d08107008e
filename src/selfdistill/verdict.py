"""From scores to a verdict: what each arm gained, kept and forgot against the seed, and whether SDFT prevented it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .config import TaskEntry
from .evaluate import IN_ALL_RUNS, Row, unanswered_note, values
from .evaluate import summarise as summarise_rows
from .experiment import Experiment
from .plan import Plan
from .rows import read_lines
from .stats import Comparison, compare, corrected
from .tasks import Task
from .types import Score

# Where the upper end of the seed's own interval is below this, keeping the score says nothing.
_FLOOR = 0.1
# Where more than this share of a task's answers counts neither way, the score is of a chosen few.
_MANY_LOST = 0.1


def make_verdict(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """Scores, paired comparisons and sentences over what is evaluated so far; written to verdict.json."""
    measured = [_Measured.read(experiment, plan, entry) for entry in plan.evaluation.entries]
    measured = [task for task in measured if task.rows]
    tasks = [task.to_json(plan) for task in measured]
    comparisons = corrected([row for task in measured for row in task.comparisons(plan)])
    acceptance, shift = experiment.counts("verify") or None, _shift(experiment, plan)
    return {
        "model": plan.recipe.model.path,
        "task": plan.recipe.task,
        "arms": list(plan.recipe.arms),
        "seed_arm": plan.seed_arm,
        "seeds": plan.recipe.seeds,
        "twins": {
            arm: {"against": twin, "equal": twin == plan.equal_twin(arm)}
            for arm in plan.recipe.arms
            if (twin := plan.twin(arm))
        },
        "tasks": tasks,
        "comparisons": [row.to_json() for row in comparisons],
        "acceptance": acceptance,
        "sweeps": [point.to_json() for point in plan.points],
        "gap": experiment.counts("gap") or None,
        "shift": shift,
        "summary": summarise(plan, tasks, comparisons, acceptance),
        "notes": _notes(experiment, plan, tasks) + _unmeasured(plan, shift) + _trained_on(experiment, plan),
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
    if contaminated := data.get("contaminated"):
        notes.append(
            f"{contaminated} rows drawn for data.heldout were left out, as they ask what is trained on or repeat."
        )
    if plan.recipe.gap and plan.gap_stage is None and plan.needs_rewrites:
        notes.append("The gap before training was not measured: the seed is behind a server.")
    if bad := data.get("bad"):
        notes.append(f"{bad} rows of the data couldn't be used; they are in data/bad_rows.jsonl with the reason.")
    if short := data.get("short"):
        notes.append(f"The data holds {short} rows fewer than data.n asks for; all were used.")
    for run in plan.runs:
        if cut := experiment.counts(f"train/{run}").get("cut"):
            notes.append(f"{run}: {cut} rows were cut at train.max_length, and so are trained on without their end.")
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
    rows: dict[str, list[list[Row]]]
    scores: dict[str, list[Score]]

    @classmethod
    def read(cls, experiment: Experiment, plan: Plan, entry: TaskEntry) -> _Measured:
        evaluation = plan.evaluation
        rows: dict[str, list[list[Row]]] = {}
        scores: dict[str, list[Score]] = {}
        for arm in plan.recipe.arms:
            stages = [evaluation.score_stage(run, entry) for run in plan.runs_of(arm)]
            if all(stage and experiment.finished(stage) for stage in stages):
                for stage in filter(None, stages):
                    experiment.check_files(stage)
                folders = [experiment.path(stage.output).parent for stage in stages if stage]
                rows[arm] = [list(read_lines(folder / "verdicts.jsonl")) for folder in folders]
                scores[arm] = [Score.from_json(_read_json(folder / "score.json")) for folder in folders]
        return cls(entry, evaluation.task(entry), evaluation.base(entry).name, rows, scores)

    def to_json(self, plan: Plan) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "skill": self.task.skill,
            "role": "target" if plan.evaluation.is_target(self.entry) else "other",
            "metric": self.task.metric,
            "answers_of": self.answers_of,
            "system": self.entry.system,
            "asked": plan.evaluation.manner(self.entry),
            "n": max(score.n for scores in self.scores.values() for score in scores),
            "scores": {arm: self._score(arm).to_json() for arm in self.rows},
            "runs": {
                arm: {run: score.value for run, score in zip(plan.runs_of(arm), scores, strict=True)}
                for arm, scores in self.scores.items()
                if len(scores) > 1
            },
        }

    def _score(self, arm: str) -> Score:
        """Of one run its own score, of several one over all."""
        return self.scores[arm][0] if len(self.scores[arm]) == 1 else summarise_rows(self.task, self.rows[arm])

    def comparisons(self, plan: Plan) -> list[Comparison]:
        """Each arm against the seed, and each arm that uses rewrites against its twin that trains on the originals."""
        judged = {arm: [values(rows) for rows in runs] for arm, runs in self.rows.items()}
        if self.task.judge and self.task.judge.against == "seed":
            # The seed against itself is a tie on every item.
            shared = {key for runs in judged.values() for run in runs for key in run}
            judged[plan.seed_arm] = [dict.fromkeys(shared, 0.5)]
        pairs = [(arm, plan.seed_arm) for arm in judged if arm != plan.seed_arm]
        pairs += [(arm, twin) for arm in judged if (twin := plan.twin(arm))]
        made = [
            compare(self.task.name, arm, other, judged[arm], judged[other]) for arm, other in pairs if other in judged
        ]
        return [comparison for comparison in made if comparison]


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def summarise(
    plan: Plan,
    tasks: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    acceptance: Mapping[str, Any] | None,
) -> list[str]:
    """Plain sentences, whatever came out; every claim rests on an interval."""
    sentences = []
    if acceptance and acceptance["rows"]:
        sentences.append(
            f"{acceptance['accepted']} of {acceptance['rows']} rewrites were accepted ({acceptance['rate']:.1%}); the "
            "other rows are trained on as they were."
        )
    targets = [task["task"] for task in tasks if task["role"] == "target"]
    others = [task["task"] for task in tasks if task["role"] == "other"]
    by = {(row.task, row.arm, row.against): row for row in comparisons}
    told = [arm for arm in plan.recipe.arms if arm not in plan.swept]  # of the others their curve is told
    for arm in told:
        rows = [by[task, arm, plan.seed_arm] for task in targets if (task, arm, plan.seed_arm) in by]
        rest = [by[task, arm, plan.seed_arm] for task in others if (task, arm, plan.seed_arm) in by]
        if rows or rest:
            on_target = [f"{_verb(row)} on {row.task} ({_points(row)})" for row in rows]
            sentences.append(f"{arm}: " + "; ".join([*on_target, *_tally(rest)]) + ".")
    if low := [task["task"] for task in tasks if (task["scores"].get(plan.seed_arm, {}).get("high") or 1) < _FLOOR]:
        sentences.append(f"The seed itself hardly does {_list(low)}, so there is little to forget in it.")
    sentences += _curves(plan, targets, others, by)
    for arm in told:
        if twin := plan.twin(arm):
            sentences += _does_it_help(arm, twin, plan.seed_arm, targets, others, by)
    return sentences


def _curves(
    plan: Plan, targets: Sequence[str], others: Sequence[str], by: Mapping[tuple[str, str, str], Comparison]
) -> list[str]:
    """Each line of a sweep in a sentence: at each value the mean change to the seed, on the targets and on the rest."""

    def mean(tasks: Sequence[str], arm: str) -> str:
        changes = [100 * row.difference for task in tasks if (row := by.get((task, arm, plan.seed_arm)))]
        return f"{fmean(changes):+.1f}" if changes and len(changes) == len(tasks) else "–"

    lines: dict[str, list[str]] = {}
    for point in plan.points:
        line = point.parameter if point.parameter == point.series else f"{point.parameter}, {point.series}"
        said = f"{mean(targets, point.arm)} / {mean(others, point.arm)}"
        if said != "– / –":
            lines.setdefault(line, []).append(f"{said} at {point.value}")
    return [
        f"Along {line}: change to the seed in points (target / mean of the other tasks) {', '.join(said)}."
        for line, said in lines.items()
    ]


def _does_it_help(
    arm: str,
    twin: str,
    seed: str,
    targets: Sequence[str],
    others: Sequence[str],
    by: Mapping[tuple[str, str, str], Comparison],
) -> list[str]:
    """Whether training on rewrites prevented what training on the originals did."""
    versus = {task: by[task, arm, twin] for task in [*targets, *others] if (task, arm, twin) in by}
    if not versus:
        return []
    sentences = []
    forgotten = [
        task for task in others if task in versus and (row := by.get((task, twin, seed))) and row.word == "forgot"
    ]
    better = [task for task in others if task in versus and versus[task].word == "gained"]
    worse = [task for task in others if task in versus and versus[task].word == "forgot"]
    if forgotten:
        saved = [task for task in forgotten if task in better]
        sentences.append(
            f"{twin} forgot {_list(forgotten)}; {arm} does better than it on {len(saved)} of these {len(forgotten)}."
        )
    elif others and all((row := by.get((task, twin, seed))) and row.word in ("kept", "gained") for task in others):
        sentences.append(
            f"{twin} forgot none of the other tasks as far as these items can tell, so there was nothing "
            f"for {arm} to prevent."
        )
    if worse:
        sentences.append(f"{arm} does worse than {twin} on {_list(worse)}.")
    for task in targets:
        if row := versus.get(task):
            kept = "reaches about what" if row.unchanged else "reaches no less than what"
            relation = {"gained": "reaches more than", "forgot": "reaches less than", "kept": kept}
            said = relation.get(row.word, "can't be told apart from what")
            sentences.append(f"On {task} {arm} {said} {twin} does ({_points(row)}).")
    return sentences


def _verb(row: Comparison) -> str:
    kept = "no change" if row.unchanged else "no loss"
    return {"gained": "gained", "kept": kept, "forgot": "lost", "can't tell": "no clear change"}[row.word]


def _points(row: Comparison) -> str:
    return f"{100 * row.difference:+.1f} points, 95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}"


def _tally(rows: Sequence[Comparison]) -> list[str]:
    if not rows:
        return []
    parts = []
    for word in ("forgot", "kept", "gained", "can't tell"):
        named = [
            row.task + (f": about {row.needed:,} items would" if row.needed else "") for row in rows if row.word == word
        ]
        if named:
            parts.append(f"{word} {len(named)} ({', '.join(named)})")
    return [f"of {len(rows)} other tasks " + ", ".join(parts)]


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
