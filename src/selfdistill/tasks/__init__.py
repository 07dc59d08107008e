"""Tasks: what is asked and how an answer is graded. A new one is a file here and a line in `TASKS`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RecipeError
from ..grading.judged import Judging as Judging
from ..types import Conversation, Example, Grade, Messages

if TYPE_CHECKING:
    from ..data import OnBad
    from ..recipe import DataConfig


T = TypeVar("T")


def _elsewhere(*_: Any, **__: Any) -> Any:
    raise TypeError("this task's items are asked and graded by lm-eval")


@dataclass(frozen=True)
class Harness:
    """A task that lm-eval asks and grades: its name there and the folder of lm-eval's tasks that defines it, the
    per-item metric that counts, shots, and the folder of YAMLs that stand in for it where the recipe gives a local
    `path` (one named after the task)."""

    task: str
    folder: str
    metric: str
    few_shot: int = 0
    yamls: str = ""


@dataclass(frozen=True)
class Task:
    """One file holds a task's data, prompts and grader; the grader that selects rewrites also scores answers.

    `load(source, on_bad)` streams a split's rows, bad ones as in `data.good_rows`; `train` and `test` name where the
    splits are by default. `ask` makes the evaluation prompt, `grade(example, text)` judges an answer or a rewrite,
    `template` is the rewriting template (a name of `prompts.REWRITING` or a file), None where the task is never trained
    on.

    `needs` may hold "sandbox": then `grade` also takes `run`, a `sandbox.Run`. With `judge`, the answers are graded by
    the recipe's judge model; `answers_of` names the task whose answers are graded in place of own ones; with `harness`,
    lm-eval does it all, and `load`, `ask` and `grade` are left out.
    """

    name: str
    skill: str
    ask: Callable[[Example], Messages] = _elsewhere
    grade: Callable[..., Grade] = _elsewhere
    load: Callable[..., Iterator[Conversation]] = _elsewhere
    test: DataConfig | None = None
    train: DataConfig | None = None
    template: str | None = None
    metric: str = "accuracy"
    needs: frozenset[str] = field(default_factory=frozenset)
    judge: Judging | None = None
    answers_of: str | None = None
    harness: Harness | None = None


TASKS: dict[str, str] = {
    "gsm8k": "selfdistill.tasks.gsm8k:TASK",
    "multiarith": "selfdistill.tasks.multiarith:TASK",
    "openfunctions": "selfdistill.tasks.openfunctions:TASK",
    "alpaca": "selfdistill.tasks.alpaca:TASK",
    "dolly": "selfdistill.tasks.dolly:TASK",
    "lima": "selfdistill.tasks.lima:TASK",
    "openhermes": "selfdistill.tasks.openhermes:TASK",
    "humaneval": "selfdistill.tasks.humaneval:TASK",
    "magicoder": "selfdistill.tasks.magicoder:TASK",
    "advbench": "selfdistill.tasks.advbench:TASK",
    "advbench-jailbreak": "selfdistill.tasks.advbench:JAILBREAK",
    "advbench-judged": "selfdistill.tasks.advbench:JUDGED",
    "advbench-jailbreak-judged": "selfdistill.tasks.advbench:JAILBREAK_JUDGED",
    "overrefusal": "selfdistill.tasks.overrefusal:TASK",
    "alpacaeval": "selfdistill.tasks.alpacaeval:TASK",
    "alpacaeval-vs-seed": "selfdistill.tasks.alpacaeval:AGAINST_SEED",
    "mmlu": "selfdistill.tasks.knowledge:MMLU",
    "arc-easy": "selfdistill.tasks.knowledge:ARC_EASY",
    "arc-challenge": "selfdistill.tasks.knowledge:ARC_CHALLENGE",
    "hellaswag": "selfdistill.tasks.knowledge:HELLASWAG",
    "winogrande": "selfdistill.tasks.knowledge:WINOGRANDE",
    "truthfulqa-mc1": "selfdistill.tasks.knowledge:TRUTHFULQA_MC1",
    "truthfulqa-mc2": "selfdistill.tasks.knowledge:TRUTHFULQA_MC2",
    "ifeval": "selfdistill.tasks.knowledge:IFEVAL",
    "demo-maths": "selfdistill.tasks.demo:MATHS",
    "demo-tool": "selfdistill.tasks.demo:TOOL",
    "demo-maths-other": "selfdistill.tasks.demo:MATHS_OTHER",
    "demo-tool-other": "selfdistill.tasks.demo:TOOL_OTHER",
    "demo-code": "selfdistill.tasks.demo:CODE",
    "demo-lists": "selfdistill.tasks.demo:LISTS",
    "demo-benign": "selfdistill.tasks.demo:BENIGN",
    "demo-safety": "selfdistill.tasks.demo:SAFETY",
    "demo-jailbreak": "selfdistill.tasks.demo:SAFETY_SUFFIX",
}


def get_task(name: str) -> Task:
    """The task `name`. Raises RecipeError with the nearest names where there is none."""
    if name not in TASKS:
        raise RecipeError(f"There is no task '{name}'; `selfdistill list` shows: {', '.join(sorted(TASKS))}.")
    module, attribute = TASKS[name].split(":")
    task: Task = getattr(importlib.import_module(module), attribute)
    return task


def first_row(source: DataConfig) -> Mapping[str, Any]:
    """The first readable row, by which a task tells its data's forms apart. Raises DataError where there is none."""
    from ..data import read_records

    return next(row for _, row in read_records(source, lambda bad: None))


def load_rows(
    source: DataConfig, convert: Callable[[Mapping[str, Any]], T], on_bad: OnBad | None = None
) -> Iterator[T]:
    """The rows of a form that `data` doesn't know, each converted by `convert` (to a conversation, mostly). Where a row
    lacks a field, or has another type in it, it is a bad row, as in `data.good_rows`; so is one for which `convert`
    raises UnusableError."""
    from ..data.sources import BadRow, good_rows, read_rows
    from ..data.turns import UnusableError

    def converted() -> Iterator[tuple[str, T | BadRow]]:
        for where, row in read_rows(source):
            try:
                yield where, row if isinstance(row, BadRow) else convert(row)
            except UnusableError as error:
                yield where, BadRow.of(where, str(error), json.dumps(row, ensure_ascii=False, default=str))
            except (KeyError, TypeError, AttributeError) as error:
                reason = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else "a field has a wrong type"
                yield where, BadRow.of(where, reason, json.dumps(row, ensure_ascii=False, default=str))

    return (made for _, made in good_rows(converted(), source, on_bad))
