"""The trainer `sft`: cross-entropy on the response tokens (eq. 2 and 5 of the paper), by TRL's SFTTrainer.

The rows are tokenised by our `Renderer` and passed with their labels, so that TRL applies no template, cuts nothing and
masks nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, StageError
from ..measure.likelihood import loaded_to_score, score_tokens
from ..models.cpu import TRAIN_ATTENTION, fits, response_loss
from ..models.loading import load_config, load_context_length, pick_device, pick_dtype
from ..models.renderer import Renderer
from ..recipe import ModelConfig, TrainConfig
from ..types import Example
from .guard import process_count, refuse_leaks
from .sequences import IGNORED, TrainingData, mask_unlikely, prepare
from .weights import check_targets, load_weights, lora_config, turn_dropout_off

if TYPE_CHECKING:
    import torch


# The settings of SFTConfig that `train` has keys for, or that our rows need.
_OURS = (
    "output_dir", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps",
    "num_train_epochs", "max_steps", "max_length", "weight_decay", "router_aux_loss_coef", "gradient_checkpointing",
    "packing", "packing_strategy", "save_steps", "seed", "data_seed", "bf16", "fp16", "use_cpu", "disable_tqdm",
    "include_num_input_tokens_seen", "logging_nan_inf_filter", "report_to",
)  # fmt: skip


class SFT:
    """Implements `Trainer`."""

    def settings(self, settings: TrainConfig) -> dict[str, Any]:
        return settings.deciding("train")

    def lacks(self, settings: TrainConfig, model: ModelConfig) -> list[str]:
        lacking = []
        if settings.method == "qlora" and find_spec("bitsandbytes") is None:
            lacking.append("QLoRA needs bitsandbytes; `pip install selfdistill[qlora]` installs it.")
        try:
            _check_extra(settings.extra)
            _accumulation(settings, (settings.launch and settings.launch.processes) or 1)
            if settings.method != "full":
                check_targets(settings.adapter, model)
        except RecipeError as error:
            lacking.append(str(error))
        return lacking

    def prepare(
        self, examples: Iterable[Example], renderer: Renderer, model: ModelConfig, settings: TrainConfig
    ) -> TrainingData:
        limit = min(settings.max_length, load_context_length(model) or settings.max_length)
        data = prepare(examples, renderer, limit, settings.allow_unusable_rows)
        if settings.mask_above is not None:
            with loaded_to_score(model) as seed:
                scores = score_tokens((ids.tolist() for ids in data.input_ids), seed, model.batch_tokens)
                mask_unlikely(data, scores, settings.mask_above)
        return data

    def build(
        self, data: TrainingData, tokenizer: Any, model: ModelConfig, settings: TrainConfig, checkpoints: Path
    ) -> Any:
        from datasets import Dataset
        from transformers import PrinterCallback

        device = pick_device(model.device)
        dtype = pick_dtype(settings.dtype, device)
        unpadded = unpadded_on_cpu(settings, load_config(model)) if device == "cpu" else False
        config = sft_config(settings, device, dtype, unpadded, len(data.input_ids), checkpoints)
        weights = load_weights(model, settings, device, dtype, unpadded)
        config_as_loaded = copy.deepcopy(weights.config)
        turn_dropout_off(weights)
        adapter = None if settings.method == "full" else lora_config(settings.adapter, weights)
        try:
            trainer: Any = response_trainer()(
                model=weights,
                args=config,
                train_dataset=Dataset.from_dict({"input_ids": data.input_ids, "labels": data.labels}),
                processing_class=copy.deepcopy(tokenizer),  # TRL sets its padding token
                peft_config=adapter,
            )
        except ValueError as error:
            raise _refused(error) from error
        trainer.remove_callback(PrinterCallback)
        trainer.config_as_loaded = config_as_loaded
        if trainer.padding_free:
            refuse_leaks(trainer)
        return trainer


def unpadded_on_cpu(settings: TrainConfig, config: Any) -> bool:
    """Whether rows are laid end to end instead of padded. True for architectures for which this is known to compute the
    same, unless `train.extra.padding_free` turns it off. Raises RecipeError if the recipe asks for it with another
    architecture."""
    wanted = settings.packing or settings.extra.get("padding_free")
    if fits(config):
        return bool(wanted) or "padding_free" not in settings.extra
    if wanted:
        raise RecipeError(
            f"On a CPU the rows of a {config.model_type} model are padded, because it is not known to compute the same "
            "with rows laid end to end; set train.packing=false and leave train.extra.padding_free out."
        )
    return False


def sft_config(
    settings: TrainConfig, device: str, dtype: torch.dtype, unpadded: bool, sequences: int, checkpoints: Path
) -> Any:
    """TRL's SFTConfig. `extra` overrides our defaults, but not our settings. Raises RecipeError and StageError."""
    import torch
    from trl import SFTConfig

    ours = {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": _accumulation(settings, process_count()),
        "learning_rate": settings.lr,
        "warmup_steps": settings.warmup,  # transformers reads a value below 1 as a ratio
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "max_length": None,  # rows are shortened already
        "weight_decay": settings.weight_decay,
        "router_aux_loss_coef": settings.router_loss,  # by default TRL takes the value of the model's configuration
        "gradient_checkpointing": settings.gradient_checkpointing,
        "packing": False,  # TRL fills packs up, so the number of steps would depend on the rows' lengths
        "packing_strategy": "bfd",
        "save_steps": settings.save_every,
        **dict.fromkeys(("seed", "data_seed"), settings.seed),
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "use_cpu": device == "cpu",
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "all" if unpadded or settings.packing else "non_padding",
        "logging_nan_inf_filter": False,  # the filter would show the mean loss instead of NaN
        "report_to": "none",  # `tracking` adds the trackers' callbacks
    }
    schedule = "constant_with_warmup" if settings.schedule == "constant" and settings.warmup else settings.schedule
    steps = settings.max_steps or settings.epochs * sequences / settings.batch_size
    defaults = {
        "padding_free": unpadded or settings.packing,
        "lr_scheduler_type": schedule,
        "logging_steps": 1 if steps <= 10_000 else 10,
        "save_total_limit": 2,
        "dataloader_pin_memory": device.startswith("cuda"),
        "ddp_find_unused_parameters": False,
        "log_level": "error",
        # Trackio's callback would make a public Space for an upload to the hub.
        **({"trackio_static_space_id": False} if "trackio_static_space_id" in SFTConfig.__dataclass_fields__ else {}),
    }
    _check_extra(settings.extra)
    if ours.keys() != set(_OURS):
        raise RuntimeError("_OURS names other settings than the ones that are set here")
    try:
        config = SFTConfig(**{**defaults, **settings.extra, **ours})
    except (ValueError, TypeError) as error:
        raise _refused(error) from error
    if config.n_gpu > 1:
        raise StageError(
            f"{config.n_gpu} GPUs are visible to one process; set train.launch.processes={config.n_gpu}, or choose one "
            "with CUDA_VISIBLE_DEVICES=0."
        )
    return config


def _accumulation(settings: TrainConfig, processes: int) -> int:
    """The micro-batches of a step in each process. Raises RecipeError if they don't add up to `batch_size`."""
    accumulation, rest = divmod(settings.batch_size, settings.micro_batch_size * processes)
    if rest:
        raise RecipeError(
            f"train.batch_size {settings.batch_size} is not a multiple of train.micro_batch_size "
            f"{settings.micro_batch_size} times {processes} processes; change one of them."
        )
    return accumulation


def _check_extra(extra: Iterable[str]) -> None:
    if not extra:
        return
    from trl import SFTConfig

    known = [field.name for field in dataclasses.fields(SFTConfig)]
    for key in extra:
        if key in _OURS:
            raise RecipeError(
                f"train.extra.{key} is set by train's own settings; change those, and remove train.extra.{key}."
            )
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {near[0]}?" if near else "remove it."
            raise RecipeError(f"train.extra.{key} is not a setting of TRL's SFTConfig; {advice}")


def _refused(error: Exception) -> RecipeError:
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return RecipeError(f"TRL refuses these settings ({reason}); change them in train or train.extra.")


def response_trainer() -> Any:
    """A subclass of SFTTrainer with a faster loss on a CPU, and epochs that do not depend on the number of processes.
    A function, because TRL is imported late."""
    from datasets import Dataset, concatenate_datasets
    from trl import SFTTrainer

    class ResponseTrainer(SFTTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            rows: Any = self.train_dataset
            self.rows = len(rows)
            if self.args.world_size > 1:
                blank = Dataset.from_dict({"input_ids": [[0]], "labels": [[IGNORED]]}, features=rows.features)
                self.train_dataset: Any = concatenate_datasets([rows, blank])

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            config, args = self.model.config, self.args
            plain = args.loss_type == "nll" and not args.label_smoothing_factor and not self.aux_loss_enabled
            if config._attn_implementation == TRAIN_ATTENTION and plain and num_items_in_batch is not None:
                vocabulary = config.get_text_config().vocab_size
                loss = response_loss(model, inputs, num_items_in_batch, vocabulary)
                if loss is not None:
                    return loss * (args.world_size if args.average_tokens_across_devices else 1)
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if self.args.world_size == 1 or self.args.train_sampling_strategy != "random":
                return super()._get_train_sampler(train_dataset)
            return EvenRows(self.rows, self.args.data_seed, self.args.train_batch_size * self.args.world_size)

    return ResponseTrainer


class EvenRows:
    """The row order of a single process, filled up with the blank row (index `rows`) to a multiple of `multiple`, so
    that all processes have the same number of rows. Without the blank rows accelerate repeats the first rows, and the
    last step of an epoch differs from the last step of a single process."""

    def __init__(self, rows: int, seed: int, multiple: int) -> None:
        from accelerate.data_loader import SeedableRandomSampler

        self.order = SeedableRandomSampler(range(rows), data_seed=seed)
        self.blank = [rows] * (-rows % multiple)

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from self.blank

    def __len__(self) -> int:
        return len(self.order) + len(self.blank)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)
