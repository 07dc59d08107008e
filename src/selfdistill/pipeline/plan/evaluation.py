"""What is measured of every run: the recipe's entries, the task behind each, and the stages that they come to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...data import check_format
from ...errors import RecipeError
from ...grading.classifier import asked_of_classifier
from ...harness import ENGINES, Benchmark, load_benchmark, mmlu_shots
from ...recipe import DataConfig, Sampling, TaskEntry
from ...store.experiment import Stage
from ...store.identity import file_identity, model_identity, path_identity, source_identity
from ...tasks import Task, get_task
from ...types import Example, Grade, Message, Messages, content_id, messages_json

if TYPE_CHECKING:
    from . import Plan

HELDOUT = "heldout"
# Asked a second time under `evaluate.system`: a system prompt is what many rely on for safety.
_UNDER_SYSTEM = ("safety", "over-refusal")
# What of an entry that grades another's answers chooses the items.
_ITEMS = {"path", "config", "split", "format", "n", "seed", "samples", "max_new_tokens"}
_STUB = Example.of((Message("user", "A request?"),), "A reference.")


@dataclass(frozen=True)
class Evaluation:
    """The part of a plan that is about evaluation. Raises what `Plan` raises."""

    plan: Plan

    # ---- entries and their tasks

    @cached_property
    def entries(self) -> list[TaskEntry]:
        """The tasks to evaluate; where none are named, the held-out rows if there are any. A task that grades another's
        answers brings that one with it."""
        config = self.plan.recipe.evaluate
        named = list(config.tasks)
        if not named and self.plan.source.heldout:
            named = [TaskEntry(task=HELDOUT)]
        if config.system:
            named = [wanted for entry in named for wanted in (entry, *self._under_system(entry, config.system))]
        entries: dict[str, TaskEntry] = {}
        for entry in named:
            base = self._base(entry, named)
            entries.setdefault(base.name, base)
            entries.setdefault(entry.name, entry)
        return list(entries.values())

    def _under_system(self, entry: TaskEntry, system: str) -> list[TaskEntry]:
        if entry.task == HELDOUT or entry.system or get_task(entry.task).skill not in _UNDER_SYSTEM:
            return []
        return [entry.model_copy(update={"name": f"{entry.name}+system", "system": system})]

    @property
    def asked(self) -> list[TaskEntry]:
        """The entries that have answers of their own."""
        return [entry for entry in self.entries if self.base(entry) == entry]

    def base(self, entry: TaskEntry) -> TaskEntry:
        """The entry whose answers are graded: itself, or that of the task which its task names."""
        return self._base(entry, self.entries)

    def _base(self, entry: TaskEntry, among: list[TaskEntry]) -> TaskEntry:
        answers_of = None if entry.task == HELDOUT else get_task(entry.task).answers_of
        if answers_of is None:
            return entry
        for other in among:
            same = {
                "task": answers_of,
                "system": entry.system,
                **entry.model_dump(include=_ITEMS, exclude_defaults=True),
            }
            if all(getattr(other, key) == value for key, value in same.items()):
                return other
        name = answers_of + ("+system" if entry.name.endswith("+system") else "")
        taken = any(other.name == name for other in among)
        return entry.model_copy(update={"task": answers_of, "name": f"{entry.name}.answers" if taken else name})

    def _check_keys(self, entry: TaskEntry) -> None:
        """Raises RecipeError where an entry asks for what its task has no use for."""
        task, base = self.task(entry), self.base(entry)
        if (entry.samples > 1 or entry.k > 1) and (task.harness or task.judge):
            raise RecipeError(f"The task '{entry.name}' takes one answer an item; leave samples and k out.")
        if entry.few_shot is not None and not task.harness:
            raise RecipeError(f"The task '{entry.name}' is asked without few-shot examples; leave few_shot out.")
        backend = self.plan.recipe.evaluate.backend
        if task.harness and backend not in ENGINES:
            raise RecipeError(
                f"'{entry.name}' needs log-likelihoods, which the backend '{backend}' doesn't give; set "
                f"evaluate.backend to {' or '.join(ENGINES)}, or leave the task out."
            )
        if not task.harness:
            self.items_source(base)
            self.sampling(base)

    def task(self, entry: TaskEntry) -> Task:
        """The task of an entry as it is asked and graded here, under the entry's name."""
        target = self.plan.target
        if entry.task == HELDOUT:
            # Without a grader there is nothing to score: that is no 100 %.
            ungraded = lambda _example, _text: Grade("unjudged", "no grader named")  # noqa: E731
            task = replace(target, grade=target.grade if self.plan.grades else ungraded)
        else:
            task = target if self.is_target(entry) else self.plan.with_sandbox(get_task(entry.task))
        if entry.system:
            task = _asked_under(task, entry.system)
        judge = self.plan.recipe.judge
        if task.judge and judge and judge.model.answering(judge.backend) == "classifier":
            task = replace(task, judge=asked_of_classifier(task.judge))
        metric = f"pass@{entry.k}" if entry.samples > 1 else task.metric
        return replace(task, name=entry.name, metric=metric)

    def benchmark(self, entry: TaskEntry) -> Benchmark:
        """The items of an entry that lm-eval asks: read once for all runs, as MMLU takes its time."""
        if entry.name not in self._benchmarks:
            self._benchmarks[entry.name] = load_benchmark(self.task(entry), entry)
        return self._benchmarks[entry.name]

    @cached_property
    def _benchmarks(self) -> dict[str, Benchmark]:
        return {}

    def is_target(self, entry: TaskEntry) -> bool:
        return entry.task in (HELDOUT, self.plan.recipe.task)

    def items_source(self, entry: TaskEntry) -> DataConfig | None:
        """Where a task's items are; None for the rows that `data.heldout` sets aside."""
        check_format(entry.format or "auto", "evaluate.tasks.format")
        changes = entry.model_dump(include={"path", "config", "split", "format", "on_bad_row"}, exclude_none=True)
        own = self.plan.source
        default = own if entry.task == HELDOUT else get_task(entry.task).test
        if entry.task == HELDOUT and entry.path is None:
            if not own.heldout:
                raise RecipeError(
                    "The task `heldout` has no rows: set data.heldout to a number of rows to set aside, or give the "
                    "task a path."
                )
            return None
        base = default.model_dump(exclude={"n", "seed", "heldout"}) if default else {}
        if entry.path:
            # Another file: what the default said of its config and columns does not hold for it.
            base = {key: value for key, value in base.items() if entry.task == HELDOUT and key != "config"}
        if not (base | changes).get("path"):
            raise RecipeError(f"The task '{entry.task}' names no data; give it a path.")
        return DataConfig.model_validate(base | changes)

    def sampling(self, entry: TaskEntry) -> Sampling:
        sampling = self.plan.recipe.evaluate.sampling
        if entry.samples > 1 and sampling.temperature == 0:
            raise RecipeError(
                f"{entry.samples} samples of {entry.name} would all be the same: greedy answers don't vary. Set "
                "evaluate.sampling.temperature, or samples to 1."
            )
        changes = {"max_new_tokens": entry.max_new_tokens} if entry.max_new_tokens else {}
        return sampling.model_copy(update=changes)

    def manner(self, entry: TaskEntry) -> dict[str, Any]:
        """How its answers are drawn, which a score depends on beside the items. lm-eval decides on its own sampling."""
        base = self.base(entry)
        sampling = {} if self.task(base).harness else self.sampling(base).model_dump(exclude={"seed"})
        return {**base.model_dump(include={"system", "few_shot", "samples"}), "k": entry.k, **sampling}

    # ---- stages

    @property
    def stages(self) -> list[Stage]:
        for entry in self.entries:
            self._check_keys(entry)
        runs, asked = self.plan.runs, self.asked
        items = [self.items_stage(entry) for entry in asked]
        answered = [self.answer_stage(run, entry) for run in runs for entry in asked]
        judged = [stage for run in runs for entry in self.entries if (stage := self.judge_stage(run, entry))]
        return [*items, *answered, *judged]

    def items_stage(self, entry: TaskEntry) -> Stage:
        name, output = f"items/{entry.name}", f"items/{entry.name}.jsonl"
        if harness := self.task(entry).harness:
            asked = entry.model_dump(include={"task", "n", "seed", "few_shot", "max_new_tokens", "system"})
            shots = mmlu_shots(entry.path) if entry.path and harness.task == "mmlu" else None
            files = [path_identity(entry.path) if entry.path else harness.task, file_identity(str(shots or ""))]
            return Stage(name, output, {**asked, "source": files})
        source = self.items_source(entry)
        settings = {"task": entry.task, "n": entry.n, "seed": entry.seed}
        if source is None:
            return Stage(name, output, settings, (self.plan.data_stage,))
        identity = {"source": source_identity(source), **source.model_dump(exclude={"path", "n", "seed"})}
        return Stage(name, output, {**settings, **identity})

    def answer_stage(self, run: str, entry: TaskEntry) -> Stage:
        """The answers of a run; of a task of lm-eval's its score too."""
        trained, harness = self.plan.train_stage(run), self.task(entry).harness
        backend = self.plan.recipe.model.answering(self.plan.recipe.evaluate.backend)
        settings = {**self.plan.answer_settings, "backend": backend}
        if not harness:
            settings |= {"sampling": self.sampling(entry).model_dump()}
            settings |= entry.model_dump(include={"system", "samples"}, exclude_defaults=True)
        folder, name = f"arms/{run}/evaluate/{entry.name}", f"answer/{run}/{entry.name}"
        inputs = (self.items_stage(entry), *([trained] if trained else []))
        if harness:
            beside = (f"{folder}/answers.jsonl", f"{folder}/grades.jsonl")
            return Stage(name, f"{folder}/score.json", settings, inputs, beside=beside)
        output = f"{folder}/answers.jsonl"
        return Stage(name, output, settings, inputs, by_row=(output,))

    def judge_stage(self, run: str, entry: TaskEntry) -> Stage | None:
        """None where no judge is asked: of a task without one, and of the seed against itself."""
        judging = self.task(entry).judge
        if judging is None or (judging.against == "seed" and run == self.plan.seed_arm):
            return None
        base = self.base(entry)
        runs = [run, self.plan.seed_arm] if judging.against == "seed" else [run]
        inputs = tuple(self.answer_stage(name, base) for name in runs)
        # Questions are filed by content, so where judge or prompt changed they are asked anew and nothing is lost.
        stub = content_id(*(messages_json(question) for question in judging.ask(_STUB, "An answer.", "Another.")))
        settings = {"task": entry.task, "judge": self.judge_identity, "questions": stub}
        output = f"arms/{run}/evaluate/{entry.name}/judged.jsonl"
        return Stage(f"judge/{run}/{entry.name}", output, settings, inputs, cheap=True, by_row=(output,))

    def score_stage(self, run: str, entry: TaskEntry) -> Stage | None:
        """What makes score.json; None for the seed where it would be compared with itself."""
        task = self.task(entry)
        if task.harness:
            return self.answer_stage(run, entry)
        source = self.judge_stage(run, entry) if task.judge else self.answer_stage(run, self.base(entry))
        if source is None:
            return None
        settings: dict[str, Any] = {"grader": {"task": entry.task}}
        if self.is_target(entry):
            settings = {"grader": self.plan.grader_settings}
        settings |= entry.model_dump(include={"k"}, exclude_defaults=True)
        if "sandbox" in task.needs:
            settings["sandbox"] = self.plan.recipe.sandbox
        folder = f"arms/{run}/evaluate/{entry.name}"
        beside = (f"{folder}/grades.jsonl",)
        return Stage(f"grade/{run}/{entry.name}", f"{folder}/score.json", settings, (source,), True, beside=beside)

    @cached_property
    def judge_identity(self) -> str:
        """What a judgement depends on, by which it is filed. Raises RecipeError where the recipe names no judge."""
        judge = self.plan.recipe.judge
        if judge is None:
            judged = ", ".join(entry.name for entry in self.entries if self.task(entry).judge)
            raise RecipeError(
                f"A judge is needed for {judged}; name one in `judge.model`, or take these out of evaluate.tasks."
            )
        server, engine = judge.model.server, judge.model.engine.deciding
        model = judge.model.model_dump(exclude={"server", "device", "batch_tokens", "engine", "ray", "date"})
        model |= self.plan.own_date(judge.model)
        model |= {"engine": engine} if engine else {}
        return content_id(
            model,
            model_identity(judge.model),
            server and [server.url, server.api],
            judge.model.answering(judge.backend),
            judge.sampling.model_dump(),
        )


def _asked_under(task: Task, system: str) -> Task:
    """The task with a system prompt put before its own."""
    ask = task.ask

    def asked(example: Example) -> Messages:
        messages = ask(example)
        if messages[0].role == "system":
            return (Message("system", f"{system}\n\n{messages[0].content}"), *messages[1:])
        return (Message("system", system), *messages)

    return replace(task, ask=asked)
