"""Fine-tuning (eq. 2 and 5 of the paper): from an arm's responses to an adapter or full weights.

`train` reads top to bottom. Each trainer is one object with the steps that differ between trainers. To add a trainer,
write one file with such an object (see `trainer.py`) and add one line to `TRAINERS`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from ..models.loading import free_memory, load_renderer
from ..models.renderer import Renderer
from ..recipe import ModelConfig, TrainConfig
from ..store.identity import chat_template_identity, model_identity
from ..store.rows import write_json
from ..types import Example
from .guard import clear_errors, quiet, recomputing_if_needed
from .log import StepProgress, checkpoint_step, last_checkpoint, last_epoch_loss, measured, recorder
from .result import TrainResult, read_result, weight_checksums
from .sequences import TrainingData, hashed
from .sft import SFT
from .stopped import saving_when_stopped
from .tracking import tracking
from .trainer import Trainer
from .weights import export, merge

TRAINERS: dict[str, Trainer] = {
    "sft": SFT(),
}


def train(
    examples: Iterable[Example],
    model: ModelConfig,
    settings: TrainConfig,
    directory: Path,
    on_progress: StepProgress | None = None,
    trainer: str = "sft",
) -> TrainResult:
    """Fine-tune `model` on the `reference` of each example, given its `prompt`.

    Writes to `directory`: `train.jsonl` (one row per logged step), `model/` (an adapter, or full weights in the dtype
    of the training), `merged/` (full weights of the adapter, if `settings.merge`), and last `train.json`, the result.
    After a kill the training resumes from the last complete checkpoint. A finished training is returned at once.

    `on_progress` receives step, total steps and loss. `trainer` is a name in `TRAINERS`.

    Raises DataError (no rows), ModelError, RecipeError (settings that do not fit), StageError (unusable rows, diverging
    loss, out of memory) and ExperimentError (the directory can't be written, or has another training).
    """
    how, renderer = TRAINERS[trainer], load_renderer(model)
    digest = hashlib.blake2b(_deciding(model, renderer, how.settings(settings)).encode(), digest_size=8)
    hashed_examples = hashed(examples, digest)
    with clear_errors(directory), quiet():
        checkpoints, log = directory / "checkpoints", directory / "train.jsonl"
        if (finished := read_result(directory)) is not None:
            deque(hashed_examples, maxlen=0)  # only for the digest
            _check_same(finished, digest.hexdigest(), directory)
            shutil.rmtree(checkpoints, ignore_errors=True)
            merge(model, settings, finished.dtype, directory)
            return finished
        data, fingerprint = how.prepare(hashed_examples, renderer, model, settings), digest.hexdigest()
        checkpoints.mkdir(parents=True, exist_ok=True)

        def fit(recompute: bool) -> tuple[Any, dict[str, Any]]:
            checkpoint = last_checkpoint(checkpoints, fingerprint)
            chosen = settings.model_copy(update={"gradient_checkpointing": recompute})
            built = how.build(data, renderer.tokenizer, model, chosen, checkpoints)
            record = recorder(log, fingerprint, on_progress or (lambda *_: None))
            budget = _budget(built, model, renderer, settings)
            return built, _fit(built, checkpoint, budget, record, tracking(settings.report_to, directory), data)

        trained, measurements = recomputing_if_needed(fit, settings.gradient_checkpointing)
        export(trained, model, renderer.tokenizer, directory / "model")
        result = TrainResult(
            **data.counts(),
            **measurements,
            loss=last_epoch_loss(log),
            fingerprint=fingerprint,
            settings=settings.model_dump(mode="json"),
            weights=weight_checksums(directory / "model"),
        )
        main_process = trained.is_world_process_zero()
        del trained
        free_memory()
        if main_process:
            merge(model, settings, result.dtype, directory)
            write_json(directory / "train.json", result.to_json())
            shutil.rmtree(checkpoints)
        return result


def _deciding(model: ModelConfig, renderer: Renderer, settings: dict[str, Any]) -> str:
    """Everything that decides the weights except the rows, as JSON. Includes the date if the chat template writes
    it."""
    parts = [model_identity(model), chat_template_identity(model), model.template_kwargs]
    parts += [renderer.template.day.isoformat()] if renderer.template.formats else []
    parts += ["trust_remote_code"] if model.trust_remote_code else []
    parts += [model.score_dtype] if settings.get("mask_above") is not None else []
    return json.dumps([*parts, settings], sort_keys=True)


def _check_same(finished: TrainResult, fingerprint: str, directory: Path) -> None:
    if finished.fingerprint != fingerprint:
        raise ExperimentError(
            f"{directory} holds a finished training with other data, model or settings; train in another folder, or "
            "delete this one to start over."
        )


def _budget(trainer: Any, model: ModelConfig, renderer: Renderer, settings: TrainConfig) -> Any:
    """The callback that holds the training to its budget; None without a budget."""
    if settings.budget is None:
        return None
    from .callback import ForgettingCallback  # its class needs transformers

    return ForgettingCallback(trainer, renderer=renderer, model=model, **settings.budget.model_dump())


def _fit(
    trainer: Any,
    checkpoint: Path | None,
    budget: Any,
    record: Any,
    reports: AbstractContextManager[list[Any]],
    data: TrainingData,
) -> dict[str, Any]:
    """Train to the last step, from `checkpoint` if there is one. `reports` holds the callbacks of trackers. Returns the
    measured fields of `TrainResult`."""
    started = time.perf_counter()
    with reports as trackers, saving_when_stopped(trainer):
        # The recorder comes after the budget, because it marks checkpoints as complete.
        for callback in (*([budget] if budget else []), record, *trackers):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    measurements = measured(trainer, record.tokens_at_start, time.perf_counter() - started, map(len, data.input_ids))
    if budget:
        measurements["budget"] = budget.summary()
    return {**measurements, "resumed_from": checkpoint_step(checkpoint) if checkpoint else 0}


__all__ = ["TRAINERS", "TrainResult", "train"]
