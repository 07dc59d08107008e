"""Keep a training silent, turn its failures into our errors, and refuse a model whose packed rows would mix."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import ExperimentError, SelfDistillError, StageError
from ..models.loading import free_memory, out_of_memory

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
# oneDNN on a CPU, and the loader of a library that is imported late: too little memory, which neither message says.
_NO_MEMORY = ("could not create a", "failed to map segment")
_WRITE_FAILURES = ("PytorchStreamWriter", "inline_container", "No space left", "I/O error", "File too large")


@contextmanager
def quiet() -> Iterator[None]:
    """Within this context the libraries print nothing, show no progress bars, do not warn and send no telemetry."""
    import datasets
    from huggingface_hub import constants
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("trl", "accelerate", "peft", "torch")]
    levels = [logger.level for logger in loggers]
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    dataset_bars = datasets.are_progress_bars_disabled()
    telemetry_off = constants.HF_HUB_DISABLE_TELEMETRY
    try:
        constants.HF_HUB_DISABLE_TELEMETRY = True
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        datasets.disable_progress_bars()
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry_off
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        if not dataset_bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def clear_errors(directory: Path) -> Iterator[None]:
    """Raise StageError if the GPU's memory is full, and ExperimentError if `directory` can't be read or written."""
    try:
        yield
    except SelfDistillError:
        raise
    except OSError as error:
        raise ExperimentError(_not_written(directory, error.strerror or str(error))) from error
    except Exception as error:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            raise StageError(
                "The GPU's memory is full; lower train.micro_batch_size (the step stays the same) or train.max_length, "
                "leave train.gradient_checkpointing at auto or set it to true, and run the command again."
            ) from error
        if any(sign in str(error) for sign in _WRITE_FAILURES):
            raise ExperimentError(
                _not_written(directory, "a file was not written completely, as on a full disk")
            ) from error
        raise


def recomputing_if_needed(run: Callable[[bool], _T], setting: bool | Literal["auto"]) -> _T:
    """The result of `run(recompute)`; with `recompute`, activations are recomputed. If `setting` is "auto", `run(True)`
    follows only if `run(False)` runs out of GPU memory. With several processes "auto" means False, since the process
    that runs out of memory would retry alone."""
    import torch

    if setting != "auto" or process_count() > 1:
        return run(setting is True)
    try:
        return run(False)
    except torch.OutOfMemoryError:
        _log.warning("The GPU's memory is full; resuming from the last checkpoint with recomputed activations.")
    free_memory()  # outside the handler, whose traceback keeps the memory in use
    return run(True)


def short_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, also one that a library words in another way."""
    return out_of_memory(error) or any(sign in str(error) for sign in _NO_MEMORY)


def process_count() -> int:
    """How many processes train together, from the variable that accelerate's and torch's launchers set."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _not_written(directory: Path, reason: str) -> str:
    return (
        f"{directory} can't be read or written ({reason.rstrip('.')}); free space or fix its permissions, then run the "
        "command again: the training resumes from the last checkpoint."
    )


def refuse_leaks(trainer: Any) -> None:
    """Raise StageError if the logits of a packed row depend on the row before it, or differ from those of the row
    alone. `trainer` is TRL's trainer, whose own collator builds the batches."""
    import torch

    later = list(range(8))

    def logits(rows: list[list[int]]) -> Any:
        batch = trainer.data_collator([{"input_ids": row, "labels": row} for row in rows])
        if len(rows) == 1:
            batch = {"input_ids": batch["input_ids"]}
        given = {
            name: value.to(trainer.args.device) if hasattr(value, "to") else value for name, value in batch.items()
        }
        given.pop("labels", None)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            return trainer.model.eval()(**given).logits[0, -len(later) :].float()

    alone, after, after_other = logits([later]), logits([later, later]), logits([later[::-1], later])
    scale = alone.abs().max()
    # Equal shapes round equally; a row alone has another shape.
    rounding = 1e-4 if trainer.accelerator.mixed_precision == "no" else 5e-2
    if (after - after_other).abs().max() > 1e-3 * scale or (after - alone).abs().max() > rounding * scale:
        raise StageError(
            f"With this model's attention ({trainer.model.config._attn_implementation}), packed rows would attend to "
            "each other or get wrong positions; set train.packing=false and leave train.extra.padding_free out."
        )
