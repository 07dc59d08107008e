"""The part of step 2 in which a judge compares rewrites with their references, if `rewrite.grader` names `judge`.

Only rewrites that pass the filters and the other graders are asked about. Replies are filed by content in
rewrite/judged.jsonl, so that no question is asked twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..backends import answering_class, open_backend
from ..errors import RecipeError
from ..generation.resume import LazyBackend, complete, forget_transient
from ..grading.same_meaning import NO, THRESHOLD, YES, ask_same, judged, read_reply
from ..grading.traces import answer_of
from ..measure.likelihood import score_missing
from ..recipe import GraderSpec, ModelConfig, Sampling
from ..recipe.data import single_graders
from ..store.rows import RowFile
from ..types import Completion, Example, Message, Messages, Prompt, Report, Rewrite, content_id, messages_json
from .context import Context

_STUB = Example.of((Message("user", "A question?"),), "A reference.")
_WORDS = 16  # tokens of a reply: one word, and room for a model that says a little more


def threshold_of(spec: GraderSpec | None) -> float | None:
    """The threshold of the grader `judge` in a specification, None if it is not named there."""
    judges = (single for single in single_graders(spec) if single["name"] == "judge")
    return next((float(single.get("threshold", THRESHOLD)) for single in judges), None)


def judge_settings(context: Context) -> dict[str, Any]:
    """The settings on which the judge's replies depend; empty if the grader is not `judge`. Raises RecipeError if the
    recipe's judge is a classifier."""
    if threshold_of(context.recipe.rewrite.grader) is None:
        return {}
    model, backend, _ = _judge(context)
    if answering_class(backend, model).classifies:
        raise RecipeError("The grader `judge` asks a chat model, and judge.backend is a classifier; name a chat model.")
    questions = content_id(*(messages_json(question) for question in ask_same(_STUB, "A text.")))
    return {"judge": _identity(context), "questions": questions}


def ask_judge(path: Path, context: Context, rewrites: Callable[[], Iterable[Rewrite]], progress: Report) -> int:
    """Appends the replies that the file lacks about the rewrites that passed so far. Returns the number of transient
    failures. A judge with weights here is asked how likely it finds yes and no, any other for a reply."""
    model, backend, sampling = _judge(context)
    identity = content_id(_identity(context))
    questions = [question for rewrite in rewrites() if rewrite.grade.passed for question in _questions(rewrite)]
    if answering_class(backend, model).has_weights:
        examples = [word for question in questions for word in _words(question, identity)]
        with RowFile(path) as rows:
            score_missing(lambda: examples, model, rows, progress)
        return 0
    prompts = {prompt.id: prompt for prompt in (_prompt(question, identity) for question in questions)}
    forget_transient(path)
    with LazyBackend(partial(open_backend, backend, model)) as opened, RowFile(path) as rows:
        total = len(rows) + sum(name not in rows for name in prompts)
        return complete(prompts.values(), total, opened, sampling, rows, progress)


def apply_judge(rewrites: Iterable[Rewrite], context: Context, rows: RowFile) -> Iterator[Rewrite]:
    """The rewrites, with the judge's grade on those that passed before."""
    model, backend, _ = _judge(context)
    identity, threshold = content_id(_identity(context)), threshold_of(context.recipe.rewrite.grader)
    assert threshold is not None
    read = _probability if answering_class(backend, model).has_weights else _said
    for rewrite in rewrites:
        if rewrite.grade.passed:
            values = [read(question, identity, rows) for question in _questions(rewrite)]
            rewrite = replace(rewrite, grade=judged(values, threshold))
        yield rewrite


def _judge(context: Context) -> tuple[ModelConfig, str, Sampling]:
    """The model that judges: the recipe's judge, else the seed."""
    recipe = context.recipe
    if recipe.judge:
        return recipe.judge.model, recipe.judge.backend, recipe.judge.sampling
    return recipe.model, recipe.rewrite.backend, Sampling(max_new_tokens=_WORDS)


def _identity(context: Context) -> dict[str, Any]:
    model, backend, sampling = _judge(context)
    return {**context.model_settings(model, "judge", backend), "sampling": sampling.model_dump()}


def _questions(rewrite: Rewrite) -> tuple[Messages, Messages]:
    return ask_same(rewrite.example, rewrite.completion.text)


def _prompt(question: Messages, identity: str) -> Prompt:
    return Prompt(content_id(identity, messages_json(question)), question)


def _words(question: Messages, identity: str) -> list[Example]:
    """Both replies to a question, to be scored."""
    return [Example(content_id(identity, messages_json(question), word), question, word) for word in (YES, NO)]


def _probability(question: Messages, identity: str, rows: RowFile) -> float | None:
    """The probability of yes among yes and no; None if the model could not score them."""
    scores = [rows.get(word.id) for word in _words(question, identity)]
    nats = [row["nll"] * row["tokens"] for row in scores if row and row["nll"] is not None]
    return None if len(nats) < 2 else 1 / (1 + math.exp(min(nats[0] - nats[1], 700)))


def _said(question: Messages, identity: str, rows: RowFile) -> float | None:
    row = rows.get(_prompt(question, identity).id)
    reply = Completion.from_json(row) if row else None
    text = answer_of(reply) if reply and reply.finish != "error" else None
    return None if text is None else read_reply(text)
