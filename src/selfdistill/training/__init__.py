"""Fine-tuning (eq. 2 and 5 of the paper): from an arm's responses to an adapter or full weights, by TRL's trainer.

The rows are tokenised by `prompts.Renderer` and handed over with their labels, so that TRL applies no template, cuts
nothing and masks nothing of its own. With `setup` and `models` the only importer of trl and peft.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExperimentError, RecipeError
from ..measure.likelihood import loaded_to_score, score_tokens
from ..models.loading import (
    copy_generation_settings,
    free_memory,
    load_config,
    load_context_length,
    load_model,
    load_renderer,
    pick_device,
    pick_dtype,
    without_generation_settings,
)
from ..recipe import ModelConfig, TrainConfig
from ..store.identity import chat_template_identity, model_identity
from ..store.rows import file_checksum, write_json
from ..types import Example
from .guard import clear_errors, quiet, recomputing_if_needed, refuse_leaks
from .log import Progress, checkpoint_step, last_checkpoint, last_epoch_loss, measured, recorder
from .sequences import TrainingData, hashed, mask_unlikely, prepare
from .setup import load_weights, lora_config, refused, sft_config, unpadded_on_cpu
from .stop import saving_on_sigterm
from .trainer import trainer_class

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..models.renderer import Renderer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What was trained, and on what.

    Each of the `rows` is one response with its prompt. `sequences` of them were trained on, `tokens` tokens in all,
    `trained_tokens` of them with loss. `too_long` rows were over the limit and `untrained` rows had no token to train
    on; if the recipe allowed that, `cut` rows were shortened and `dropped` rows left out. `masked_tokens` lost their
    loss to `mask_above`, and with them `masked_rows` sequences all of it. `loss` is the mean over the last epoch.
    `seconds`, `tokens_per_second`, `flops_per_second` (see `flops.py`), `mfu` (its share of the GPUs' peak, if that is
    known) and `peak_memory_gib` are of the process that finished the training, from step `resumed_from` on;
    `gradient_checkpointing` is whether it recomputed activations. `weights` are the checksums of the files in `model/`.
    """

    steps: int
    epochs: float
    loss: float
    rows: int
    sequences: int
    tokens: int
    trained_tokens: int
    too_long: int
    untrained: int
    cut: int
    dropped: int
    parameters: int
    trained_parameters: int
    seconds: float
    tokens_per_second: float
    peak_memory_gib: float
    resumed_from: int
    device: str
    dtype: str
    attention: str
    fingerprint: str
    settings: Mapping[str, Any]
    masked_tokens: int = 0
    masked_rows: int = 0
    flops_per_second: float = 0.0
    mfu: float | None = None
    gradient_checkpointing: bool = False
    weights: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> TrainResult:
        return cls(**row)


def train(
    examples: Iterable[Example],
    model: ModelConfig,
    settings: TrainConfig,
    directory: Path,
    on_progress: Progress | None = None,
) -> TrainResult:
    """Fine-tunes `model` on the `reference` of each example, given its `prompt`. Writes to `directory`: `train.jsonl`
    (a row per logged step), `model/` (an adapter, or full weights in the dtype they were trained in), with `merge` the
    adapter's full weights in `merged/`, and last `train.json`, the result.

    Goes on from the last whole checkpoint after a kill, and returns at once where `train.json` is there. `on_progress`
    is called with step, total steps and loss. A step sees `batch_size` rows, whatever their lengths, so that arms with
    as many rows take as many steps.

    Raises DataError (no rows), ModelError, RecipeError (settings that don't fit the model or TRL), StageError (unusable
    rows, a diverging loss, out of memory) and ExperimentError (a directory that can't be written, or holds another
    training).
    """
    renderer = load_renderer(model)
    digest = hashlib.blake2b(_described(model, settings, renderer).encode(), digest_size=8)
    with clear_errors(directory), quiet():
        if _is_finished(directory):
            for _ in hashed(examples, digest):
                pass
            result = _finished(directory, digest.hexdigest())
            _merge(model, settings, result.dtype, directory)
            return result
        limit = min(settings.max_length, load_context_length(model) or settings.max_length)
        data = prepare(hashed(examples, digest), renderer, limit, settings.allow_unusable_rows)
        if settings.mask_above is not None:
            with loaded_to_score(model) as seed:
                scores = score_tokens((ids.tolist() for ids in data.input_ids), seed, model.batch_tokens)
                mask_unlikely(data, scores, settings.mask_above)
        checkpoints, log = directory / "checkpoints", directory / "train.jsonl"
        checkpoints.mkdir(parents=True, exist_ok=True)
        fingerprint = digest.hexdigest()

        def run(recompute: bool) -> tuple[Any, dict[str, Any]]:
            own = settings.model_copy(update={"gradient_checkpointing": recompute})
            checkpoint = last_checkpoint(checkpoints, fingerprint)
            trainer = _trainer(data, renderer.tokenizer, model, own, checkpoints)
            record = recorder(log, fingerprint, on_progress)
            trainer.add_callback(record)
            started = time.perf_counter()
            with saving_on_sigterm(trainer):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            seconds, lengths = time.perf_counter() - started, map(len, data.input_ids)
            told = measured(trainer, record.tokens_at_start, seconds, lengths)
            return trainer, {**told, "resumed_from": checkpoint_step(checkpoint) if checkpoint else 0}

        trainer, told = recomputing_if_needed(run, settings.gradient_checkpointing)
        result = TrainResult(
            **data.counts(),
            **told,
            loss=last_epoch_loss(log),
            fingerprint=fingerprint,
            settings=settings.model_dump(mode="json"),
        )
        _export(trainer, model, renderer.tokenizer, directory / "model")
        result = replace(result, weights=_weights(directory / "model"))
        main_process = trainer.is_world_process_zero()
        del trainer
        free_memory()
        if main_process:
            _merge(model, settings, result.dtype, directory)
            write_json(directory / "train.json", result.to_json())
            shutil.rmtree(checkpoints)
        return result


def _described(model: ModelConfig, settings: TrainConfig, renderer: Renderer) -> str:
    """All that decides the weights, apart from the rows; the date too, if the chat template writes it."""
    parts = [model_identity(model), chat_template_identity(model), model.template_kwargs]
    parts += [renderer.template.day.isoformat()] if renderer.template.formats else []
    parts += [model.score_dtype] if settings.mask_above is not None else []
    return json.dumps([*parts, settings.deciding("train")], sort_keys=True)


def _weights(folder: Path) -> dict[str, str]:
    return {path.name: file_checksum(path) for path in sorted(folder.glob("*.safetensors"))}


def _is_finished(directory: Path) -> bool:
    """Whether train.json is there, and the weights as it says; else the training starts over."""
    try:
        weights = json.loads((directory / "train.json").read_text(encoding="utf-8")).get("weights")
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError):
        return True  # `_finished` says so
    if weights in (None, _weights(directory / "model")):
        return True
    _log.warning("The weights in %s are not as they were written; trained again.", directory / "model")
    (directory / "train.json").unlink()
    return False


def _finished(directory: Path, fingerprint: str) -> TrainResult:
    try:
        result = TrainResult.from_json(json.loads((directory / "train.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ExperimentError(f"{directory}/train.json is damaged; delete it to train again.") from None
    if result.fingerprint != fingerprint:
        raise ExperimentError(
            f"{directory} holds a finished training with other data, model or settings; train in another folder, or "
            "delete it to start over."
        )
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    return result


def _trainer(
    data: TrainingData,
    tokenizer: PreTrainedTokenizerBase,
    model: ModelConfig,
    settings: TrainConfig,
    checkpoints: Path,
) -> Any:
    """TRL's trainer over the loaded model, ready to train."""
    from datasets import Dataset
    from transformers import PrinterCallback

    device = pick_device(model.device)
    dtype = pick_dtype(settings.dtype, device)
    unpadded = unpadded_on_cpu(settings, load_config(model)) if device == "cpu" else False
    config = sft_config(settings, device, dtype, unpadded, len(data.input_ids), checkpoints)
    weights = load_weights(model, settings, device, dtype, unpadded)
    config_as_loaded = copy.deepcopy(weights.config)
    adapter = None if settings.method == "full" else lora_config(settings.adapter, weights)
    try:
        trainer: Any = trainer_class()(
            model=weights,
            args=config,
            train_dataset=Dataset.from_dict({"input_ids": data.input_ids, "labels": data.labels}),
            processing_class=copy.deepcopy(tokenizer),  # TRL gives it a padding token
            peft_config=adapter,
        )
    except ValueError as error:
        raise RecipeError(refused(error)) from error
    trainer.remove_callback(PrinterCallback)
    trainer.config_as_loaded = config_as_loaded
    if trainer.padding_free:
        refuse_leaks(trainer)
    return trainer


def _export(trainer: Any, model: ModelConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Adapter or weights as safetensors, tokenizer, configuration as loaded."""
    weights = trainer.accelerator.unwrap_model(trainer.model)
    weights.config = trainer.config_as_loaded
    without_generation_settings(weights)
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))  # a collective where several processes share the weights
    if not trainer.is_world_process_zero():
        return
    tokenizer.save_pretrained(folder)
    if (folder / "generation_config.json").exists():  # not beside an adapter
        copy_generation_settings(model, folder)
    for name in ("training_args.bin", "README.md"):
        (folder / name).unlink(missing_ok=True)


def _merge(model: ModelConfig, settings: TrainConfig, dtype: str, directory: Path) -> None:
    """The adapter in `model/` put into full weights, where the settings ask for them and they aren't there yet."""
    import torch

    if not settings.merge or settings.method == "full" or (directory / "merged").is_dir():
        return
    on_cpu = model.model_copy(update={"device": "cpu"})
    base: Any = load_model(on_cpu, str(directory / "model"), getattr(torch, dtype))
    partial = directory / "merged.partial"
    merged = base.merge_and_unload()
    without_generation_settings(merged)
    merged.save_pretrained(partial)
    copy_generation_settings(model, partial)
    load_renderer(model).tokenizer.save_pretrained(partial)
    partial.rename(directory / "merged")
