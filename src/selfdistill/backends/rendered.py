"""A prompt as token ids, and new token ids as an answer: the same for every engine that computes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RenderError
from ..grading.traces import opened
from ..recipe import Sampling
from ..types import Completion, Prompt
from .batches import Row

if TYPE_CHECKING:
    from ..models.renderer import Renderer


_TAIL = 32  # tokens at a prompt's end, more than any opening mark has


def to_row(prompt: Prompt, renderer: Renderer, sampling: Sampling, context: int | None) -> Row | Completion:
    """The prompt's token ids; an error where it can't be rendered, or the `context` has no room for an answer."""
    try:
        ids = renderer.ids(prompt.messages)
    except RenderError as error:
        return failure(prompt.id, str(error))
    room = sampling.max_new_tokens if context is None else min(sampling.max_new_tokens, context - len(ids))
    if not ids:
        return failure(prompt.id, "the prompt is empty")
    if room < 1:
        return failure(prompt.id, f"prompt of {len(ids)} tokens exceeds the context of {context}")
    return Row(prompt.id, ids, room)


def to_completion(row: Row, ids: list[int], renderer: Renderer) -> Completion:
    """The text before the stop token. Other special tokens are shown, so that filters sees a leaked marker, and a think
    trace its marks: the one that the prompt ends with, too, as a trace that is cut off would have none."""
    stopped = ids[-1] in renderer.stop_ids
    text = renderer.tokenizer.decode(
        ids[:-1] if stopped else ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    mark = opened(str(renderer.tokenizer.decode(row.ids[-_TAIL:], skip_special_tokens=False)))
    return Completion(row.id, f"{mark}{text}", "stop" if stopped else "length", len(ids))


def failure(name: str, reason: str) -> Completion:
    return Completion(name, "", "error", error=reason)
