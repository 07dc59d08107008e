"""What each arm forgot, item by item: flips against the seed, an example of each forgotten task, and what the forgotten
items have in common. Reads items, answers and grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

from ..measure.comparisons import Comparison
from ..measure.flips import Flips, Trait, flips, forgotten, in_common
from ..measure.scores import GradeRow, keyed, values
from ..measure.stats import Values
from ..store.experiment import Experiment
from ..store.rows import read_lines
from ..types import Example
from .context import Context, Run
from .entries import EvaluatedTask
from .evaluate import answer_stage
from .task_items import items_stage

Graded = Mapping[str, Sequence[Sequence[GradeRow]]]
"""The graded rows of a task: arm → one entry per run."""

_Key = tuple[str, int]
_MOST_VALUES, _LONGEST_NAME = 20, 40  # of a column that says of which kind an item is
_SHOWN = 1_500  # characters of each text of an example
_NOT_TRAITS = {"answer", "reference", "choices"}


def items_changed(
    experiment: Experiment, context: Context, tasks: Mapping[str, Graded], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """`flips` of each arm on each task against the seed (means over the runs), `examples` of the tasks that an arm
    forgot, and for each such arm the traits that its forgotten items have `in_common`."""
    seed, rows, examples = context.seed_arm, list[dict[str, Any]](), list[dict[str, Any]]()
    words = {(row.task, row.arm): row.word for row in comparisons if row.against == seed}
    found = {name: _Task(experiment, context, context.tasks[name]) for name in tasks}
    common: dict[str, Any] = {}
    for arm in context.recipe.arms:
        before: dict[str, Values] = {}
        after: dict[str, Values] = {}
        for name, graded in tasks.items():
            if (name, arm) not in words or not {seed, arm} <= graded.keys():
                continue
            before[name], runs = values(graded[seed][0]), [values(run) for run in graded[arm]]
            after[name] = runs[0]
            each = [one for run in runs if (one := flips(before[name], run, found[name].choices))]
            if each:
                rows.append({"task": name, "arm": arm, "word": words[name, arm], **_mean(each)})
            if words[name, arm] == "forgot":
                examples += found[name].example(arm, forgotten(before[name], after[name]))
        lost = [name for name in before if words[name, arm] == "forgot"]
        common[arm] = in_common([trait for name in lost for trait in found[name].traits()], before, after)
    return {"flips": rows, "examples": examples, "in_common": {arm: found for arm, found in common.items() if found}}


def _mean(each: Sequence[Flips]) -> dict[str, Any]:
    parts = [one.to_json() for one in each]
    return {key: parts[0][key] if key in ("n", "choices") else fmean(part[key] for part in parts) for key in parts[0]}


class _Task:
    """The items and answers of a task, read when they are needed."""

    def __init__(self, experiment: Experiment, context: Context, task: EvaluatedTask) -> None:
        self._experiment, self._context, self._task = experiment, context, task
        self._base = context.tasks.get(task.answers_of, task)

    @cached_property
    def items(self) -> dict[_Key, Example]:
        path = self._experiment.path(items_stage(self._context, self._base).output)
        rows = read_lines(path) if path.is_file() else iter(())
        return dict(keyed(map(Example.from_json, rows), lambda item: item.id))

    @cached_property
    def choices(self) -> dict[_Key, int]:
        """The number of choices of each item that has choices."""
        if self._task.task.harness:
            rows = self._answers(self._context.runs[self._context.seed_arm])
            return {(name, 0): len(row["choices"]) for name, row in rows.items() if row.get("choices")}
        offered = ((key, item.extra.get("choices")) for key, item in self.items.items())
        return {key: len(choices) for key, choices in offered if isinstance(choices, Sequence | Mapping)}

    def traits(self) -> list[Trait]:
        """Lengths in characters, and the columns that say of which kind an item is."""
        items, name = self.items, self._task.name
        lengths = {
            "length of the prompt": {key: _prompt_length(item) for key, item in items.items()},
            "length of the reference": {key: len(item.reference) for key, item in items.items()},
        }
        found = [Trait(name, trait, {**own}) for trait, own in lengths.items() if len({*own.values()}) > 1]
        for column in sorted({column for item in items.values() for column in item.extra} - _NOT_TRAITS):
            own = {key: item.extra[column] for key, item in items.items() if column in item.extra}
            if all(isinstance(value, str | int | float) for value in own.values()):
                found += _kinds(name, column, {key: str(value) for key, value in own.items()})
        return found

    def example(self, arm: str, keys: Sequence[_Key]) -> list[dict[str, Any]]:
        """The forgotten item that is read fastest: with the shortest prompt and answers. Empty for tasks without
        answers as text."""
        if self._task.task.harness or not keys:
            return []
        seed, run = self._context.runs[self._context.seed_arm], self._context.runs_of(arm)[0]
        said = [self._answers(each) for each in (seed, run)]
        there = [key for key in keys if key in self.items and all(key[0] in answers for answers in said)]
        if not there:
            return []

        def length(key: _Key) -> int:
            return _prompt_length(self.items[key]) + sum(len(answers[key[0]]["text"]) for answers in said)

        key = min(there, key=lambda key: (length(key), key))
        item, texts = self.items[key], [str(answers[key[0]]["text"])[:_SHOWN] for answers in said]
        shown = {"prompt": item.instruction[:_SHOWN], "reference": item.reference[:_SHOWN]}
        of = {"task": self._task.name, "arm": arm, "id": key[0], "of": len(keys)}
        return [{**of, **shown, "seed": texts[0], "answer": texts[1]}]

    def _answers(self, run: Run) -> dict[str, dict[str, Any]]:
        path = self._experiment.path(answer_stage(self._context, run, self._base).output)
        if self._task.task.harness:
            path = path.with_name("answers.jsonl")
        return {row["id"]: row for row in read_lines(path)} if path.is_file() else {}


def _kinds(task: str, column: str, values: Mapping[_Key, str]) -> list[Trait]:
    """The trait of a column with few values; of one that joins several kinds by plus signs, a trait for each kind."""

    def few(kinds: set[str]) -> bool:
        return 2 <= len(kinds) <= _MOST_VALUES and max(map(len, kinds)) <= _LONGEST_NAME

    if few({*values.values()}):
        return [Trait(task, column, values)]
    kinds = {part for value in values.values() for part in value.split("+")}
    if not few(kinds):
        return []
    return [
        Trait(
            task,
            f"{column} {kind}",
            {key: "yes" if kind in value.split("+") else "no" for key, value in values.items()},
        )
        for kind in sorted(kinds)
    ]


def _prompt_length(item: Example) -> int:
    return sum(len(turn.content) for turn in item.prompt)
