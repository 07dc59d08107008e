"""Looks the seed's chat template over before anything is paid for."""

from __future__ import annotations

from itertools import islice

from ...errors import RenderError
from ...models.renderer import Renderer, TrainingRow
from ...types import Conversation, Example, Messages
from ..context import Context

_NAMED = 3


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


def untrainable_rows(renderer: Renderer, rows: list[Conversation]) -> str | None:
    """A sentence about the rows whose responses can't be trained, None if there are none."""
    found: dict[int, str] = {}
    for place, row in enumerate(rows, 1):
        for example in row.examples():
            try:
                renderer.response_row(example.prompt, example.reference)
            except RenderError as error:
                found.setdefault(place, str(error))
    if not found:
        return None
    named = "; ".join(f"training row {place}: {reason}" for place, reason in islice(found.items(), _NAMED))
    return (
        f"{len(found)} of the first {len(rows)} training rows can't be used ({named}); change these rows, or set "
        "train.allow_unusable_rows=true to leave them out."
    )


def training_row(renderer: Renderer, example: Example) -> TrainingRow | None:
    """The example's training sequence, None if it can't be trained."""
    try:
        return renderer.response_row(example.prompt, example.reference)
    except RenderError:
        return None


def prompt_ids(renderer: Renderer, messages: Messages) -> list[int] | None:
    """The prompt's token ids, None if the template refuses it."""
    try:
        return renderer.ids(messages)
    except RenderError:
        return None
