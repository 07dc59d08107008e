"""What of a plan is about distribution shift: on which answers the runs are compared with the seed, and the stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...backends import answering_class
from ...errors import RecipeError
from ...recipe import TaskEntry
from ...store.experiment import Stage
from ...store.identity import path_identity

if TYPE_CHECKING:
    from . import Plan

# What the paper compares answers on.
_PAPERS = "advbench"


@dataclass(frozen=True)
class Shift:
    """The part of a plan that is about distribution shift. Raises what `Plan` raises."""

    plan: Plan

    @cached_property
    def source(self) -> TaskEntry | None:
        """The task on whose answers texts are compared: the recipe's `shift.task`, else AdvBench as in the paper, else
        the target; None where none of these is evaluated."""
        named, entries = self.plan.recipe.shift.task, self._answered
        if named is not None and named not in entries:
            raise RecipeError(
                f"shift.task: '{named}' is no task with answers of its own among evaluate.tasks; "
                + (f"choose one of {', '.join(entries)}." if entries else "name some there.")
            )
        name = named or (_PAPERS if _PAPERS in entries else None)
        return entries[name] if name else self.target

    @cached_property
    def target(self) -> TaskEntry | None:
        """The target task as it is evaluated."""
        return next((entry for entry in self._answered.values() if self.plan.evaluation.is_target(entry)), None)

    @cached_property
    def _answered(self) -> dict[str, TaskEntry]:
        """The entries whose answers are texts on file."""
        evaluation = self.plan.evaluation
        own = [entry for entry in evaluation.entries if evaluation.base(entry) == entry]
        return {entry.name: entry for entry in own if not evaluation.task(entry).harness}

    @cached_property
    def models_answer(self) -> bool:
        """Whether the answers on file are of weights that can be loaded here."""
        recipe = self.plan.recipe
        kind = answering_class(recipe.evaluate.backend, recipe.model)
        return kind.has_weights and not kind.classifies

    def stages_of(self, run: str) -> tuple[Stage, ...]:
        """Of a run's answers to the source, and their grades: what a comparison reads."""
        assert self.source is not None
        evaluation = self.plan.evaluation
        answers = evaluation.answer_stage(run, self.source)
        grades = None if evaluation.task(self.source).judge else evaluation.score_stage(run, self.source)
        return (answers, *([grades] if grades else []))

    def stage(self, run: str) -> Stage | None:
        """None for the seed, and where no task is evaluated whose answers could be compared."""
        if self.source is None or self.plan.runs[run].data == "none":
            return None
        seed, config = self.plan.seed_arm, self.plan.recipe.shift
        settings: dict[str, Any] = {
            **config.model_dump(),
            "embedding": path_identity(config.embedding),
            "task": self.source.name,
        }
        inputs = [*self.stages_of(seed), *self.stages_of(run)]
        if self.target and self.target != self.source:
            inputs.append(self.plan.evaluation.answer_stage(seed, self.target))
        return Stage(f"shift/{run}", f"shift/{run}.json", settings, tuple(inputs), cheap=True)

    @property
    def stages(self) -> list[Stage]:
        return [stage for stage in map(self.stage, self.plan.runs) if stage]
