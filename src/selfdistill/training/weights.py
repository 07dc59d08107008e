"""The weights of a training: load them, put a LoRA adapter on them, export them, merge the adapter."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RecipeError, StageError
from ..models.cpu import register_attention
from ..models.loading import (
    copy_generation_settings,
    load_config,
    load_model,
    load_renderer,
    without_generation_settings,
)
from ..recipe import Adapter, ModelConfig, TrainConfig
from .footprint import has_modules, weight_shapes

if TYPE_CHECKING:
    import torch


def load_weights(model: ModelConfig, settings: TrainConfig, device: str, dtype: torch.dtype, unpadded: bool) -> Any:
    """The model on `device`. Weights are stored in float32 and computed in `dtype`; on a GPU a frozen base is also
    stored in `dtype`. With FSDP the weights stay on the CPU unless they are quantised, so that no GPU holds the whole
    model; ZeRO-3 distributes the weights while they load. Raises ModelError and StageError (QLoRA is not possible on
    this machine)."""
    import torch

    options: dict[str, Any] = {}
    if unpadded:
        # Padded training keeps the attention that answering and scoring use: for some architectures two
        # implementations differ (Falcon's ALiBi).
        options["attn_implementation"] = register_attention()
    if settings.method == "qlora":
        from transformers import BitsAndBytesConfig
        from transformers.utils import is_bitsandbytes_available

        if not device.startswith("cuda") or not is_bitsandbytes_available():
            raise StageError(
                "QLoRA needs an NVIDIA GPU and bitsandbytes; install selfdistill[qlora] on a machine with such a GPU, "
                "or set train.method=lora."
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


def turn_dropout_off(weights: Any) -> None:
    """Sets the model's own dropout rates to 0, as they are in the paper's Llamas. Elsewhere (GPT-2, OPT) they may be
    positive, and the trained weights would depend on the micro-batches."""
    from torch.nn.modules.dropout import _DropoutNd

    for holder in (weights.config, weights.config.get_text_config(), *weights.modules()):
        for name, value in list(vars(holder).items()):
            rate = "drop" in name or (name == "p" and isinstance(holder, _DropoutNd))
            if rate and isinstance(value, float):
                setattr(holder, name, 0.0)


def lora_config(adapter: Adapter, weights: Any) -> Any:
    """PEFT's LoraConfig. Raises RecipeError if a target is not a linear module of the model, or is its head."""
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
                + f"; it has {', '.join(names)}. Choose from these, or write all-linear."
            )
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.targets,
        task_type="CAUSAL_LM",
    )


def check_targets(adapter: Adapter, model: ModelConfig) -> None:
    """Raises RecipeError as `lora_config` does, without loading weights. If the model can't be read, loading it will
    say so."""
    if adapter.targets == "all-linear" or has_modules(weight_shapes(model), adapter.targets):
        return
    import torch
    from transformers import AutoModelForCausalLM

    try:
        config = load_config(model)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    except (ModelError, OSError, ValueError, KeyError, TypeError, RuntimeError):
        return
    lora_config(adapter, empty)


def export(trainer: Any, model: ModelConfig, tokenizer: Any, folder: Path) -> None:
    """Write the adapter or the full weights as safetensors, the tokenizer, and the configuration as it was loaded."""
    weights = trainer.accelerator.unwrap_model(trainer.model)
    weights.config = trainer.config_as_loaded
    without_generation_settings(weights)
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))  # a collective operation if several processes share the weights
    if not trainer.is_world_process_zero():
        return
    tokenizer.save_pretrained(folder)
    if (folder / "generation_config.json").exists():  # an adapter has none
        copy_generation_settings(model, folder)
    for name in ("training_args.bin", "README.md"):
        (folder / name).unlink(missing_ok=True)


def merge(model: ModelConfig, settings: TrainConfig, dtype: str, directory: Path) -> None:
    """Write the full weights of the adapter in `model/` to `merged/`, if `settings.merge` is on and none exist."""
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
