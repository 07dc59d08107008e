"""Knowledge and instruction following, asked and graded by lm-eval (EleutherAI's lm-evaluation-harness).

By default these are lm-eval's own tasks with the hub's data. If the recipe gives a `path`, the YAMLs in `lm_eval/` ask
the rows of that file in the same words and count the same metric. Each public function below is the `custom_dataset` of
a YAML: it returns the rows of a local file, each checked, as the documents of lm-eval's own task. lm-eval can also be
called on these files directly:
`lm_eval run --include_path selfdistill/tasks/lm_eval --tasks arc_easy --metadata '{"path": "rows.jsonl"}' ...`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.bad_rows import UnusableError
from ..recipe import DataConfig
from . import Harness, Task, load_rows

if TYPE_CHECKING:
    from datasets import DatasetDict

Document = dict[str, Any]

LETTERS = "ABCD"


def mmlu(path: str, subject: str, shots: str = "", **_: Any) -> DatasetDict:
    """The rows of one subject; the few-shot examples are the rows of the file `shots`.

    {"subject": "abstract_algebra", "question": "Find all c …", "choices": ["0", "1", "2", "3"], "answer": "B"}
    """
    return _splits(test=mmlu_subjects(path)[subject], dev=mmlu_subjects(shots).get(subject, []) if shots else [])


def mmlu_subjects(path: str) -> dict[str, list[Document]]:
    """The rows of each subject: question, four choices, and the answer as a letter or an index."""
    file = Path(path).expanduser()
    return _mmlu_subjects(path, file.stat().st_mtime_ns if file.exists() else 0)


@lru_cache(maxsize=2)
def _mmlu_subjects(path: str, _changed: int) -> dict[str, list[Document]]:
    """Reads the file once for all 57 subjects."""
    subjects: dict[str, list[Document]] = {}
    for row in _read(path, _mmlu):
        subjects.setdefault(row["subject"], []).append(row)
    return subjects


def arc(path: str, **_: Any) -> DatasetDict:
    """{"question": "Is milk …?", "choices": {"text": ["yes", "no"], "label": ["A", "B"]}, "answerKey": "A"}"""
    return _splits(test=_read(path, _arc))


def hellaswag(path: str, **_: Any) -> DatasetDict:
    """`query` is the cleaned context after its activity label, `gold` the index of the right choice.

    {"query": "Finance and Business: How to apply for a …", "choices": ["You may be …", …], "gold": 3}
    """
    return _splits(test=_read(path, _hellaswag))


def winogrande(path: str, **_: Any) -> DatasetDict:
    """`_` is the blank in the sentence.

    {"sentence": "The key did not fit, for the _ was bent.", "option1": "key", "option2": "lock", "answer": "1"}
    """
    return _splits(test=_read(path, _winogrande))


def truthfulqa(path: str, **_: Any) -> DatasetDict:
    """The targets are {choice: 0 or 1}, or {choices, labels} as on the hub.

    {"question": "What happens if you eat a pomegranate?", "mc1_targets": {"Nothing in …": 1, "You will die.": 0},
     "mc2_targets": {…}}
    """
    return _splits(test=_read(path, _truthfulqa))


def ifeval(path: str, **_: Any) -> DatasetDict:
    """`kwargs` has one object per instruction.

    {"key": 1, "prompt": "Write two …", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    """
    return _splits(test=_read(path, _ifeval))


def _read(path: str, convert: Callable[[Mapping[str, Any]], Document]) -> list[Document]:
    return list(load_rows(DataConfig(path=path), convert=convert))


def _splits(**splits: list[Document]) -> DatasetDict:
    from datasets import Dataset, DatasetDict

    return DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()})


def _mmlu(row: Mapping[str, Any]) -> Document:
    choices, answer = _texts(row, "choices"), row["answer"]
    if len(choices) != len(LETTERS):
        raise UnusableError(f"`choices` holds {len(choices)} choices, not 4")
    index = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else answer
    if index not in range(len(LETTERS)):
        raise UnusableError(f"`answer` is {answer!r}, neither a letter from A to D nor an index from 0 to 3")
    return {"subject": _text(row, "subject"), "question": _text(row, "question"), "choices": choices, "answer": index}


def _arc(row: Mapping[str, Any]) -> Document:
    choices = row["choices"]
    texts, labels, answer = _texts(choices, "text"), _texts(choices, "label"), _text(row, "answerKey")
    if len(texts) != len(labels) or answer not in labels:
        raise UnusableError(f"`answerKey` {answer!r} is none of the {len(texts)} labels in `choices`")
    return {"question": _text(row, "question"), "choices": {"text": texts, "label": labels}, "answerKey": answer}


def _hellaswag(row: Mapping[str, Any]) -> Document:
    choices, gold = _texts(row, "choices"), row["gold"]
    if gold not in range(len(choices)):
        raise UnusableError(f"`gold` is {gold!r}, which is not an index of `choices`")
    return {"query": _text(row, "query"), "choices": choices, "label": int(gold)}


def _winogrande(row: Mapping[str, Any]) -> Document:
    document = {name: _text(row, name) for name in ("sentence", "option1", "option2", "answer")}
    if document["sentence"].count("_") != 1:
        raise UnusableError("`sentence` must have one blank, written `_`")
    if document["answer"] not in ("1", "2"):
        raise UnusableError(f"`answer` is {document['answer']!r}, neither '1' nor '2'")
    return document


def _truthfulqa(row: Mapping[str, Any]) -> Document:
    return {
        "question": _text(row, "question"),
        **{name: _targets(row, name) for name in ("mc1_targets", "mc2_targets")},
    }


def _targets(row: Mapping[str, Any], name: str) -> Document:
    """Choices with their labels, true ones first: lm-eval takes the first choice of mc1 as the right one."""
    targets = row[name]
    if "choices" in targets and "labels" in targets:
        if len(targets["choices"]) != len(targets["labels"]):
            raise UnusableError(f"`{name}` has not as many labels as choices")
        targets = dict(zip(_texts(targets, "choices"), targets["labels"], strict=True))
    if set(targets.values()) != {0, 1}:
        raise UnusableError(f"`{name}` needs true choices (1) and false choices (0), and no other label")
    choices = sorted(targets, key=lambda choice: -targets[choice])
    return {"choices": choices, "labels": [int(targets[choice]) for choice in choices]}


def _ifeval(row: Mapping[str, Any]) -> Document:
    instructions, kwargs = _texts(row, "instruction_id_list"), row["kwargs"]
    if not isinstance(kwargs, list) or len(kwargs) != len(instructions) or not instructions:
        raise UnusableError("`kwargs` needs one object for each instruction in `instruction_id_list`")
    return {
        "key": str(row["key"]),
        "prompt": _text(row, "prompt"),
        "instruction_id_list": instructions,
        "kwargs": kwargs,
    }


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise UnusableError(f"`{name}` is not a text")
    return value


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    values = row[name]
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise UnusableError(f"`{name}` is not a list of texts")
    return values


def _task(name: str, harness: Harness, skill: str = "knowledge", metric: str = "accuracy") -> Task:
    return Task(name=name, skill=skill, metric=metric, harness=harness)


_harness = partial(Harness, yamls=str(Path(__file__).with_name("lm_eval")))

MMLU = _task("mmlu", _harness("mmlu", "mmlu/default", "acc", few_shot=5))
ARC_EASY = _task("arc-easy", _harness("arc_easy", "arc", "acc"))
ARC_CHALLENGE = _task("arc-challenge", _harness("arc_challenge", "arc", "acc_norm"), metric="normalised accuracy")
HELLASWAG = _task("hellaswag", _harness("hellaswag", "hellaswag", "acc_norm"), metric="normalised accuracy")
WINOGRANDE = _task("winogrande", _harness("winogrande", "winogrande", "acc"))
TRUTHFULQA_MC1 = _task("truthfulqa-mc1", _harness("truthfulqa_mc1", "truthfulqa", "acc"))
TRUTHFULQA_MC2 = _task("truthfulqa-mc2", _harness("truthfulqa_mc2", "truthfulqa", "acc"), metric="probability of truth")
IFEVAL = _task("ifeval", _harness("ifeval", "ifeval", "prompt_level_strict_acc"), "instructions", "prompts followed")
