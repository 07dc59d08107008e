"""The interface of a trainer: one object that turns responses into weights, with one line in `TRAINERS`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from ..models.renderer import Renderer
from ..recipe import ModelConfig, TrainConfig
from ..types import Example
from .sequences import TrainingData


class Trainer(Protocol):
    """The parts of a training that differ between trainers; `train` does the rest (resume, log, export)."""

    def settings(self, settings: TrainConfig) -> dict[str, Any]:
        """The settings that decide the weights. They enter the fingerprint, which a resumed training must match."""

    def lacks(self, settings: TrainConfig, model: ModelConfig) -> list[str]:
        """One sentence for each package that these settings need and that is not installed, and for each setting that
        the trainer or the model does not know. Loads no weights."""

    def prepare(
        self, examples: Iterable[Example], renderer: Renderer, model: ModelConfig, settings: TrainConfig
    ) -> TrainingData:
        """The sequences to train on. Raises DataError (no rows) and StageError (unusable rows)."""

    def build(
        self, data: TrainingData, tokenizer: Any, model: ModelConfig, settings: TrainConfig, checkpoints: Path
    ) -> Any:
        """A `transformers.Trainer` with the model loaded, ready for `train()`, that saves to the folder `checkpoints`.
        Its `config_as_loaded` is a copy of the model's configuration before the trainer changed it. Raises RecipeError
        (settings that do not fit the model), ModelError and StageError."""
