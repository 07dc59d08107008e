"""The part of `check` that is about evaluation: prompts, what tasks need that may be missing, what a judge costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ...backends import Backend, answering_class
from ...data import BadRow
from ...errors import SelfDistillError
from ...harness import check_installed
from ...measure.judge import judge_cost, token_counter
from ...models.loading import check_model_files
from ...recipe import ModelConfig, TaskEntry
from ...sandbox import check_sandbox
from ...types import Conversation, Example, Messages
from ..plan import Plan
from .engines import engine_needs

_SAMPLE = 50
# Where a task has no reference to take an answer's length from.
_STAND_IN = (
    "Here is what a middling answer looks like. It opens with a sentence that takes up the question, goes on to say "
    "what matters and why, and gives an example where one helps. Then it names the steps in their order: first gather "
    "what you need, second check that it fits, third do the thing itself, last look whether it worked. Some answers "
    "are shorter than this, others much longer, but over many of them the length comes out about here, which is all "
    "that an estimate of cost can use."
)


def evaluation_prompts(
    plan: Plan, rows: list[Conversation], missing: list[str], unread: Callable[[SelfDistillError], None]
) -> Iterator[tuple[str, Messages]]:
    """Of each task that is asked the prompt of its first item; what isn't there is added to `missing`, what can't be
    read given to `unread`. `rows` stand in for those that will be held out."""
    evaluation = plan.evaluation
    for entry in evaluation.entries:
        task = evaluation.task(entry)
        if task.harness or evaluation.base(entry) != entry:
            continue
        try:
            item = next(_items(plan, entry, rows), None)
        except SelfDistillError as error:
            unread(error)
            continue
        if item is None and rows:
            missing.append(f"The task '{entry.name}' has no items.")
        elif item is not None:
            yield f"evaluation of {entry.name}", task.ask(item)


def _items(plan: Plan, entry: TaskEntry, rows: list[Conversation]) -> Iterator[Example]:
    source = plan.evaluation.items_source(entry)
    unread: list[BadRow] = []
    loaded = iter(rows) if source is None else plan.evaluation.task(entry).load(source, unread.append)
    return (row.examples()[-1] for row in loaded)


def evaluation_needs(plan: Plan) -> list[str]:
    """What a run needs and is missing here: engines, a sandbox, a judge, lm-eval."""
    evaluation, missing = plan.evaluation, list(engine_needs(plan))
    tasks = [evaluation.task(entry) for entry in evaluation.entries]
    if plan.needs_sandbox:
        try:
            check_sandbox(plan.recipe.sandbox)
        except SelfDistillError as error:
            missing.append(str(error))
    for task in tasks:
        try:
            if task.harness:
                check_installed(task.harness.task)
        except SelfDistillError as error:
            missing.append(str(error))
    judge = plan.recipe.judge
    if judge and any(task.judge for task in tasks):
        missing += _judge_missing(judge.model, answering_class(judge.backend, judge.model))
    return list(dict.fromkeys(missing))


def shift_warnings(plan: Plan) -> Iterator[str]:
    name = plan.recipe.shift.embedding
    path_like = name.startswith((".", "/", "~")) or name.count("/") > 1
    if plan.shift.source and path_like and not Path(name).is_dir():
        yield (
            f"shift.embedding: there is no folder {name}, so the shift will lack the cosine of embeddings; name one "
            "that holds a sentence-transformers model."
        )


def _judge_missing(model: ModelConfig, backend: type[Backend]) -> Iterator[str]:
    key = model.server and model.server.key_env
    if key and key not in os.environ:
        yield f"The judge's key is read from the environment variable {key}, which is not set; export it."
    if backend.has_weights:
        try:
            check_model_files(model)
        except SelfDistillError as error:
            yield f"The judge: {error}"


def judge_lines(plan: Plan) -> list[str]:
    """What the judge will be asked, and what that costs at most: with the references in place of answers."""
    config, evaluation = plan.recipe.judge, plan.evaluation
    if config is None:
        return []
    labels = answering_class(config.backend, config.model).classifies
    lines, counter = [], None if labels else token_counter(config.model)
    for entry in evaluation.entries:
        judging = evaluation.task(entry).judge
        if judging is None:
            continue
        base = evaluation.base(entry)
        try:
            items = list(islice(_items(plan, base, []), base.n))
        except SelfDistillError:
            continue  # named among what is missing
        sample = items[:_SAMPLE]
        answers = [item.reference or _STAND_IN for item in sample]
        questions = [
            asked for item, text in zip(sample, answers, strict=True) for asked in judging.ask(item, text, text)
        ]
        runs = sum(evaluation.judge_stage(run, entry) is not None for run in plan.runs)
        each = len(questions) // max(1, len(sample))
        cost = judge_cost(config, questions, len(items) * each * runs, counter)
        dollars = "" if cost.dollars is None else f", at most ${cost.dollars:,.2f}"
        lines.append(
            f"judge     {config.model.path} for {entry.name}: {cost.calls:,} questions, about {cost.input_tokens:,} "
            f"tokens in and at most {cost.output_tokens:,} out{dollars} (tokens counted {cost.counted})"
        )
    return lines
