"""Berkeley Function-Calling Leaderboard (Patil et al. 2025): single turns with one call, one call among several tools,
parallel calls, and questions that no tool fits. Evaluation only.

    {"id": "simple_python_7", "question": [[{"role": "user", "content": "How warm is Lima?"}]], "function": [{"name":
     "weather", "parameters": {"type": "dict", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]}
    {"id": "simple_python_7", "ground_truth": [{"weather": {"city": ["Lima", "Lima, Peru"], "unit": ["", "c"]}}]}

The first file holds the questions, the second one, of the same name in the folder `possible_answer`, the allowed values
of each parameter. https://github.com/ShishirPatil/gorilla, Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..data import OnBad, is_hub_name, read_records
from ..data.bad_rows import UnusableError
from ..data.tool_rows import read_tools
from ..errors import DataError, first_line
from ..grading.endings import unreadable
from ..grading.possible_calls import possible_calls, shortest
from ..models.call_notations import normal_text
from ..models.hub import ask_hub
from ..recipe import DataConfig
from ..types import Conversation, Example, Grade, Message, read_reply
from . import Task, load_rows

_HUB = "gorilla-llm/Berkeley-Function-Calling-Leaderboard"
_FOLDER = "the folder with BFCL's questions, such as bfcl_eval/data of the package bfcl-eval"
_NO_CALL = "None of the tools fits this question."


def load(source: DataConfig, on_bad: OnBad | None = None, *, names: tuple[str, ...]) -> Iterator[Conversation]:
    """The questions of one split, each with its tools, its allowed calls, and one of them as the reference.

    `source.path` is a folder with BFCL's files or a hub name; `names` are the names of the split in BFCL's versions.
    Raises DataError if the files are not there."""
    questions, answers = _files(source, names)
    allowed = {}
    if answers:
        rows = read_records(source.model_copy(update={"path": str(answers)}))
        allowed = {row.get("id"): row.get("ground_truth") for _, row in rows}
    convert = partial(_conversation, allowed=allowed if answers else None)
    return load_rows(source.model_copy(update={"path": str(questions)}), on_bad, convert=convert)


def _files(source: DataConfig, names: tuple[str, ...]) -> tuple[Path, Path | None]:
    """The files of questions and of allowed calls, of the newest version; a split without calls has no second file."""
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        if folder.exists() or not is_hub_name(source.path):
            raise DataError(f"There is no folder {folder}; set the task's path to {_FOLDER}, or to a hub name.")
        folder = _downloaded(source.path, names)
    # Not BFCL_v*_: that would also find the files of longer names, such as BFCL_v4_live_multiple.json.
    there = sorted(folder.glob("BFCL_v*.json"), reverse=True)
    found = [(path, name) for name in names for path in there if re.fullmatch(rf"BFCL_v\d+_{name}\.json", path.name)]
    if not found:
        raise DataError(f"{source.path} holds no file BFCL_v4_{names[0]}.json; set the task's path to {_FOLDER}.")
    questions, name = found[0]
    if name == "irrelevance":
        return questions, None
    answers = folder / "possible_answer" / questions.name
    if not answers.is_file():
        raise DataError(f"There is no {answers}, which holds the allowed calls; copy it from BFCL's data.")
    return questions, answers


def _downloaded(name: str, names: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    ask_hub()
    patterns = [f"{folder}BFCL_v*_{each}.json" for each in names for folder in ("", "possible_answer/")]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub client passes on errors of several libraries
        raise DataError(
            f"The hub dataset {name} can't be loaded ({first_line(error)}); check the name and the network, or set the "
            "task's path to the folder bfcl_eval/data of the package bfcl-eval (pip install --no-deps bfcl-eval)."
        ) from error


def _conversation(row: Mapping[str, Any], allowed: Mapping[Any, Any] | None) -> Conversation:
    if len(row["question"]) != 1:
        raise UnusableError("the question has several turns; only single turns are asked")
    tools, name = read_tools(row["function"], "`function`"), row["id"]
    turns = [Message(turn["role"], turn["content"]) for turn in row["question"][0]]
    if any(turn.role not in ("system", "user") or not isinstance(turn.content, str) for turn in turns) or not turns:
        raise UnusableError("the question holds other turns than those of system and user")
    asked = (Message(turns[0].role, turns[0].content, tools=tools), *turns[1:])
    if allowed is None:
        return Conversation((*asked, Message("assistant", _NO_CALL)), {"id": name})
    if name not in allowed:
        raise UnusableError(f"possible_answer has no row {name}")
    try:
        calls = [shortest(possible, tools) for possible in allowed[name]]
    except (ValueError, IndexError):
        raise UnusableError("the allowed calls are not one {name: {parameter: values}} per call") from None
    reference = Message("assistant", "", tool_calls=tuple(calls))
    return Conversation((*asked, reference), {"id": name, "possible": allowed[name]})


def grade(example: Example, text: str) -> Grade:
    return possible_calls(example.extra["possible"], text, example.tools)


def grade_irrelevance(example: Example, text: str) -> Grade:
    """Whether a reply is a text and calls no tool. A call that can't be read counts as a call, and so does the name of
    an offered tool in the form of a call."""
    if trouble := unreadable(text):
        return Grade("fail", trouble, "no call", text.strip())
    if len(text.split()) > 1 and len({*text.lower().split()}) == 1:
        return Grade("fail", "garbled", "no call", text.strip())
    names = "|".join(re.escape(tool["function"]["name"]) for tool in example.tools)
    try:
        called = bool(read_reply(normal_text(text, example.tools))[1])
    except ValueError:
        called = True
    named = rf"(?<![\w.])(?:{names})\(|\"name\"\s*:\s*\"(?:{names})\""
    called = called or (names != "" and re.search(named, text) is not None)
    reason = "calls a tool, and none fits" if called else "no call"
    return Grade("fail" if called else "pass", reason, "no call", text.strip() if called else "no call")


def _task(name: str, *names: str) -> Task:
    return Task(
        name=f"bfcl-{name}",
        skill="tool use",
        grade=grade_irrelevance if name == "irrelevance" else grade,
        load=partial(load, names=(*names, name)),
        test=DataConfig(path=_HUB),
    )


SIMPLE = _task("simple", "simple_python")
MULTIPLE = _task("multiple")
PARALLEL = _task("parallel")
IRRELEVANCE = _task("irrelevance")
