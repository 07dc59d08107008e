"""What keeps a training silent, and its failures clear."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import ExperimentError, SelfDistillError, StageError
from ..models.loading import free_memory
from .setup import process_count

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_WRITE_FAILURES = ("PytorchStreamWriter", "inline_container", "No space left", "I/O error", "File too large")


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries print, show bars, warn and send telemetry; within this they don't."""
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
    """Out of memory becomes a StageError, a folder that can't be written an ExperimentError."""
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
                "and leave train.gradient_checkpointing at auto or set it to true."
            ) from error
        if any(sign in str(error) for sign in _WRITE_FAILURES):
            raise ExperimentError(
                _not_written(directory, "a file was not written to its end, as on a full disk")
            ) from error
        raise


def recomputing_if_needed(run: Callable[[bool], _T], setting: bool | Literal["auto"]) -> _T:
    """What `run` gives, called with whether to recompute activations; with "auto" they are kept, and only where the
    GPU's memory does not hold them `run` is called again. Of several processes one alone would try again, so there it
    fails as without "auto"."""
    import torch

    if setting != "auto" or process_count() > 1:
        return run(setting is True)
    try:
        return run(False)
    except torch.OutOfMemoryError:
        _log.warning("The GPU's memory is full; going on from the last checkpoint with activations recomputed.")
    free_memory()  # only here: the error holds on to all that was there
    return run(True)


def _not_written(directory: Path, reason: str) -> str:
    return (
        f"{directory} can't be read or written ({reason.rstrip('.')}); free space or mend its permissions, then run "
        "again: it goes on from the last checkpoint."
    )


def refuse_leaks(trainer: Any) -> None:
    """Raises StageError if a row's logits depend on the row that is laid before it, or are not those of the row alone.

    `trainer` is TRL's; the batches are made by its own collator.
    """
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
    # The same shapes give the same rounding; a row alone has other shapes.
    rounding = 1e-4 if trainer.accelerator.mixed_precision == "no" else 5e-2
    if (after - after_other).abs().max() > 1e-3 * scale or (after - alone).abs().max() > rounding * scale:
        raise StageError(
            f"With this model's attention ({trainer.model.config._attn_implementation}) rows that are laid end to end "
            "would see each other or stand at other positions; set train.packing=false and leave "
            "train.extra.padding_free out."
        )
