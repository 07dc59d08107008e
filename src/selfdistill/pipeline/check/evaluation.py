"""The part of `check` that is about evaluation: prompts, what tasks need that may be missing, what a judge costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice

from ...backends import answering_class
from ...data import BadRow, item_notes, reading_setting, unused_columns, unused_sentence
from ...errors import SelfDistillError
from ...measure.judge import judge_cost, token_counter
from ...measure.shift.similarity import PACKAGES
from ...models.embedding import missing_encoder
from ...types import Conversation, Example, Messages
from ..context import Context
from ..entries import EvaluatedTask
from ..evaluate import judge_stage
from ..shift import shift_stage

EVALUATION = "evaluation of "
"""The kind of a task's prompt is this and the task's name."""
_SAMPLE = 50
MOST_ITEMS = 100_000  # rows of a task that are read
# Where a task has no reference to take an answer's length from.
_STAND_IN = (
    "Here is what a middling answer looks like. It opens with a sentence that takes up the question, goes on to say "
    "what matters and why, and gives an example where one helps. Then it names the steps in their order: first gather "
    "what you need, second check that it fits, third do the thing itself, last look whether it worked. Some answers "
    "are shorter than this, others much longer, but over many of them the length comes out about here, which is all "
    "that an estimate of cost can use."
)


def evaluation_prompts(
    context: Context, held: list[Conversation] | None, missing: list[str], unread: Callable[[SelfDistillError], None]
) -> Iterator[tuple[str, Messages]]:
    """The prompt of the first item of each task. Adds sentences about tasks without items to `missing`, and passes
    errors to `unread`. `held` are held-out rows, None if the data can't be read."""
    for task in context.tasks.values():
        if task.task.harness or not task.asked:
            continue
        try:
            item = next(items_of(task, held or []), None)
        except SelfDistillError as error:
            unread(error)
            continue
        if item is None and held is not None:
            missing.append(f"The task '{task.name}' has no items.")
        elif item is not None:
            yield EVALUATION + task.name, task.task.ask(item)


def items_of(task: EvaluatedTask, held: list[Conversation]) -> Iterator[Example]:
    """The items of a task before its draw. `held` are the rows that are held out."""
    unread: list[BadRow] = []
    loaded = iter(held) if task.source is None else task.task.load(task.source, unread.append)
    return (item for row in loaded for item in task.task.items(row))


def item_warnings(context: Context, unread: Callable[[SelfDistillError], None]) -> Iterator[str]:
    """Warnings about items from a file: rows that can't be used, and the columns of the user's rows that are not
    read. Passes errors to `unread`."""
    for task in context.tasks.values():
        if task.source is None or not task.asked:
            continue
        bad: list[BadRow] = []
        try:
            rows = list(islice(task.task.load(task.source, bad.append), MOST_ITEMS))
        except SelfDistillError as error:
            unread(error)
            continue
        if bad:
            yield from item_notes(task.name, {"bad": len(bad), "first_bad": f"{bad[0].where}: {bad[0].reason}"})
        unused = unused_columns(rows, task.task.reads) if task.task.own_rows else {}
        if sentence := unused_sentence(unused, len(rows), reading_setting(task.source, unused)):
            yield f"{task.name}: {sentence}."


def shift_warnings(context: Context) -> Iterator[str]:
    """Warnings about the metrics of the shift that can't be measured here."""
    if not any(shift_stage(context, run) for run in context.runs.values()):
        return
    lacking = [metric for package, metric in PACKAGES.items() if find_spec(package) is None]
    if lacking:
        yield f"The shift will lack {', '.join(lacking)}; pip install 'selfdistill[shift]' installs the packages."
    if problem := missing_encoder(context.recipe.shift.embedding):
        yield f"The shift will lack the cosine of embeddings. {problem}"


def judge_lines(context: Context) -> list[str]:
    """The number of questions for the judge and their greatest cost, estimated with the references as answers."""
    config = context.recipe.judge
    if config is None:
        return []
    lines, counter = (
        [],
        None if answering_class(config.backend, config.model).classifies else token_counter(config.model),
    )
    for task in context.tasks.values():
        judging = task.task.judge
        if judging is None:
            continue
        base = context.tasks[task.answers_of]
        try:
            items = list(islice(items_of(base, []), base.entry.n))
        except SelfDistillError:
            continue  # named among what is missing
        sample = items[:_SAMPLE]
        answers = [item.reference or _STAND_IN for item in sample]
        questions = [
            asked for item, text in zip(sample, answers, strict=True) for asked in judging.ask(item, text, text)
        ]
        runs = sum(judge_stage(context, run, task) is not None for run in context.runs.values())
        each = len(questions) // max(1, len(sample))
        cost = judge_cost(config, questions, len(items) * each * runs, counter)
        dollars = "" if cost.dollars is None else f", at most ${cost.dollars:,.2f}"
        lines.append(
            f"judge     {config.model.path} for {task.name}: {cost.calls:,} questions, about {cost.input_tokens:,} "
            f"tokens in and at most {cost.output_tokens:,} out{dollars} (tokens counted {cost.counted})"
        )
    return lines
