"""The part of `check` that is about engines: what the backends need and is missing here."""

from __future__ import annotations

from collections.abc import Iterator

from ...backends import answering, backend_class
from ..plan import Plan


def engine_needs(plan: Plan) -> Iterator[str]:
    """Yield what a run needs from its engines and would stop for, one sentence each. Starts none."""
    recipe = plan.recipe
    for model, backend in plan.asked:
        kind = backend_class(backend)
        if model is recipe.model or not kind.needs_server:  # what the judge's server needs is checked elsewhere
            yield from kind.missing(model)
    name = answering(recipe.evaluate.backend, recipe.model)
    largest = backend_class(name).largest_rank
    if largest is None:
        return
    for arm_name, arm in recipe.arms.items():
        train = recipe.arm_train(arm)
        adapted = arm.data != "none" and train.method != "full" and not train.merge
        if adapted and train.adapter.r > largest:
            yield (
                f"The arm {arm_name} trains an adapter of rank {train.adapter.r}, and the backend {name} takes up to "
                f"{largest}; lower train.adapter.r, set train.merge, or set evaluate.backend to hf."
            )
