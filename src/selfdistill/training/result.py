"""The result of a training, `train.json`. It is written last, so a directory that has it is finished."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from ..store.rows import file_checksum

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The counts of `TrainingData` (`sequences` is the number of sequences), the loss and the cost of a training.

    `loss` is the mean over the last epoch, in nats per token. `gradient_checkpointing` is True if activations were
    recomputed. `seconds`, `tokens_per_second`, `flops_per_second` (see `flops.py`), `mfu` (its share of the GPUs' peak,
    None if the peak is unknown) and `peak_memory_gib` cover only the process that finished the training, from step
    `resumed_from` on. `weights` maps each file of weights in `model/` to its checksum.
    `budget` holds what the checks of `train.budget` found; None without a budget.
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
    masked_tokens: int
    masked_rows: int
    flops_per_second: float
    mfu: float | None
    gradient_checkpointing: bool
    weights: Mapping[str, str]
    budget: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> TrainResult:
        return cls(**row)


def read_result(directory: Path) -> TrainResult | None:
    """The result of a finished training, or None if `directory` has none. If the weights have changed since they were
    written, the result is deleted, so that the training runs again. Raises ExperimentError (a damaged file)."""
    path = directory / "train.json"
    try:
        result = TrainResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ExperimentError(f"{path} is damaged; delete it and run the command again to train again.") from None
    if result.weights == weight_checksums(directory / "model"):
        return result
    _log.warning("The weights in %s have changed since they were written; training again.", directory / "model")
    path.unlink()
    return None


def weight_checksums(folder: Path) -> dict[str, str]:
    return {path.name: file_checksum(path) for path in sorted(folder.glob("*.safetensors"))}
