"""The folder or hub name that stands behind `model.path`."""

from __future__ import annotations

from ..demo import SEED
from ..recipe import ModelConfig


def model_source(model: ModelConfig) -> str:
    """What `from_pretrained` is given: a folder or a hub name. `demo` is the seed model that ships with the package."""
    return str(SEED) if model.path == "demo" else model.path
