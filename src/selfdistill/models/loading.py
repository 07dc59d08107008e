"""Load a model, or only its tokenizer and settings. The only place that picks device and dtype."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RecipeError, first_line
from ..recipe import ModelConfig
from .renderer import Renderer
from .source import asked_source, is_on_hub, model_source, weight_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NO_MEMORY = (
    "can't allocate memory", "std::bad_alloc", "can't start new thread",
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory",
)  # fmt: skip
# Device files of GPUs that torch calls cuda: NVIDIA, Jetson, AMD, and WSL.
_DRIVERS = ("nvidia*", "nvhost*", "kfd", "dxg")


def check_model_files(model: ModelConfig) -> None:
    """Raises ModelError if a local folder can't be a model. A hub name is not looked up."""
    source = model_source(model)
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} holds no config.json, so it is not a model folder; set model.path to the model's folder."
            )
        weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
        if not weights:
            pickled = " (only pickled ones, which are not loaded)" if any(folder.glob("*.bin")) else ""
            raise ModelError(
                f"{folder} holds no safetensors weights{pickled}; download or convert them and run the command again."
            )
    elif not is_on_hub(model):
        raise ModelError(f"There is no model folder {source}; check model.path, or give a hub name such as org/name.")


def weights_problem(model: ModelConfig) -> str | None:
    """A sentence if the weights in a local folder are not whole, as after a broken download; else None."""
    folder = Path(model_source(model))
    damage = _damage(folder) if folder.is_dir() else None
    return damage and f"The weights of {model.path} can't be loaded ({damage}); download them again."


def _damage(folder: Path) -> str | None:
    """The parts of a folder's weights that are missing, by the index and the header of each file; None if none is."""
    try:
        files = weight_files(folder)
    except ValueError as error:
        return str(error)
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        return f"{missing[0]} is missing" if len(missing) == 1 else f"{len(missing)} of {len(files)} files are missing"
    return next((f"{path.name} is not whole" for path in files if not _is_whole(path)), None)


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file has all the bytes that its header names."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            held = path.stat().st_size - 8 - length
            tensors = json.loads(file.read(length)) if held >= 0 else {}
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        return held >= 0 and max(ends, default=0) <= held
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False


def free_memory() -> None:
    """Free the memory of models that nothing refers to any more, before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out. CUDA raises its own class, the CPU's allocator a RuntimeError."""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return True
    torch = sys.modules.get("torch")  # if torch is not loaded, it raised no error
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def load_tokenizer(model: ModelConfig) -> Any:
    """The model's tokenizer. Raises ModelError."""
    check_model_files(model)
    try:
        tokenizer = _load_tokenizer(model)
    except Exception as error:  # the tokenizers library raises plain Exception for a file it can't read
        raise ModelError(load_advice("tokenizer", model, error)) from error
    tokenizer.name_or_path = model.path  # errors name it; for a GGUF file it would be a folder of the cache
    return tokenizer


def load_renderer(model: ModelConfig, tokenizer: Any = None) -> Renderer:
    """The renderer of the model's chat template and `tokenizer`, by default the model's. Loads no weights.

    Raises ModelError or RecipeError as `Renderer` does.
    """
    tokenizer = tokenizer or load_tokenizer(model)
    stop_ids = _stop_ids(model)
    own = model.chat_template, model.template_kwargs, stop_ids, model.date, model.tools_in, model.reasoning
    return Renderer(tokenizer, *own)


def _stop_ids(model: ModelConfig) -> list[int]:
    """The tokens that end an answer by generation_config.json, which a model may lack. Raises ModelError if the file is
    damaged: without these tokens answers might go on to the limit."""
    name = "generation_config.json"
    try:
        found = _read_settings(model, name).get("eos_token_id")
    except OSError:
        return []
    except ValueError as error:
        raise ModelError(f"{name} of {model.path} is damaged ({error}); copy or download it again.") from None
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(each, int) for each in ids):
        raise ModelError(f"{name} of {model.path} is damaged (eos_token_id is {found!r}); copy or download it again.")
    return ids


def served_template_kwargs(model: ModelConfig) -> dict[str, Any]:
    """The chat template's arguments for a server that applies the template: the recipe's arguments, and the
    experiment's date if the template writes one. A hosted model's template is unknown, so the recipe's are all.

    Raises RecipeError if the template writes today's date and has no argument for it.
    """
    try:
        renderer = load_renderer(model)
    except ModelError:
        return dict(model.template_kwargs)
    dated = renderer.template.date_arguments()
    if dated is None:
        raise RecipeError(
            f"The chat template of {model.path} writes today's date and has no argument for it, so the server's "
            "prompts would change every day; set model.server.api to completions."
        )
    return {**dated, **renderer.template.arguments}


# The next functions read a model's JSON files themselves: transformers' classes for them import torch and all of
# generation, which takes longer than everything else that `check` does.


def _load_tokenizer(model: ModelConfig) -> Any:
    """The tokenizer that `AutoTokenizer` returns, without `AutoTokenizer` if the general class is enough."""
    try:
        settings = _read_settings(model, "tokenizer_config.json")
    except (OSError, ValueError):
        settings = {}
    if settings.get("tokenizer_class") == "TokenizersBackend" and "auto_map" not in settings:
        from transformers import TokenizersBackend

        return TokenizersBackend.from_pretrained(asked_source(model), revision=model.revision)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        asked_source(model), revision=model.revision, trust_remote_code=model.trust_remote_code
    )


def _read_settings(model: ModelConfig, name: str) -> dict[str, Any]:
    """A JSON file of the model. Raises OSError if it is missing, ValueError if it isn't a JSON mapping."""
    from transformers.utils import cached_file

    path = cached_file(asked_source(model), name, revision=model.revision)
    assert path is not None  # it would have raised
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"it holds no mapping but {type(settings).__name__}")  # noqa: TRY004
    return settings


def without_generation_settings(weights: Any) -> None:
    """Remove the generation settings of a loaded model before it is saved: transformers loads some that it refuses to
    save, such as a temperature without do_sample. `copy_generation_settings` restores them."""
    from transformers import GenerationConfig

    weights.generation_config = GenerationConfig()


def copy_generation_settings(model: ModelConfig, folder: Path) -> None:
    """Copy the model's generation_config.json to `folder`, byte for byte, or remove it there if the model has none."""
    from transformers.utils import cached_file

    target = folder / "generation_config.json"
    try:
        source = cached_file(asked_source(model), target.name, revision=model.revision)
    except OSError:
        target.unlink(missing_ok=True)
        return
    assert source is not None  # it would have raised
    target.write_bytes(Path(source).read_bytes())


def context_length(config: Any) -> int | None:
    """The largest number of tokens in a model's context, None if its configuration doesn't state it."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


def load_context_length(model: ModelConfig) -> int | None:
    """`context_length` from the model's files. Raises ModelError."""
    try:
        settings = _read_settings(model, "config.json")
    except (OSError, ValueError) as error:
        raise ModelError(load_advice("configuration", model, error)) from error
    length = settings.get("max_position_embeddings")
    known = isinstance(length, int) and _is_architecture(settings.get("model_type"))
    return length or None if known else context_length(load_config(model))


def _is_architecture(name: Any) -> bool:
    """Whether transformers has a folder of that name. If not, `load_config` reports what is wrong."""
    import transformers

    folder = Path(transformers.__file__).with_name("models")
    return isinstance(name, str) and name.isidentifier() and (folder / name).is_dir()


def load_config(model: ModelConfig) -> Any:
    """The model's configuration. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            asked_source(model), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(load_advice("configuration", model, error)) from error


def pick_device(name: str) -> str:
    """The device `name`; `auto` is the GPU if there is one."""
    if name != "auto":
        return name
    if sys.platform == "linux" and not any(next(Path("/dev").glob(driver), None) for driver in _DRIVERS):
        return "cpu"  # without torch, whose import takes a second
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(name: str, device: str) -> torch.dtype:
    """The dtype `name`; `auto` is bfloat16 if the device computes in it, else float16 on CUDA and float32 elsewhere."""
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
    """The weights on their device, with the LoRA adapter in the folder `adapter` if given. `options` go to
    `from_pretrained`. Raises ModelError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # its bar would overwrite the command's progress
    check_model_files(model)
    if problem := weights_problem(model):
        raise ModelError(problem)
    device = pick_device(model.device)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            asked_source(model),
            revision=model.revision,
            dtype=dtype or pick_dtype(model.dtype, device),
            trust_remote_code=model.trust_remote_code,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(load_advice("weights", model, error)) from error
    if adapter is not None:
        loaded = _with_adapter(loaded, adapter)
    try:
        moved: PreTrainedModel = loaded.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{model.path} can't be put on {device} ({first_line(error)}); check model.device.") from error
    return moved


def _with_adapter(loaded: Any, adapter: str) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise ModelError(f"{adapter} holds no adapter_config.json, so it is not a LoRA adapter; train the arm again.")
    if not (Path(adapter) / "adapter_model.safetensors").is_file():  # PEFT would load a pickled file
        raise ModelError(f"{adapter} holds no adapter_model.safetensors; train the arm again.")
    try:
        adapted = PeftModel.from_pretrained(loaded, adapter)
        _check_adapter(adapted, Path(adapter))
        return adapted
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {adapter} can't be loaded over the model ({first_line(error)}); train the arm again."
        ) from error


def _check_adapter(adapted: Any, folder: Path) -> None:
    """Raises ModelError if the adapter was trained on another model. PEFT would load the weights that fit and at most
    warn about the rest."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    if saved != set(get_peft_model_state_dict(adapted)):
        raise ModelError(f"The adapter in {folder} was made for another model; train the arm again.")


def load_advice(what: str, model: ModelConfig, error: Exception) -> str:
    """The message for a part of a model that can't be loaded."""
    return (
        f"The {what} of {model.path} can't be loaded ({first_line(error)}); check model.path, and for a gated hub "
        "model log in with `hf auth login`."
    )
