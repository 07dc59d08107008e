"""Where a model is, what it is, and how it is loaded. The only place that picks device and dtype."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ModelConfig
from .errors import ModelError
from .identity import model_source
from .prompts import Renderer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def check_model_files(model: ModelConfig) -> None:
    """Raises ModelError where a local folder can't be a model. A hub name is not looked up."""
    source = model_source(model)
    folder = Path(source)
    looks_local = source.startswith((".", "/", "~")) or source.count("/") != 1
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no config.json, so it is no model folder; name the folder that does.")
        weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
        if not weights:
            pickled = " (only pickled ones, which are not loaded)" if any(folder.glob("*.bin")) else ""
            raise ModelError(
                f"{folder} holds no safetensors weights{pickled}; download or convert the model, then run again."
            )
    elif looks_local:
        raise ModelError(f"There is no model folder {source}; check model.path, or give a hub name such as org/name.")


def free_memory() -> None:
    """Gives back what a model that is no longer referred to has held, before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says. CUDA has one of its own; the CPU's allocator raises a plain RuntimeError."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def load_renderer(model: ModelConfig, layout: str | None = None) -> Renderer:
    """The model's tokenizer with the recipe's layout (or `layout`). Loads no weights. Raises ModelError."""
    from transformers import AutoTokenizer, GenerationConfig

    check_model_files(model)
    source = model_source(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except Exception as error:  # the tokenizers library raises plain Exception for a file it can't read
        raise ModelError(load_advice("tokenizer", model, error)) from error
    try:
        stop = GenerationConfig.from_pretrained(source, revision=model.revision).eos_token_id
    except OSError:
        stop = None
    stop_ids = stop if isinstance(stop, list) else [] if stop is None else [stop]
    return Renderer(tokenizer, layout or model.layout, model.template_kwargs, stop_ids)


def context_length(config: Any) -> int | None:
    """How many tokens a model's position range holds, None where its configuration doesn't say."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


def load_context_length(model: ModelConfig) -> int | None:
    """`context_length` without the weights."""
    return context_length(load_config(model))


def load_config(model: ModelConfig) -> Any:
    """The model's configuration. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            model_source(model), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(load_advice("configuration", model, error)) from error


def pick_device(name: str) -> str:
    """`auto` is the GPU where there is one."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(name: str, device: str) -> torch.dtype:
    """`auto` is bfloat16 where the device computes in it, else float32."""
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has_bfloat16 = device == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def load_model(
    model: ModelConfig, adapter: str | None = None, dtype: torch.dtype | None = None, **options: Any
) -> PreTrainedModel:
    """The weights on their device, with a LoRA adapter's folder over them where given. `options` go to
    `from_pretrained`. Raises ModelError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar of loading shards would run into the command's own
    check_model_files(model)
    device = pick_device(model.device)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model_source(model),
            revision=model.revision,
            dtype=dtype or pick_dtype(model.dtype, device),
            trust_remote_code=model.trust_remote_code,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(load_advice("weights", model, error)) from error
    if adapter is not None:
        loaded = _with_adapter(loaded, adapter)
    try:
        moved: PreTrainedModel = loaded.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"{model.path} can't be put on {device} ({_first_line(error)}); check model.device."
        ) from error
    return moved


def _with_adapter(loaded: Any, adapter: str) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise ModelError(f"{adapter} holds no adapter_config.json, so it is no LoRA adapter; train the arm again.")
    if not (Path(adapter) / "adapter_model.safetensors").is_file():  # PEFT would take a pickled one
        raise ModelError(f"{adapter} holds no adapter_model.safetensors; train the arm again.")
    try:
        adapted = PeftModel.from_pretrained(loaded, adapter)
        _check_adapter(adapted, Path(adapter))
        return adapted
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {adapter} can't be loaded over the model ({_first_line(error)}); train the arm again."
        ) from error


def _check_adapter(adapted: Any, folder: Path) -> None:
    """Raises ModelError where the adapter's weights are not those that this model has a place for: PEFT loads what fits
    of an adapter that was made for another model, and says so in a warning at most."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    if saved != set(get_peft_model_state_dict(adapted)):
        raise ModelError(f"The adapter in {folder} was made for another model than this one; train the arm again.")


def load_advice(what: str, model: ModelConfig, error: Exception) -> str:
    """What to say where a part of a model can't be loaded."""
    return (
        f"The {what} of {model.path} can't be loaded ({_first_line(error)}); check model.path, and for a gated hub "
        "model log in with `hf auth login`."
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
