"""The items of a knowledge task, from lm-eval's own definition on the hub or from a local file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..data import draw
from ..errors import DataError, RecipeError, StageError, first_line
from ..grading.traces import split
from ..models.hub import ask_hub
from ..recipe import TaskEntry
from ..tasks import Harness, Task
from ..types import Example, Message, content_id
from .quiet import quiet

_FEW_SHOT_SEED = 1234  # lm-eval's own default


@dataclass(frozen=True)
class Benchmark:
    """A task's items, read and drawn without a model. `parts` are lm-eval's tasks by name (one per subject of MMLU),
    `groups` their summaries, `drawn` the indices of each part's items."""

    entry: TaskEntry
    harness: Harness
    metric: str
    few_shot: int
    parts: dict[str, Any]
    groups: dict[str, Any]
    drawn: dict[str, list[int]]

    def items(self) -> Iterator[Example]:
        """Yield the questions, without few-shot examples, and the right answers, in the order of the grades."""
        for name, part in self.parts.items():
            for index in self.drawn[name]:
                doc = part.eval_docs[index]
                text = doc["sentence"] if part.multiple_input else part.doc_to_text(doc)
                right = "" if part.OUTPUT_TYPE == "generate_until" else part.doc_to_choice(doc)[gold(part, doc)]
                yield Example(content_id(name, doc), (Message("user", text),), right, {"part": name})


def load_benchmark(task: Task, entry: TaskEntry) -> Benchmark:
    """Load the items of `task` from the hub, or from the local file `entry.path`, and draw `entry.n` of them.

    Raises StageError if lm-eval or a package that it needs is missing, DataError if the data cannot be read or a row
    lacks a field, RecipeError if the recipe asks for more few-shot examples than there are.
    """
    harness = task.harness
    if harness is None:
        raise TypeError(f"{task.name} is not a task of lm-eval")
    check_installed(harness.task)
    with quiet():
        try:
            loaded = _local(harness, entry) if entry.path else _hub(harness)
        except (DataError, RecipeError):
            raise
        except Exception as error:  # of datasets, the hub client, pyarrow, jinja
            advice = "check the file" if entry.path else "check the network, or name a local file in its `path`"
            raise DataError(f"The data of '{entry.name}' can't be loaded ({first_line(error)}); {advice}.") from error
        parts, groups = loaded["tasks"], loaded["groups"]
        shots = _set_shots(entry, harness, parts)
        for part in parts.values():
            _grade_answers_alone(part)
        sizes = [len(part.eval_docs) for part in parts.values()]
        mask, start = draw(sum(sizes), entry.n, entry.seed), 0
        drawn: dict[str, list[int]] = {}
        for name, size in zip(list(parts), sizes, strict=True):
            drawn[name] = [int(index) for index in mask[start : start + size].nonzero()[0]]
            start += size
            if not drawn[name]:
                del parts[name], drawn[name]
        benchmark = Benchmark(entry, harness, task.metric, shots, parts, groups, drawn)
        _dry_run(benchmark)
    return benchmark


def check_installed(task: str = "") -> None:
    """Raise StageError if lm-eval, or for IFEval a package that its checks need, is missing."""
    wanted = ("langdetect", "immutabledict", "nltk") if task == "ifeval" else ()
    if missing := [name for name in ("lm_eval", *wanted) if find_spec(name) is None]:
        raise StageError(
            f"Knowledge tasks need {', '.join(missing)}; install with `pip install 'selfdistill[knowledge]'`."
        )
    if task == "ifeval":
        import nltk

        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:  # lm-eval would download it on import, and fail much later if it can't
            raise StageError(
                "IFEval's checks need nltk's sentence splitter; get it with `python -m nltk.downloader punkt_tab`."
            ) from None


def _hub(harness: Harness) -> dict[str, Any]:
    """Load lm-eval's own definition. Only its folder is indexed, since indexing all takes ten seconds."""
    import lm_eval.tasks

    ask_hub()
    folder = Path(lm_eval.tasks.__file__).parent / harness.folder
    manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    return dict(manager.load([harness.task]))


def _local(harness: Harness, entry: TaskEntry) -> dict[str, Any]:
    """Load our YAML for the file; for MMLU one task per subject, weighed by size as in lm-eval's group."""
    from lm_eval.api.group import Group

    from ..tasks.knowledge import mmlu_subjects

    path = str(Path(entry.path or "").expanduser())
    if harness.task != "mmlu":
        return _from_yaml(harness, path=path)
    weighed = {"metric": harness.metric, "weight_by_size": True}
    group = Group.from_config({"group": harness.task, "task": [], "aggregate_metric_list": [weighed]})
    shots = mmlu_shots(path)
    for subject in sorted(mmlu_subjects(path)):
        (part,) = _from_yaml(harness, path=path, subject=subject, shots=str(shots or ""))["tasks"].values()
        part.set_config("task", f"mmlu_{subject}")
        group.add(part)
    return {"tasks": {part.task_name: part for part in group.get_all_tasks()}, "groups": {group.name: group}}


def _from_yaml(harness: Harness, **arguments: str) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, metadata=arguments)
    return {"groups": {}, **manager.load([str(Path(harness.yamls) / f"{harness.task}.yaml")])}


def mmlu_shots(path: str) -> Path | None:
    """Return the file of few-shot examples next to a local MMLU file, if there is one."""
    shots = Path(path).expanduser().with_name("mmlu_dev.jsonl")
    return shots if shots.is_file() else None


def _set_shots(entry: TaskEntry, harness: Harness, parts: dict[str, Any]) -> int:
    """Set and return the number of few-shot examples: the recipe's, or else the task's. For a local file of MMLU they
    come from the file next to it; without that file there are none."""
    shots = harness.few_shot if entry.few_shot is None else entry.few_shot
    if entry.path:
        there = min(len(part.dataset.get("dev", ())) for part in parts.values())
        if entry.few_shot and entry.few_shot > there:
            where = "mmlu_dev.jsonl next to the file" if harness.task == "mmlu" else "the hub's training split only"
            raise RecipeError(
                f"'{entry.name}' asks for {entry.few_shot} few-shot examples, and there are {there}: they come from "
                f"{where}; lower few_shot or leave it out."
            )
        shots = min(shots, there)
    for part in parts.values():
        if shots and part.get_config("num_fewshot") == 0:
            raise RecipeError(f"'{entry.name}' is defined without few-shot examples; leave few_shot out.")
        part.set_config("num_fewshot", shots)
        part.set_fewshot_seed(seed=_FEW_SHOT_SEED)
        if entry.max_new_tokens and part.OUTPUT_TYPE == "generate_until":
            part.set_config("generation_kwargs", {"max_gen_toks": entry.max_new_tokens}, update=True)
    return shots


def _grade_answers_alone(part: Any) -> None:
    """Remove think traces from the text that lm-eval grades. The whole replies stay in its samples, under `resps`. A
    reply that ends inside its trace is graded as an empty reply."""
    from lm_eval.api.filter import Filter

    class Answers(Filter):
        def apply(self, resps: Any, docs: Any) -> Any:
            return [[split(text).answer or "" for text in texts] for texts in resps]

    if generates(part):
        for ensemble in part._filters:
            ensemble.filters.insert(0, Answers)


def _dry_run(benchmark: Benchmark) -> None:
    """Grade an empty answer to each generative item, to find items that cannot be graded before a model is asked.
    Raises DataError."""
    for name, part in benchmark.parts.items():
        for index in benchmark.drawn[name] if part.OUTPUT_TYPE == "generate_until" else ():
            try:
                part.process_results(part.eval_docs[index], [""])
            except Exception as error:
                raise DataError(
                    f"{benchmark.entry.path or benchmark.harness.task}: the item at index {index} can't be graded "
                    f"({type(error).__name__}: {first_line(error)}); fix its instructions and their "
                    "arguments, and run the command again."
                ) from error


def generates(part: Any) -> bool:
    return bool(part.OUTPUT_TYPE == "generate_until")


def gold(part: Any, doc: Any) -> int:
    return int(part.doc_to_text(doc) if part.multiple_input else part.doc_to_target(doc))
