"""Tasks: how a model is asked and how an answer is graded. To add a task, add a file and a line in `TASKS`."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..data import BadRow, OnBad, good_rows, read_records, read_rows
from ..data.bad_rows import UnusableError
from ..errors import RecipeError
from ..grading import make_grader
from ..grading.judged import Judging
from ..recipe import DataConfig
from ..recipe.data import GraderSpec
from ..types import Conversation, Example, Grade, Messages

T = TypeVar("T")


def _not_ours(*_: Any, **__: Any) -> Any:
    raise TypeError("lm-eval loads and grades the items of this task")


def _prompt(example: Example) -> Messages:
    return example.prompt


def _last_turn(conversation: Conversation) -> list[Example]:
    return conversation.examples()[-1:]


@dataclass(frozen=True)
class Harness:
    """A task that lm-eval asks and grades: its name in lm-eval, the folder of lm-eval's tasks that defines it, the
    metric per item, the number of few-shot examples, and the folder with the YAML that replaces it if the recipe gives
    a local `path`."""

    task: str
    folder: str
    metric: str
    few_shot: int = 0
    yamls: str = ""


@dataclass(frozen=True)
class Task:
    """A task's data, prompts and grader. The same grader selects rewrites and scores answers.

    `load(source, on_bad)` streams the rows of a split; bad rows are handled as in `data.good_rows`. `train` and `test`
    are the default sources. `ask` returns the evaluation prompt of an example. `grade(example, text)` grades an answer
    or a rewrite. `template` is the rewriting template (a name in `prompts.REWRITING`, or a file), or None if the task
    is for evaluation only. `grader` is the specification of a grader, as in `rewrite.grader`, in place of `grade`.
    `paper_template` and `paper_grader` are those that `rewrite.preset: paper` takes.

    `items` returns the examples of a conversation that are asked, by default its last turn. A task on `own_rows` asks
    the rows that the recipe sets aside.

    `reads` are the columns in `Example.extra` that `grade` reads. If `needs` holds "sandbox", `grade` also takes `run`,
    a `sandbox.Runner`. With `judge`, the recipe's judge model grades the answers. `answers_of` names another task whose
    answers are graded. With `harness`, lm-eval does everything, and `load`, `ask` and `grade` are left out.

    `steps` are the levels of difficulty of a probe, and `version` is that of its items, which the package generates.
    """

    name: str
    skill: str
    ask: Callable[[Example], Messages] = _prompt
    grade: Callable[..., Grade] = _not_ours
    load: Callable[..., Iterator[Conversation]] = _not_ours
    items: Callable[[Conversation], list[Example]] = _last_turn
    own_rows: bool = False
    test: DataConfig | None = None
    train: DataConfig | None = None
    template: str | None = None
    paper_template: str | None = None
    grader: GraderSpec | None = None
    paper_grader: GraderSpec | None = None
    metric: str = "accuracy"
    reads: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    judge: Judging | None = None
    answers_of: str | None = None
    harness: Harness | None = None
    steps: tuple[str, ...] = ()
    version: int = 0

    def __post_init__(self) -> None:
        if self.grader is not None and self.grade is _not_ours:
            object.__setattr__(self, "grade", make_grader(self.grader))


TASKS: dict[str, str] = {
    "gsm8k": "selfdistill.tasks.gsm8k:TASK",
    "gsm8k-platinum": "selfdistill.tasks.gsm8k:PLATINUM",
    "mgsm": "selfdistill.tasks.mgsm:TASK",
    "multiarith": "selfdistill.tasks.multiarith:TASK",
    "openfunctions": "selfdistill.tasks.openfunctions:TASK",
    "tool_calls": "selfdistill.tasks.tool_calls:TASK",
    "bfcl-simple": "selfdistill.tasks.bfcl:SIMPLE",
    "bfcl-multiple": "selfdistill.tasks.bfcl:MULTIPLE",
    "bfcl-parallel": "selfdistill.tasks.bfcl:PARALLEL",
    "bfcl-irrelevance": "selfdistill.tasks.bfcl:IRRELEVANCE",
    "alpaca": "selfdistill.tasks.alpaca:TASK",
    "dolly": "selfdistill.tasks.dolly:TASK",
    "lima": "selfdistill.tasks.lima:TASK",
    "openhermes": "selfdistill.tasks.openhermes:TASK",
    "humaneval": "selfdistill.tasks.humaneval:TASK",
    "mbpp-plus": "selfdistill.tasks.mbpp:TASK",
    "jsonschemabench": "selfdistill.tasks.json_schema_bench:TASK",
    "magicoder": "selfdistill.tasks.magicoder:TASK",
    "advbench": "selfdistill.tasks.advbench:TASK",
    "advbench-jailbreak": "selfdistill.tasks.advbench:JAILBREAK",
    "advbench-judged": "selfdistill.tasks.advbench:JUDGED",
    "advbench-jailbreak-judged": "selfdistill.tasks.advbench:JAILBREAK_JUDGED",
    "strongreject": "selfdistill.tasks.strongreject:TASK",
    "xstest": "selfdistill.tasks.xstest:TASK",
    "overrefusal": "selfdistill.tasks.overrefusal:TASK",
    "reading": "selfdistill.tasks.reading:TASK",
    "everyday-facts": "selfdistill.tasks.everyday:FACTS",
    "everyday-forms": "selfdistill.tasks.everyday:FORMS",
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
    "probe-instructions": "selfdistill.tasks.probes.instructions:TASK",
    "probe-system": "selfdistill.tasks.probes.system_turn:TASK",
    "probe-json": "selfdistill.tasks.probes.json_objects:TASK",
    "probe-tools": "selfdistill.tasks.probes.tool_use:TASK",
    "probe-maths": "selfdistill.tasks.probes.word_problems:TASK",
    "probe-lookup": "selfdistill.tasks.probes.lookup:TASK",
    "probe-lists": "selfdistill.tasks.probes.listing:TASK",
    "probe-code": "selfdistill.tasks.probes.short_code:TASK",
    "probe-languages": "selfdistill.tasks.probes.languages:TASK",
    "probe-memory": "selfdistill.tasks.probes.memory:TASK",
    "probe-refusal": "selfdistill.tasks.probes.harmful:TASK",
    "probe-format": "selfdistill.tasks.probes.shapes:TASK",
    "demo-maths": "selfdistill.tasks.demo_skills:MATHS",
    "demo-tool": "selfdistill.tasks.demo_skills:TOOL",
    "demo-maths-other": "selfdistill.tasks.demo_skills:MATHS_OTHER",
    "demo-tool-other": "selfdistill.tasks.demo_skills:TOOL_OTHER",
    "demo-code": "selfdistill.tasks.demo_skills:CODE",
    "demo-lists": "selfdistill.tasks.demo_skills:LISTS",
    "demo-benign": "selfdistill.tasks.demo_skills:BENIGN",
    "demo-safety": "selfdistill.tasks.demo_skills:SAFETY",
    "demo-jailbreak": "selfdistill.tasks.demo_skills:SAFETY_SUFFIX",
    "demo-calls": "selfdistill.tasks.demo_skills:CALLS",
    "demo-results": "selfdistill.tasks.demo_skills:RESULTS",
}


def get_task(name: str) -> Task:
    """The task `name`. Raises RecipeError with the known names if there is none."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3)
        known = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(sorted(TASKS))}."
        raise RecipeError(f"There is no task '{name}'; {known} `selfdistill list` shows all with their skills.")
    module, attribute = TASKS[name].split(":")
    task: Task = getattr(importlib.import_module(module), attribute)
    return task


def first_row(source: DataConfig) -> Mapping[str, Any]:
    """The first readable row, from which a task recognises the form in which its data is published; empty if the recipe
    names a format or columns. Raises DataError if there is no row."""
    named = source.format != "auto" or source.columns
    return {} if named else next(row for _, row in read_records(source, lambda bad: None))


def load_rows(
    source: DataConfig, on_bad: OnBad | None = None, *, convert: Callable[[Mapping[str, Any]], T]
) -> Iterator[T]:
    """Each row converted by `convert`, for rows in none of the data formats. A row is bad (see `data.good_rows`) if it
    lacks a field, has a field of the wrong type, or if `convert` raises UnusableError."""

    def converted() -> Iterator[tuple[str, T | BadRow]]:
        for where, row in read_rows(source):
            try:
                yield where, row if isinstance(row, BadRow) else _checked(convert(row))
            except (UnusableError, LookupError, TypeError, AttributeError) as error:
                yield where, BadRow.of(where, _reason(error), json.dumps(row, ensure_ascii=False, default=str))

    return (made for _, made in good_rows(converted(), source, on_bad))


def _checked(made: T) -> T:
    """The converted row. Raises TypeError if a turn of a conversation is not text."""
    if isinstance(made, Conversation) and not all(isinstance(message.content, str) for message in made.messages):
        raise TypeError
    return made


def _reason(error: Exception) -> str:
    match error:
        case UnusableError():
            return str(error)
        case KeyError():
            return f"`{error.args[0]}` is missing"
        case IndexError():
            return "a field has too few entries"
    return "a field has a wrong type"
