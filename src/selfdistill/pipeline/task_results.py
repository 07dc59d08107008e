"""One task's results: the graded rows and scores of each arm, and the pairs of arms that are compared on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..measure.comparisons import Pair
from ..measure.degeneration import sound
from ..measure.scores import GradeRow, errors_fail, summarise, values
from ..measure.stats import RunSpread, Values
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..tasks import Task
from ..types import Score
from .context import Context
from .difficulty import step_results, uninformative
from .entries import EvaluatedTask
from .evaluate import grade_stage


@dataclass(frozen=True)
class TaskResults:
    """The graded rows and scores of a task, for each arm that is scored in all its runs: arm → one entry per run."""

    evaluated: EvaluatedTask
    rows: dict[str, list[list[GradeRow]]]
    scores: dict[str, list[Score]]

    @classmethod
    def read(
        cls, experiment: Experiment, context: Context, task: EvaluatedTask, tested: str | None = None
    ) -> TaskResults:
        """Reads the graded rows and scores. Errors of the arm `tested` count as wrong answers."""
        rows: dict[str, list[list[GradeRow]]] = {}
        scores: dict[str, list[Score]] = {}
        for arm in context.recipe.arms:
            stages = [grade_stage(context, run, task) for run in context.runs_of(arm)]
            if all(stage and experiment.finished(stage) for stage in stages):
                for stage in filter(None, stages):
                    experiment.check_files(stage)
                folders = [experiment.path(stage.output).parent for stage in stages if stage]
                rows[arm] = [list(read_lines(folder / "grades.jsonl")) for folder in folders]
                scores[arm] = [
                    Score.from_json(json.loads((folder / "score.json").read_text("utf-8"))) for folder in folders
                ]
                if arm == tested and any(score.errors for score in scores[arm]):
                    rows[arm] = [errors_fail(run) for run in rows[arm]]
                    scores[arm] = [summarise(task.task, [run]) for run in rows[arm]]
        return cls(task, rows, scores)

    @property
    def task(self) -> Task:
        return self.evaluated.task

    @property
    def role(self) -> str:
        return "target" if self.evaluated.is_target else "other"

    @cached_property
    def judged(self) -> dict[str, list[Values]]:
        """The values of the judged items, by arm, for each run."""
        return {arm: [values(rows) for rows in runs] for arm, runs in self.rows.items()}

    @property
    def generated(self) -> bool:
        """Whether the arms wrote the answers for this task: no choices by likelihood, no other task's answers."""
        every = (row for runs in self.rows.values() for rows in runs for row in rows)
        return self.evaluated.asked and all("ends" in row for row in every)

    def missing_arms(self, context: Context) -> list[str]:
        """The arms without a score. The seed is not one of them if the other arms are judged against it."""
        absent = [arm for arm in context.recipe.arms if arm not in self.rows]
        return [arm for arm in absent if grade_stage(context, context.runs_of(arm)[0], self.evaluated)]

    def to_json(
        self, experiment: Experiment, context: Context, spreads: Mapping[str, RunSpread | None]
    ) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "skill": self.task.skill,
            **self._difficulty(experiment, context),
            "role": self.role,
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

    def _difficulty(self, experiment: Experiment, context: Context) -> dict[str, Any]:
        """The level of a probe, and whether the seed's score at it is too near to a bound; empty for other tasks."""
        found = step_results(experiment, context, self.evaluated)
        if not found:
            return {}
        seed = self.scores.get(context.seed_arm)
        value = seed[0].value if seed else None
        return {**found, "seed_score": value, "uninformative": uninformative(value)}

    def _score(self, arm: str, spread: RunSpread | None) -> Score:
        """The run's score, or the pooled score over several runs."""
        if len(self.scores[arm]) == 1:
            return self.scores[arm][0]
        return summarise(self.task, self.rows[arm], spread)

    def pairs(self, context: Context, named: Named | None = None) -> list[Pair]:
        """The pairs of arms that `named`, by default `compared_arms`, gives."""
        judged = dict(self.judged)
        if self.task.judge and self.task.judge.against == "seed":
            # The seed against itself is a tie on every item.
            shared = {key for runs in judged.values() for run in runs for key in run}
            judged[context.seed_arm] = [dict.fromkeys(shared, 0.5)]
        return self._pairs(context, judged, named or compared_arms)

    def ending_pairs(self, context: Context) -> list[Pair]:
        """The same pairs, by the answers that do not degenerate."""
        sound_ends = {arm: [sound(rows) for rows in runs] for arm, runs in self.rows.items()}
        return self._pairs(context, sound_ends, compared_arms)

    def _pairs(self, context: Context, judged: Mapping[str, list[Values]], named: Named) -> list[Pair]:
        return [
            Pair(self.task.name, arm, other, judged[arm], judged[other], both_trained, arm in context.given_arms)
            for arm, other, both_trained in named(context, judged)
            if other in judged
        ]


Named = Callable[[Context, Collection[str]], list[tuple[str, str, bool]]]
"""Names pairs of the arms that have results, each with whether both are trained."""


def compared_arms(context: Context, arms: Collection[str]) -> list[tuple[str, str, bool]]:
    """Each of `arms` with the seed and with its baseline arm, and whether both are trained."""
    pairs = [(arm, context.seed_arm) for arm in arms if arm != context.seed_arm]
    pairs += [(arm, context.baselines[arm].arm) for arm in arms if arm in context.baselines]
    return _with_training(context, pairs)


def with_originals(context: Context, arms: Collection[str]) -> list[tuple[str, str, bool]]:
    """The pairs of `compared_arms`, and each arm that has a baseline arm with every other arm on the originals, such as
    one at a low learning rate. The arms of a sweep have their curves instead."""
    own = [name for name, arm in context.recipe.arms.items() if arm.data == "original" and name not in context.swept]
    distilled = [arm for arm in arms if arm in context.baselines and arm not in context.swept]
    pairs = [(arm, other) for arm in distilled for other in own if other != context.baselines[arm].arm]
    return compared_arms(context, arms) + _with_training(context, pairs)


def _with_training(context: Context, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str, bool]]:
    trained = {name for name, arm in context.recipe.arms.items() if arm.kind.weights not in ("seed", "given")}
    return [(arm, other, {arm, other} <= trained) for arm, other in pairs]
