"""The things that a run needs and that are missing here: engines, a sandbox, a judge, lm-eval, a trainer's packages."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..backends import BACKENDS, answering, answering_class, backend_class
from ..errors import SelfDistillError
from ..grading import compares_embeddings
from ..harness import check_installed
from ..models.adapter import base_of, fits
from ..models.embedding import load_encoder
from ..models.loading import check_model_files, pick_device, weights_problem
from ..recipe import ModelConfig, Recipe
from ..recipe.data import grader_names
from ..sandbox import check_sandbox
from ..training import TRAINERS
from ..training.trackers import TRACKERS
from .context import Context, Run

_log = logging.getLogger(__name__)


def missing_here(context: Context, runs: Iterable[Run]) -> list[str]:
    """A sentence for each missing requirement that would stop a run, of which `runs` are still to be trained. Starts no
    engine; the only weights that it loads are those of the embedding model."""
    missing = [*_engine_needs(context), *_checkpoint_needs(context), *training_needs(context, runs)]
    tasks = [each.task for each in context.tasks.values()]
    if context.needs_sandbox:
        try:
            check_sandbox(context.recipe.sandbox)
        except SelfDistillError as error:
            missing.append(str(error))
    for task in tasks:
        try:
            if task.harness:
                check_installed(task.harness.task)
        except SelfDistillError as error:
            missing.append(str(error))
    judge, grader = context.recipe.judge, context.recipe.rewrite.grader
    if judge and (any(task.judge for task in tasks) or "judge" in grader_names(grader)):
        missing += _judge_missing(judge.model, judge.backend)
    if grader and compares_embeddings(grader):
        encoder = load_encoder(context.recipe.shift.embedding, pick_device(context.recipe.model.device))
        missing += [f"The grader similar: {encoder}"] if isinstance(encoder, str) else []
    return list(dict.fromkeys(missing))


def with_known_backends(recipe: Recipe, manifest: Mapping[str, Any]) -> Recipe:
    """The recipe for work that asks no model: an unknown backend is replaced by the backend that the finished stages
    record, else by hf, with a warning."""

    def known(name: str, *stages: str) -> str:
        if name in BACKENDS:
            return name
        records = (record for stage, record in manifest["stages"].items() if stage.partition("/")[0] in stages)
        recorded = (record["settings"].get("backend") for record in records)
        found: str = next((other for other in recorded if other in BACKENDS), "hf")
        _log.warning("There is no backend '%s'; its finished work is reported as that of %s.", name, found)
        return found

    def on_replicas(model: ModelConfig) -> ModelConfig:
        ray = model.ray.model_copy(update={"backend": known(model.ray.backend, "rewrite", "answer")})
        return model.model_copy(update={"ray": ray})

    rewrite = recipe.rewrite.model_copy(update={"backend": known(recipe.rewrite.backend, "rewrite")})
    evaluate = recipe.evaluate.model_copy(update={"backend": known(recipe.evaluate.backend, "answer")})
    judge = recipe.judge
    if judge is not None:
        backend = known(judge.backend, "judge")
        judge = judge.model_copy(update={"backend": backend, "model": on_replicas(judge.model)})
    changes = {"model": on_replicas(recipe.model), "rewrite": rewrite, "evaluate": evaluate, "judge": judge}
    return recipe.model_copy(update=changes)


def training_needs(context: Context, runs: Iterable[Run]) -> Iterator[str]:
    """A sentence for each requirement of the trainings of `runs` that is missing here, or that the model can't meet."""
    model, trained = context.recipe.model, [run.train for run in runs if run.config.trained]
    if trained and model.device.startswith("cuda") and pick_device("auto") != "cuda":
        yield f"model.device is {model.device}, and there is no such GPU here; set it to auto."
    if trained and (problem := weights_problem(model)):
        yield problem
    for settings in trained:
        yield from TRAINERS["sft"].lacks(settings, model)
        yield from filter(None, (TRACKERS[name].lacks() for name in settings.report_to))


def _judge_missing(model: ModelConfig, backend: str) -> Iterator[str]:
    key = model.server and model.server.key_env
    if key and key not in os.environ:
        yield f"The judge's key is read from the environment variable {key}, which is not set; export it."
    if answering_class(backend, model).has_weights:
        try:
            check_model_files(model)
        except SelfDistillError as error:
            yield f"The judge: {error}"


def _checkpoint_needs(context: Context) -> Iterator[str]:
    """A sentence for each checkpoint that is not there, or is an adapter for another model than the seed."""
    for run in context.runs.values():
        if not run.is_given:
            continue
        model = context.model_of(run.config)
        yield from backend_class(context.backend_of(run)).missing(model)
        try:
            _, adapter = context.given(run.config)
            if adapter and not fits(adapter, context.recipe.model):
                yield (
                    f"The adapter {model.path} was trained on {base_of(adapter)}, and the seed is "
                    f"{context.recipe.model.path}; name {base_of(adapter)} as the seed, or correct "
                    "base_model_name_or_path in its adapter_config.json."
                )
            elif not adapter and not model.server:
                check_model_files(model)
        except SelfDistillError as error:
            yield f"{run.arm}: {error}"


def _engine_needs(context: Context) -> Iterator[str]:
    recipe = context.recipe
    for model, backend in context.engines:
        kind = backend_class(backend)
        if context.seed_on_file and model is recipe.model:
            continue
        if model is recipe.model or not kind.needs_server:  # the judge's server is checked in _judge_missing
            yield from kind.missing(model)
    name = answering(recipe.evaluate.backend, recipe.model)
    largest = backend_class(name).largest_rank
    for run in context.runs.values():
        train = run.train
        adapted = run.config.trained and train.method != "full"  # a merged copy is not what is asked
        if largest is not None and adapted and train.adapter.r > largest:
            yield (
                f"The arm {run.arm} trains an adapter of rank {train.adapter.r}, and the backend {name} takes up to "
                f"{largest}; lower train.adapter.r, or set evaluate.backend to hf."
            )
