"""Thinking models: how each arm trains the think block before an answer.

With `own`, the answers of an arm that trains on answers of the seed come in three steps: (1) the seed's own trace and
answer, without the reference, if the answer passes; (2) a guided rewrite with its trace, if that does not mention the
reference; (3) the original answer, after its own trace if the row has one, else after an empty block that is not
trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..recipe import ArmConfig, Recipe
from ..recipe.data import grader_names
from ..store.experiment import Experiment
from ..types import Thought
from .context import Context

Decision = Literal["own", "mask", "empty", "off"]
"""The values of arms.NAME.reasoning."""
LABELS: Mapping[Decision, str] = {
    "own": "think traces trained, empty blocks masked",
    "mask": "think blocks masked",
    "empty": "empty think blocks trained on purpose",
    "off": "thinking turned off",
}


def decided(context: Context, arm: ArmConfig) -> Decision | None:
    """How an arm trains think blocks; None if the model does not think. An interpolated arm is as the arm it comes
    from."""
    arm = context.recipe.trained_arm(arm)
    if not arm.trained or not context.thinks:
        return None
    return arm.reasoning or ("mask" if context.recipe.model.reasoning == "mask" else "own")


def thinks(context: Context, arm: ArmConfig) -> bool:
    """Whether the answers of an arm come with think traces. A checkpoint's own chat template decides."""
    if arm.kind.weights == "given":
        return context.thinks_with(context.given(arm)[0])
    return context.thinks and context.recipe.trained_arm(arm).reasoning != "off"


def takes_own_answers(recipe: Recipe) -> bool:
    """Whether step 1 is taken: a grader compares an answer with the reference, or the recipe does without."""
    grader = recipe.rewrite.grader
    graded = recipe.task is not None if grader is None else bool({*grader_names(grader)} - {"none"})
    return graded or recipe.rewrite.own_unchecked


def thought_of(how: Decision | None, source: str, thought: Thought | None) -> Thought | None:
    """The think block of a training row. `thought` is the trace of its response: the row's own for an original, the
    seed's for other sources."""
    if how is None or how == "off":
        return None
    if how == "empty":
        return Thought()
    if how == "mask":
        kept = thought.text if thought and source in ("original", "replay") else ""
        return Thought(kept, trained=False)
    return thought or Thought(trained=False)


def count_thought(thought: Mapping[str, Any] | None) -> str | None:
    """The name under which a training row is counted: by its think block."""
    if thought is None:
        return None
    return "masked" if not thought["trained"] else "traces" if thought["text"] else "empty"


def differs_in_blocks(context: Context, arm: str, baseline: str, brought: int) -> bool:
    """Whether two arms differ in their think blocks, so that they don't differ in their data alone. `brought` counts
    the training turns that hold reasoning."""
    mine, other = (context.recipe.trained_arm(context.recipe.arms[name]) for name in (arm, baseline))
    how = decided(context, mine)
    if how == "own":
        return bool(mine.answers)  # the originals have no traces, or other ones
    return how != decided(context, other) and not (how == "mask" and decided(context, other) == "own" and not brought)


def reasoning_use(context: Context) -> dict[str, str]:
    """What happens to the reasoning that rows bring, as a count of the data: trained, masked, off, or left out (empty
    if the model does not think)."""
    if context.thinks:
        return {"reasoning_use": "masked" if context.recipe.model.reasoning == "mask" else "trained"}
    return {"reasoning_use": "off"} if context.recipe.model.reasoning == "off" else {}


def blocks_of(experiment: Experiment, context: Context, arm: str) -> dict[str, Any]:
    """How an arm trains think blocks: its decision, the sources of its rows (for `own` the three steps) and the kinds
    of their blocks. Both are empty before the training."""
    counts = experiment.counts(f"train/{context.runs_of(arm)[0].name}")
    how = decided(context, context.recipe.arms[arm])
    return {
        "reasoning": how,
        "steps": how == "own" and bool(context.recipe.arms[arm].answers),
        "sources": counts.get("sources", {}),
        "blocks": counts.get("think_blocks", {}),
    }
