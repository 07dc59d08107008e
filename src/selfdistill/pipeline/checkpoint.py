"""Checkpoints that were made elsewhere, next to the seed: what they are, and whether they read text as the seed does.

Writes arms/RUN/checkpoint.json, so that a report needs no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SelfDistillError
from ..models.adapter import base_of
from ..models.loading import load_renderer
from ..recipe import ModelConfig
from ..store.experiment import Experiment
from ..store.rows import write_json
from ..store.stage import Stage
from ..types import content_id
from .asking import answering_settings
from .context import Context, Run

Form = Mapping[str, str | None]
"""The digests of a model's tokenizer and chat template; None if they are not on this machine."""


def checkpoint_stage(context: Context, run: Run) -> Stage:
    settings = answering_settings(context, run)
    return Stage(f"checkpoint/{run.name}", f"arms/{run.name}/checkpoint.json", settings, on_change="rerun")


def describe_checkpoints(experiment: Experiment, context: Context) -> None:
    """Writes what each checkpoint is."""
    for run in context.runs.values():
        if not run.is_given or experiment.finished(stage := checkpoint_stage(context, run)):
            continue
        with experiment.run_stage(stage) as record:
            model, adapter = context.weights_of(run, experiment.directory)
            kind = "served" if model.server else "adapter" if adapter else "weights"
            own = context.once(form_of, model)
            of_seed = context.seed_form or (own if adapter else context.once(form_of, context.recipe.model))
            record.counts = {
                "kind": kind,
                "path": context.model_of(run.config).path,
                "base": base_of(adapter) if adapter else None,
                "same_tokenizer": _same(own, of_seed, "tokenizer"),
                "same_template": _same(own, of_seed, "template"),
                "same_sampling": not run.config.sampling,
            }
            write_json(experiment.path(stage.output), record.counts)


def form_of(model: ModelConfig) -> Form:
    """The digests of a model's tokenizer and of the chat template that is applied to it."""
    try:
        renderer = load_renderer(model)
    except SelfDistillError:
        return {"tokenizer": None, "template": None}
    vocabulary = content_id(sorted(renderer.tokenizer.get_vocab().items()))
    template = hashlib.sha256(renderer.template.source.encode()).hexdigest()[:16]
    return {"tokenizer": vocabulary, "template": template}


def _same(one: Form, other: Form, part: str) -> bool | None:
    """Whether two models share a part; None if it is not known of one of them."""
    return None if None in (one[part], other[part]) else one[part] == other[part]


def unlike_seed(context: Context, run: Run) -> str:
    """Why only the texts of a checkpoint and the seed can be compared; empty if their distributions can be too."""
    if not all(map(context.has_weights, (run, context.runs[context.seed_arm]))):
        return f"The KL divergence and the change of the weights need the weights of {run.arm} and of the seed here."
    model, _ = context.weights_of(run, Path())
    if _same(context.once(form_of, model), context.once(form_of, context.recipe.model), "tokenizer") is False:
        return (
            f"{run.arm} has another tokenizer than the seed, so the shift is measured by the texts alone: no KL "
            "divergence and no change of the weights."
        )
    return ""


def checkpoints(experiment: Experiment, context: Context) -> dict[str, Any]:
    """What each checkpoint is, for the verdict."""
    found = {run.name: experiment.counts(f"checkpoint/{run.name}") for run in context.runs.values() if run.is_given}
    return {name: facts for name, facts in found.items() if facts}
