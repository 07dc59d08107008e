"""Gorilla OpenFunctions v1 (Patil et al. 2023): one call to a described function, compared as Python.

The hub has no official copy, so the recipe names the file: the paper's openfunction_*.json of https://github.com/sail-sg/sdft,
or Gorilla's gorilla_openfunctions_v1_*.json of https://github.com/ShishirPatil/gorilla.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..models.slots import fill
from ..recipe import DataConfig
from ..types import Conversation, Example, Message, Messages
from . import Task, first_row, load_rows

# The paper's files put Gorilla's rows into these words.
_INSTRUCTION = (
    "Construct a function call to answer the given question using keyword arguments based on the provided "
    "specifications:\n\nQuestion: {question}\n\nFunction to be used: {call}\nDescription: {description}\nParameters:\n"
    "{parameters}\nFormat your response as a single string using keyword arguments."
)


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows with an instruction and a call, or Gorilla's (question, function, model_answer) put into the same form."""
    if "model_answer" in first_row(source):
        return load_rows(source, _conversation, on_bad)
    return read_conversations(source, on_bad)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    function = row["function"]
    slots = {
        "question": row["question"],
        "call": function["api_call"],
        "description": function["description"],
        "parameters": _parameters(function),
    }
    return Conversation((Message("user", fill(_INSTRUCTION, slots)), Message("assistant", row["model_answer"])))


def _parameters(function: Mapping[str, Any]) -> str:
    """One line a parameter, numbered, and those that are required."""
    schema = function["parameters"]
    if not schema:
        return "No parameters\n"
    lines = []
    for number, (name, about) in enumerate(schema.get("properties", {}).items(), 1):
        kind = f" (type: {about['type']})" if "type" in about else ""
        text = f" - {about['description']}" if about.get("description") else ""
        lines.append(f"{number}. {name}{kind}{text}")
    required = schema.get("required") or function.get("required")
    return "\n".join([*lines, f"Required: [{', '.join(required)}]\n"] if required else lines)


def ask(example: Example) -> Messages:
    return example.prompt


TASK = Task(
    name="openfunctions",
    skill="tool use",
    ask=ask,
    grade=make_grader("function_call"),
    load=load,
    template="refer",
)
