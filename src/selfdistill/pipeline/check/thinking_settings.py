"""The part of `check` that is about a model that thinks: what happens to think blocks, and their limits."""

from __future__ import annotations

from collections.abc import Iterator

from ...backends import answering_class
from ..context import Context
from ..reasoning import decided, takes_own_answers


def reasoning_lines(context: Context) -> Iterator[str]:
    """What happens to the think blocks of a model that thinks."""
    recipe = context.recipe
    if not context.thinks:
        if recipe.model.reasoning == "off":
            yield "thinking  turned off in rewriting, training and evaluation (model.reasoning: off)"
        return
    mask = recipe.model.reasoning == "mask"
    brought = "stands before the answer and is not trained on" if mask else "is trained on as part of the response"
    yield (
        f"thinking  the model thinks before it answers; reasoning in rows {brought}; originals without reasoning are "
        "trained after an empty think block that is not trained on"
    )
    if any(decided(context, arm) == "own" and arm.answers for arm in recipe.arms.values()):
        first = "(1) the seed's own trace and answer, if the answer passes"
        if not takes_own_answers(recipe):
            first = "(1) left out: no grader compares an answer with the reference (rewrite.own_unchecked takes it)"
        yield (
            f"          own: {first}; (2) a guided rewrite with a trace that does not mention the reference; (3) the "
            "original answer"
        )


def reasoning_warnings(context: Context) -> Iterator[str]:
    """Warnings about the limits of think traces, and about settings without effect."""
    recipe = context.recipe
    if not context.thinks:
        named = [f"arms.{name}" for name, arm in recipe.arms.items() if arm.reasoning]
        if recipe.model.reasoning in ("own", "mask"):
            named.insert(0, "model")
        if named:
            yield f"`reasoning` of {', '.join(named)} has no effect, as the model does not think before it answers."
        return
    samplings = {"rewrite.sampling": recipe.rewrite.sampling, "evaluate.sampling": recipe.evaluate.sampling}
    if shared := [name for name, sampling in samplings.items() if sampling.max_thinking_tokens is None]:
        yield (
            f"The model thinks, and max_thinking_tokens is not set in {' and '.join(shared)}: a think trace and its "
            "answer share the limit of max_new_tokens, so a long trace leaves no answer."
        )
    engines = {"rewrite": recipe.rewrite.backend, "evaluate": recipe.evaluate.backend}
    if others := [
        name for name, backend in engines.items() if not answering_class(backend, recipe.model).limits_traces
    ]:
        yield (
            f"The engine of {' and '.join(others)} has one limit for a think trace and its answer together, the sum of "
            "max_thinking_tokens and max_new_tokens; only hf limits each by itself."
        )
