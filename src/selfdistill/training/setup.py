"""From a recipe's `train` to what TRL and PEFT are given: weights, adapter, configuration."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, StageError
from ..models.cpu import fits, register_attention
from ..models.loading import load_model
from ..recipe import Adapter, ModelConfig, TrainConfig

if TYPE_CHECKING:
    import torch


def load_weights(model: ModelConfig, settings: TrainConfig, device: str, dtype: torch.dtype, unpadded: bool) -> Any:
    """Weights are float32, computed with in `dtype`; on a GPU a base that is frozen is held in `dtype` too. FSDP takes
    them, unless they are quantised, from the CPU: a whole model on each GPU is what it is there to avoid. ZeRO-3 shares
    them out as they load."""
    import torch

    options: dict[str, Any] = {}
    if unpadded:
        # Else the one that answers and scores too: of some architectures two implementations differ (Falcon's ALiBi).
        options["attn_implementation"] = register_attention()
    if settings.method == "qlora":
        from transformers import BitsAndBytesConfig
        from transformers.utils import is_bitsandbytes_available

        if not device.startswith("cuda") or not is_bitsandbytes_available():
            raise StageError(
                "QLoRA needs an NVIDIA GPU and bitsandbytes; install selfdistill[qlora] there, or set method=lora."
            )
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": torch.cuda.current_device()}
    held = torch.float32 if settings.method == "full" or device == "cpu" else dtype
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true" and settings.method != "qlora"
    place = model.model_copy(update={"device": "cpu" if sharded else device})
    return load_model(place, dtype=held, **options)


def unpadded_on_cpu(settings: TrainConfig, config: Any) -> bool:
    """Whether rows are laid end to end: for architectures known to compute the same so, unless that is turned off.
    Raises RecipeError if it is asked for with another architecture."""
    wanted = settings.packing or settings.extra.get("padding_free")
    if fits(config):
        return bool(wanted) or "padding_free" not in settings.extra
    if wanted:
        raise RecipeError(
            f"On a CPU the rows of a {config.model_type} model are padded, because it is not known to compute the same "
            "with rows laid end to end; set train.packing=false and leave train.extra.padding_free out."
        )
    return False


def lora_config(adapter: Adapter, weights: Any) -> Any:
    """PEFT's configuration. Raises RecipeError where a target is no linear module of the model, or is its head."""
    from peft import LoraConfig
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear = [name for name, module in weights.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    head = weights.get_output_embeddings()
    names = sorted({name.rpartition(".")[2] for name in linear if weights.get_submodule(name) is not head})
    for target in [] if adapter.targets == "all-linear" else adapter.targets:
        if target not in names and not any(name.endswith("." + target) for name in linear):
            near = difflib.get_close_matches(target, names, n=1)
            raise RecipeError(
                f"train.adapter.targets: the model has no linear module '{target}'"
                + (f" (did you mean {near[0]}?)" if near else "")
                + f"; it has {', '.join(names)}, or write all-linear."
            )
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.targets,
        task_type="CAUSAL_LM",
    )


def sft_config(
    settings: TrainConfig, device: str, dtype: torch.dtype, unpadded: bool, sequences: int, checkpoints: Path
) -> Any:
    """TRL's configuration: what our settings decide, defaults, and over the defaults the user's `extra`."""
    import torch
    from trl import SFTConfig

    processes = process_count()
    accumulation, rest = divmod(settings.batch_size, settings.micro_batch_size * processes)
    if rest:
        raise RecipeError(
            f"train.batch_size {settings.batch_size} is not a multiple of train.micro_batch_size "
            f"{settings.micro_batch_size} times {processes} processes; change one of them."
        )
    steps = settings.max_steps or math.ceil(settings.epochs * sequences / settings.batch_size)
    ours = {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": settings.lr,
        "warmup_steps": settings.warmup,  # below 1 it is a ratio
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "max_length": None,  # rows are cut already
        "weight_decay": settings.weight_decay,
        "router_aux_loss_coef": settings.router_loss,  # left out, TRL adds what the model's configuration says
        "gradient_checkpointing": settings.gradient_checkpointing,
        "packing": False,  # TRL fills packs up, so that the number of steps would depend on the rows' lengths
        "packing_strategy": "bfd",
        "save_steps": settings.save_every,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "use_cpu": device == "cpu",
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "all" if unpadded or settings.packing else "non_padding",
        "logging_nan_inf_filter": False,  # it would show the mean loss in place of NaN
    }
    warmed = "constant_with_warmup" if settings.warmup else "constant"
    defaults = {
        "padding_free": unpadded or settings.packing,
        "lr_scheduler_type": warmed if settings.schedule == "constant" else settings.schedule,
        "logging_steps": 1 if steps <= 10_000 else 10,
        "save_total_limit": 2,
        "dataloader_pin_memory": device.startswith("cuda"),
        "report_to": "none",
        "ddp_find_unused_parameters": False,
        "log_level": "error",
    }
    for key in settings.extra:
        if key in ours:
            raise RecipeError(f"train.extra.{key} is set by train's own settings; change those, and leave it out.")
        known = [field.name for field in dataclasses.fields(SFTConfig)]
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise RecipeError(
                f"train.extra.{key}: TRL's SFTConfig has none" + (f"; did you mean {near[0]}?" if near else ".")
            )
    try:
        config = SFTConfig(**{**defaults, **settings.extra, **ours})
    except (ValueError, TypeError) as error:
        raise RecipeError(refused(error)) from error
    if config.n_gpu > 1:
        raise StageError(
            f"{config.n_gpu} GPUs are visible to one process; set train.launch.processes={config.n_gpu}, or choose one "
            "with CUDA_VISIBLE_DEVICES=0."
        )
    return config


def process_count() -> int:
    """How many processes train together, as accelerate's and torch's launchers tell each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refused(error: Exception) -> str:
    return f"TRL refuses these settings ({str(error).strip().splitlines()[0].rstrip('.')}); see train and train.extra."
