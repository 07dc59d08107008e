"""A preview: the first rows rewritten and graded, and the text that would be trained on. A later run in the directory
uses these rewrites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress, islice

from ..backends import open_backend
from ..errors import ModelError, RenderError
from ..generation.resume import LazyBackend, forget_transient
from ..models.loading import load_renderer
from ..models.renderer import Renderer
from ..store.experiment import Experiment
from ..store.rows import RowFile, first_occurrences
from ..types import Example, Progress, Rewrite
from .by_hand import by_mark
from .context import Context
from .data import prepare_data, train_examples
from .reasoning import thought_of
from .rewrite import rewrites
from .verify import graded

PREVIEWED = frozenset({"data", "rewrite"})
"""The stages whose settings a preview uses."""


@dataclass(frozen=True)
class Previewed:
    """A graded rewrite. `target` is its training sequence with ⟦⟧ around what is trained; None if the tokenizer is not
    on this machine, or if the row can't be trained on."""

    rewrite: Rewrite
    target: str | None


def preview_rows(experiment: Experiment, context: Context, n: int, progress: Progress) -> list[Previewed]:
    """The first `n` different training rows, rewritten by the recipe's template. Rows that are on file are not asked
    for again."""
    prepare_data(experiment, context, progress)
    answers = rewrites(context)
    path = experiment.path(answers.generating.output)
    first = first_occurrences(example.id for example in train_examples(experiment))

    def examples() -> Iterator[Example]:
        return islice(compress(train_examples(experiment), first), n)

    if not experiment.finished(answers.generating):
        forget_transient(path)
        opener = partial(open_backend, context.recipe.rewrite.backend, answers.model)
        with LazyBackend(opener) as backend, RowFile(path) as rows:
            count = min(n, int(first.sum()))
            answers.rewriter.generate(examples(), count, backend, rows, partial(progress, "preview"))
    with RowFile(path, reading=True) as rows:
        found = graded(answers.rewriter, context, answers.model, examples(), rows)
        shown = [by_mark(each, mark) if (mark := context.marks.get(each.example.id)) else each for each in found]
    try:
        renderer = load_renderer(context.recipe.model)
    except ModelError:
        return [Previewed(rewrite, None) for rewrite in shown]
    mask = context.recipe.model.reasoning == "mask"
    return [Previewed(rewrite, _target(renderer, rewrite, mask)) for rewrite in shown]


def _target(renderer: Renderer, rewrite: Rewrite, mask: bool) -> str | None:
    """With `mask` the rewrite without its trace; else a rewrite whose trace can't be trained on gives way to the
    original, as in the steps of `reasoning: own`."""
    example, source = rewrite.example, "original"
    if rewrite.grade.passed and (mask or not rewrite.trace_fault):
        source = "rewrite"
        example = replace(example, reference=rewrite.response, thought=rewrite.completion.thought)
    example = replace(example, thought=thought_of("mask" if mask else "own", source, example.thought))
    try:
        return marked(renderer, example)
    except RenderError:
        return None


def marked(renderer: Renderer, example: Example) -> str:
    """The training sequence of a response, with ⟦⟧ around the tokens that loss is taken on. Raises RenderError."""
    spans: list[tuple[bool, list[int]]] = []
    sequence = renderer.response_row(example.prompt, example.reference, example.thought)
    for token, trained in zip(sequence.input_ids, sequence.trained, strict=True):
        if not spans or spans[-1][0] != trained:
            spans.append((trained, []))
        spans[-1][1].append(token)
    texts = [(trained, str(renderer.tokenizer.decode(tokens))) for trained, tokens in spans]
    return "".join(f"⟦{text}⟧" if trained else text for trained, text in texts)
