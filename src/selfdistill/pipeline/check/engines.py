"""The part of `check` that is about engines: what the backends need and is missing here."""

from __future__ import annotations

from collections.abc import Iterator

from ...backends import open_backend
from ...backends.cluster import ray_missing
from ...backends.engine import LARGEST_RANK, vllm_missing
from ...errors import SelfDistillError
from ..plan import Plan


def engine_needs(plan: Plan) -> Iterator[str]:
    """What a run would stop for once it needs an engine, a sentence each; starts none."""
    recipe = plan.recipe
    for model, backend in plan.asked:
        if backend == "ray":
            yield from ray_missing(model.ray)
        # What the nodes of another cluster have installed can't be seen from here.
        if model.answering(backend) == "vllm" and (backend != "ray" or model.ray.address is None):
            yield from vllm_missing()
        if backend == "openai" and model is recipe.model:
            try:
                open_backend(backend, model)
            except SelfDistillError as error:
                yield str(error)
    if recipe.model.answering(recipe.evaluate.backend) == "vllm":
        for name, arm in recipe.arms.items():
            train = recipe.arm_train(arm)
            adapted = arm.data != "none" and train.method != "full" and not train.merge
            if adapted and train.adapter.r > LARGEST_RANK:
                yield (
                    f"The arm {name} trains an adapter of rank {train.adapter.r}, and vLLM takes up to {LARGEST_RANK}; "
                    "lower train.adapter.r, set train.merge, or set evaluate.backend to hf."
                )
