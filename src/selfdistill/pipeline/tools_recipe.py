"""The line of a new recipe that says where a row's tools are shown to the model."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError, RecipeError
from ..models.loading import load_renderer
from ..recipe import ModelConfig


def tools_problem(model: str) -> str | None:
    """Why the chat template of a model on this machine can't be used for tools, empty if it can. None if the model is
    not here, or has no template that can be used: `check` reports that."""
    if model != "demo" and not Path(model).exists():
        return None
    try:
        renderer = load_renderer(ModelConfig(path=model))
    except (ModelError, RecipeError):
        return None
    return renderer.tools_problem and f"the model's chat template {renderer.tools_problem}"


def tools_line(problem: str | None) -> str:
    """The line of the recipe that says where the tools are shown."""
    if problem:
        return (
            f"\n  tools_in: system          # {' '.join(problem.split())}: tools, calls and results are written as text"
        )
    return "\n  # tools_in: system        # writes tools, calls and results as text, if the chat template ignores tools"
