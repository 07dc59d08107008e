"""All stages of a recipe, in the order of the run."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends import check_backend
from ..errors import RecipeError
from ..store.stage import Stage
from .choose import choice_stages
from .context import Context
from .data import data_stage
from .evaluate import evaluate_stages
from .gap import gap_stage
from .heldout_loss import loss_stages
from .rewrite import rewrite_stages
from .shift import shift_stages
from .train import train_stages


def stages_of(context: Context) -> list[Stage]:
    """All stages of a recipe that can stop a run, in order. Raises RecipeError if a name in the recipe is
    wrong or two stages would write one file, before any paid request."""
    for model, backend in context.engines:
        check_backend(backend, model)
    if context.recipe.evaluates_only:
        return [*evaluate_stages(context), *loss_stages(context), *shift_stages(context)]
    gap = gap_stage(context)
    stages = [
        data_stage(context),
        *rewrite_stages(context),
        *choice_stages(context),
        *([gap] if gap else []),
        *train_stages(context),
        *evaluate_stages(context),
        *loss_stages(context),
        *shift_stages(context),
    ]
    _refuse_shared_files(stages)
    return stages


def _refuse_shared_files(stages: Sequence[Stage]) -> None:
    writers: dict[str, Stage] = {}
    for stage in stages:
        for file in (stage.output, *stage.other_outputs):
            if writers.setdefault(file, stage).fingerprint != stage.fingerprint:
                raise RecipeError(
                    f"Two arms would write {file}: it is named after a rewriting template's file. Give the templates' "
                    "files different names."
                )
