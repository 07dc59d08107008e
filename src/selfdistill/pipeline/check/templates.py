"""Looks the seed's chat template over before anything is paid for."""

from __future__ import annotations

from ...models.renderer import Renderer
from ..context import Context


def template_warnings(context: Context, renderer: Renderer) -> list[str]:
    """Warnings about the template: an end of turn that is not a token, a date, a date without effect."""
    warnings, template = list(renderer.warnings), renderer.template
    if context.recipe.model.date is not None and not template.formats:
        warnings.append(
            f"model.date has no effect, as the chat template {template.name} doesn't read the date; if it has an "
            "argument for the date, set this in model.template_kwargs."
        )
    if context.recipe.model.date is None and template.formats:
        warnings.append(
            f"The chat template {template.name} writes today's date: the day on which the experiment is created stays "
            "in all of its prompts; set model.date to choose another."
        )
    return warnings
