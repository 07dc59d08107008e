"""Verifying rewrites (eq. 4) in the pipeline: the settings that decide, and the grade of each answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import ModelError, RenderError
from ..generation.rewriter import Rewriter
from ..grading.filters import leaks
from ..grading.traces import split
from ..models.loading import load_context_length, load_renderer
from ..models.renderer import Renderer
from ..recipe import Filters, ModelConfig
from ..store.rows import RowFile
from ..types import Example, Grade, Rewrite, Thought, shown_turns
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


def graded(
    rewriter: Rewriter, context: Context, model: ModelConfig, examples: Iterable[Example], rows: RowFile
) -> Iterator[Rewrite]:
    """The answer in `rows` to each example with its grade; `model` gave the answers. Raises StageError if one is
    missing. Without a local tokenizer (the model may exist only on a server) rewrites that can't be trained on are not
    found."""
    seed = context.recipe.model.model_copy(update={"reasoning": model.reasoning})
    try:
        renderer = load_renderer(seed)
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
        if rewrite.grade.passed and (rewrite.example.tools or _bytes(rewrite) > limit - _OVERHEAD):
            if _tokens(renderer, rewrite) > limit:
                rewrite = replace(rewrite, grade=Grade("fail", f"over {limit:,} tokens with its prompt"))
            elif _tokens(renderer, rewrite, Thought(rewrite.completion.reasoning)) > limit:
                rewrite = replace(rewrite, trace_fault=f"over {limit:,} tokens with its prompt and think trace")
        yield rewrite


def untrainable_by_hand(context: Context) -> Callable[[Rewrite], str | None]:
    """A function that returns why the text of a rewrite can't be trained on, whatever a person thinks of its content;
    None if it can. Without a local tokenizer only the text itself is looked at."""
    seed, filters = context.recipe.model, Filters(reference_talk=False)
    try:
        renderer: Renderer | None = load_renderer(seed)
    except ModelError:
        renderer = None

    def fault(rewrite: Rewrite) -> str | None:
        example, completion = rewrite.example, rewrite.completion
        if completion.finish == "error" or not completion.text.strip():
            return "there is no text"
        if completion.cut_off:
            return "it was cut off"
        if split(completion.text).answer != completion.text:
            return "it holds a think trace"
        if reason := leaks(completion.text, example, filters):
            return reason
        if renderer is None:
            return None
        if reason := renderer.untrainable(example.prompt, completion.text):
            return reason
        (fitted,) = _fitting([replace(rewrite, grade=Grade("pass", "by hand"))], context, renderer)
        return None if fitted.grade.passed else fitted.grade.reason

    return fault


def _bytes(rewrite: Rewrite) -> int:
    """The bytes of prompt, think trace and rewrite, which have no more tokens than bytes."""
    texts = [*(text for _, text in shown_turns(rewrite.example.prompt)), rewrite.completion.reasoning, rewrite.response]
    return sum(len(text.encode()) for text in texts)


def _tokens(renderer: Renderer, rewrite: Rewrite, thought: Thought | None = None) -> int:
    """The tokens of the rewrite's training sequence; 0 if it can't be rendered, which has been noticed before."""
    try:
        return len(renderer.response_row(rewrite.example.prompt, rewrite.response, thought).input_ids)
    except RenderError:
        return 0
