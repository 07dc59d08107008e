"""The evaluated tasks: the recipe's entries, each with its task, its items' source, and how answers are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from ..backends import answering_class, backend_class, backends_that
from ..data import check_format
from ..errors import RecipeError
from ..grading.classifier import asked_of_classifier
from ..harness import Benchmark, load_benchmark
from ..recipe import DataConfig, Recipe, Sampling, TaskEntry
from ..recipe.data import grader_names
from ..recipe.settings import deciding_fields
from ..sandbox import Runner
from ..tasks import Task, get_task
from ..types import Example, Message, Messages, with_chat_of

HELDOUT = "heldout"
"""The name of the task that asks the recipe's own held-out rows."""

# Asked a second time under evaluate.system: many users rely on a system prompt for safety.
_UNDER_SYSTEM = ("safety", "over-refusal")


@dataclass(frozen=True)
class EvaluatedTask:
    """An entry of `evaluate.tasks`, resolved. `task` has the entry's name. `answers_of` is the entry whose answers are
    graded, usually the entry itself. `source` is where the items are, None for the rows that data.heldout sets aside.
    `sampling` is None for tasks that lm-eval asks."""

    entry: TaskEntry
    task: Task
    answers_of: str
    is_target: bool
    source: DataConfig | None
    sampling: Sampling | None

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def asked(self) -> bool:
        """Whether the model is asked for this entry; False if another entry's answers are graded."""
        return self.answers_of == self.name

    @cached_property
    def benchmark(self) -> Benchmark:
        """The items that lm-eval asks, read once for all runs: reading MMLU is slow."""
        return load_benchmark(self.task, self.entry)

    def conditions(self) -> dict[str, Any]:
        """How the answers are drawn. Scores can only be compared under equal conditions."""
        sampling = self.sampling.model_dump(exclude={"seed"}) if self.sampling else {}
        entry = self.entry
        return {"system": entry.system, "few_shot": entry.few_shot, "samples": entry.samples, "k": entry.k, **sampling}


def evaluated_tasks(recipe: Recipe, target: Task, source: DataConfig, run_program: Runner) -> dict[str, EvaluatedTask]:
    """The tasks to evaluate by name; if the recipe names none, the held-out rows if there are any. A task that grades
    another task's answers comes with that task. Raises RecipeError if an entry asks for something that its task can't
    do."""
    named = list(recipe.evaluate.tasks)
    if not named and source.heldout:
        named = [TaskEntry(task=HELDOUT)]
    if system := recipe.evaluate.system:
        named = [wanted for entry in named for wanted in (entry, *_under_system(entry, system))]
    entries: dict[str, TaskEntry] = {}
    for entry in named:
        base = _base(entry, named)
        entries.setdefault(base.name, base)
        entries.setdefault(entry.name, entry)
    among = list(entries.values())
    resolve = partial(_resolve, recipe, target, source, run_program)
    return {name: resolve(entry, _base(entry, among)) for name, entry in entries.items()}


def _under_system(entry: TaskEntry, system: str) -> list[TaskEntry]:
    if entry.task == HELDOUT or entry.system or get_task(entry.task).skill not in _UNDER_SYSTEM:
        return []
    return [entry.model_copy(update={"name": f"{entry.name}+system", "system": system})]


def _base(entry: TaskEntry, among: list[TaskEntry]) -> TaskEntry:
    """The entry whose answers are graded: itself, or an entry of the task that its task names."""
    answers_of = None if entry.task == HELDOUT else get_task(entry.task).answers_of
    if answers_of is None:
        return entry
    deciding = {*deciding_fields(TaskEntry, "items"), *deciding_fields(TaskEntry, "answer")} - {"task"}
    same: Mapping[str, Any] = {
        **entry.model_dump(include=deciding, exclude_defaults=True),
        "task": answers_of,
        "system": entry.system,
    }
    for other in among:
        if all(getattr(other, key) == value for key, value in same.items()):
            return other
    name = answers_of + ("+system" if entry.name.endswith("+system") else "")
    taken = any(other.name == name for other in among)
    return entry.model_copy(update={"task": answers_of, "name": f"{entry.name}.answers" if taken else name})


def _resolve(
    recipe: Recipe, target: Task, source: DataConfig, run_program: Runner, entry: TaskEntry, base: TaskEntry
) -> EvaluatedTask:
    is_target = entry.task in (HELDOUT, recipe.task)
    task = _task(recipe, target, run_program, entry, is_target)
    _check(recipe, entry, task)
    items = sampling = None
    if not task.harness:
        items, sampling = _items_source(source, base), _sampling(recipe, base)
    return EvaluatedTask(entry, task, base.name, is_target, items, sampling)


def _check(recipe: Recipe, entry: TaskEntry, task: Task) -> None:
    """Raises RecipeError if an entry has a key that its task does not use."""
    if (entry.samples > 1 or entry.k > 1) and (task.harness or task.judge):
        raise RecipeError(f"The task '{entry.name}' takes one answer per item; leave samples and k out.")
    if entry.few_shot is not None and not task.harness:
        raise RecipeError(f"The task '{entry.name}' is asked without few-shot examples; leave few_shot out.")
    backend = recipe.evaluate.backend
    if task.harness and not backend_class(backend).returns_logprobs:
        raise RecipeError(
            f"'{entry.name}' needs log-likelihoods, which the backend '{backend}' doesn't return; set evaluate.backend "
            f"to {' or '.join(backends_that('returns_logprobs'))}, or leave the task out."
        )


def _task(recipe: Recipe, target: Task, run_program: Runner, entry: TaskEntry, is_target: bool) -> Task:
    """The task as it is asked and graded under this entry."""
    if is_target:
        task = target
    else:
        task = get_task(entry.task)
        if "sandbox" in task.needs:
            task = replace(task, grade=partial(task.grade, run=run_program))
    if entry.system:
        task = _asked_under(task, entry.system)
    judge = recipe.judge
    if task.judge and judge and answering_class(judge.backend, judge.model).classifies:
        task = replace(task, judge=asked_of_classifier(task.judge))
    metric = f"pass@{entry.k}" if entry.samples > 1 else task.metric
    return replace(task, name=entry.name, metric=metric)


def has_grader(recipe: Recipe) -> bool:
    """Whether the target has a grader of answers in addition to the filters. A judge grades rewrites only."""
    grader = recipe.rewrite.grader
    if grader is None:
        return recipe.task is not None
    return bool({*grader_names(grader)} - {"none", "judge"})


def grades_right_answers(recipe: Recipe) -> bool:
    """Whether the target's grader decides if an answer is right. `facts` and `similar` compare an answer with one
    reference, so that a right answer in other words fails."""
    return has_grader(recipe) and not {*grader_names(recipe.rewrite.grader)} & {"facts", "similar"}


def _items_source(own: DataConfig, entry: TaskEntry) -> DataConfig | None:
    """Where a task's items are; None for the rows that data.heldout sets aside."""
    changes = entry.model_dump(include={"path", "config", "split", "format", "on_bad_row"}, exclude_none=True)
    own_rows = entry.task == HELDOUT or get_task(entry.task).own_rows
    default = own if own_rows else get_task(entry.task).test
    if own_rows and entry.path is None:
        if not own.heldout:
            raise RecipeError(
                f"The task `{entry.task}` has no rows: set data.heldout to a number of rows to set aside, or give the "
                "task a path."
            )
        return None
    base = default.model_dump(exclude={"n", "seed", "heldout"}) if default else {}
    if entry.path:
        # Another file: the default's config and columns don't fit it.
        base = {key: value for key, value in base.items() if own_rows and key != "config"}
    if not (base | changes).get("path"):
        raise RecipeError(f"The task '{entry.task}' names no data; give it a path.")
    source = DataConfig.model_validate(base | changes)
    check_format(source.format, "evaluate.tasks.format")
    return source


def _sampling(recipe: Recipe, entry: TaskEntry) -> Sampling:
    sampling = recipe.evaluate.sampling
    if entry.samples > 1 and sampling.temperature == 0:
        raise RecipeError(
            f"{entry.samples} samples of {entry.name} would all be the same: greedy answers don't vary. Set "
            "evaluate.sampling.temperature, or samples to 1."
        )
    changes = {"max_new_tokens": entry.max_new_tokens} if entry.max_new_tokens else {}
    return sampling.model_copy(update=changes)


def _asked_under(task: Task, system: str) -> Task:
    """The task with a system prompt before its own."""
    ask = task.ask

    def asked(example: Example) -> Messages:
        messages = ask(example)
        if messages[0].role == "system":
            return (replace(messages[0], content=f"{system}\n\n{messages[0].content}"), *messages[1:])
        return with_chat_of((Message("system", system), *messages), messages)

    return replace(task, ask=asked)
