"""Verifying rewrites (eq. 4) in the pipeline: the settings that decide, and the grade of each answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import ModelError, RenderError
from ..generation.rewriter import Rewriter
from ..models.loading import load_context_length, load_renderer
from ..models.renderer import Renderer
from ..store.rows import RowFile
from ..types import Example, Grade, Rewrite, shown_turns
from .context import Context
from .judge_rewrites import judge_settings

_OVERHEAD = 1000  # bytes that a chat template adds at most to a prompt without tools


def verify_settings(context: Context) -> dict[str, Any]:
    """The settings that decide which answers of the seed are accepted."""
    limit = {"max_length": longest} if (longest := _longest(context)) else {}
    own = {"grader": context.grader_settings(), **context.recipe.rewrite.deciding("verify"), **limit}
    return own | judge_settings(context)


def _longest(context: Context) -> int | None:
    """The most tokens of a sequence that every arm can train on; None if no arm is trained."""
    recipe = context.recipe
    return min((recipe.arm_train(arm).max_length for arm in recipe.arms.values() if arm.trained), default=None)


def graded(rewriter: Rewriter, context: Context, examples: Iterable[Example], rows: RowFile) -> Iterator[Rewrite]:
    """The answer in `rows` to each example with its grade. Raises StageError if one is missing. Without a local
    tokenizer (the model may exist only on a server) rewrites that can't be trained on are not found."""
    try:
        renderer = load_renderer(context.recipe.model)
    except ModelError:
        return rewriter.select(examples, rows, None)
    return _fitting(rewriter.select(examples, rows, renderer.untrainable), context, renderer)


def _fitting(rewrites: Iterable[Rewrite], context: Context, renderer: Renderer) -> Iterator[Rewrite]:
    """Rejects a rewrite that is too long to train on after its prompt: training would stop at it, or cut its end."""
    try:
        window = load_context_length(context.recipe.model)
    except ModelError:
        yield from rewrites
        return
    limit = min(filter(None, (_longest(context), window)), default=sys.maxsize)
    for rewrite in rewrites:
        near = rewrite.example.tools or _bytes(rewrite) > limit - _OVERHEAD
        long = rewrite.grade.passed and near and _tokens(renderer, rewrite) > limit
        yield replace(rewrite, grade=Grade("fail", f"over {limit:,} tokens with its prompt")) if long else rewrite


def _bytes(rewrite: Rewrite) -> int:
    """The bytes of prompt and rewrite, which have no more tokens than bytes."""
    return sum(len(text.encode()) for _, text in shown_turns(rewrite.example.prompt)) + len(rewrite.response.encode())


def _tokens(renderer: Renderer, rewrite: Rewrite) -> int:
    """The tokens of the rewrite's training sequence; 0 if its prompt can't be rendered, which no answer changes."""
    try:
        return len(renderer.response_row(rewrite.example.prompt, rewrite.response).input_ids)
    except RenderError:
        return 0
