"""What the seed answers to the training rows, and which of its answers an arm trains on: the sets and their stages."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backends import answering
from ...errors import RecipeError
from ...generation.prompts import load_template
from ...generation.rewriter import Rewriter
from ...recipe import ArmConfig, ModelConfig
from ...store.experiment import Stage
from ...types import content_id

if TYPE_CHECKING:
    from . import Plan


@dataclass(frozen=True)
class Candidates:
    """One answer of the seed to each training example. With a `template` it is shown the reference (a rewrite); with
    None it answers the training prompt alone. `sample` counts the draws where there are several."""

    plan: Plan
    template: str | None
    sample: int = 0

    @property
    def kind(self) -> str:
        """What tells it from the rewrites of the recipe's template; empty for these."""
        if self.template is None:
            return "self"
        return "" if self.template == self.plan.target.template else Path(self.template).stem

    @property
    def name(self) -> str:
        """Empty for the rewrites that SDFT trains on."""
        return "-".join(filter(None, [self.kind, f"sample-{self.sample}" if self.sample else ""]))

    @property
    def source(self) -> str:
        """What an answer from here is called where it is trained on."""
        return "self" if self.template is None else "rewrite"

    @property
    def folder(self) -> str:
        return f"rewrite/{self.name}".rstrip("/")

    @cached_property
    def rewriter(self) -> Rewriter:
        own, target = self.plan.recipe.rewrite, self.plan.target
        return Rewriter(
            template=None if self.template is None else load_template(self.template),
            grade=target.grade,
            sampling=own.sampling,
            filters=own.filters,
            model=content_id(self.backend, self.plan.answer_settings),
            sample=self.sample,
        )

    @property
    def backend(self) -> str:
        """What answers depend on: on several machines they are those of one."""
        return answering(self.plan.recipe.rewrite.backend, self.model)

    @property
    def model(self) -> ModelConfig:
        """The seed; a rewriting prompt has a separate chat template."""
        return self.plan.recipe.model if self.template is None else self.plan.rewriting_model

    @cached_property
    def generating(self) -> Stage:
        """Completions, which are keyed by all that they depend on."""
        template = self.rewriter.template
        settings = {
            **self.plan.answer_settings,
            **self.plan.recipe.rewrite.model_dump(mode="json", include={"sampling"}),
            "backend": self.backend,
            "template": asdict(template) if template else None,
            **({"sample": self.sample} if self.sample else {}),
        }
        name = f"rewrite/{self.name}".rstrip("/")
        output, inputs = f"{self.folder}/completions.jsonl", (self.plan.data_stage,)
        return Stage(name, output, settings, inputs, guarded=True, by_row=(output,))

    @cached_property
    def verifying(self) -> Stage:
        name = f"verify/{self.name}".rstrip("/")
        output = f"{self.folder}/rewrites.jsonl"
        return Stage(name, output, self.plan.selection_settings, (self.generating,), cheap=True)


@dataclass(frozen=True)
class Responses:
    """The part of a plan that is about the responses that arms train on."""

    plan: Plan

    def rewrites(self, template: str | None = None) -> Candidates:
        """Those of a rewriting template, by default the recipe's."""
        return Candidates(self.plan, template or self.plan.target.template)

    @cached_property
    def own_answers(self) -> Candidates:
        return Candidates(self.plan, None)

    def candidates(self, arm: ArmConfig) -> list[Candidates]:
        """The sets that an arm chooses from, those it prefers first; none where it trains on the originals alone. With
        `best_of` they are draws, of which a larger number shares those of a smaller."""
        if not arm.uses:
            return []
        rewrites = self.rewrites(arm.template)
        if arm.best_of:
            return [replace(rewrites, sample=n) for n in range(arm.best_of)]
        sets = {"self": [self.own_answers], "cascade": [self.own_answers, rewrites]}
        return sets.get(str(arm.data), [rewrites])

    def choices_stage(self, arm: ArmConfig) -> Stage | None:
        """What makes the file that has for each example the response to train on; None for the originals alone."""
        sets = self.candidates(arm)
        inputs = tuple(candidates.verifying for candidates in sets)
        if len(sets) < 2:
            return inputs[0] if inputs else None
        name = "-".join(filter(None, [f"best-{arm.best_of}" if arm.best_of else "cascade", sets[-1].kind]))
        # What the inputs depend on is said here too, so that a change of it is named.
        settings = {**self.plan.selection_settings, **(self.scoring_settings if arm.best_of else {})}
        output = f"rewrite/{name}.jsonl"
        if not arm.best_of:
            return Stage(f"choose/{name}", output, settings, inputs, cheap=True)
        scores = (f"rewrite/{name}-likelihoods.jsonl",)
        return Stage(f"choose/{name}", output, settings, inputs, cheap=True, beside=scores, by_row=scores)

    @property
    def scoring_settings(self) -> dict[str, Any]:
        """What the likelihoods depend on by which `best_of` chooses."""
        return self.plan.answer_settings | {"score_dtype": self.plan.recipe.model.score_dtype}

    @property
    def chosen(self) -> list[ArmConfig]:
        """The arms that train on answers of the seed, one for each choice among them."""
        arms = [(self.choices_stage(arm), arm) for arm in self.plan.recipe.arms.values()]
        return list({stage.name: arm for stage, arm in arms if stage}.values())

    @property
    def stages(self) -> list[Stage]:
        """Those of SDFT, and those that some arm needs beyond them. Raises RecipeError where two would be one file."""
        sets = [self.rewrites(), *(each for arm in self.chosen for each in self.candidates(arm))]
        made = [stage for each in sets for stage in (each.generating, each.verifying)]
        made += [stage for arm in self.chosen if (stage := self.choices_stage(arm))]
        stages = {stage.name: stage for stage in made}
        if doubled := [stage.name for stage in made if stage.fingerprint != stages[stage.name].fingerprint]:
            raise RecipeError(f"Two rewriting templates would share {doubled[0]}; give their files different names.")
        return list(stages.values())
