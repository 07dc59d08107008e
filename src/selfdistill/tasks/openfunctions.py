"""Gorilla OpenFunctions v1 (Patil et al. 2023): one call to a described function, compared as Python.

    {"question": "Find a coffee shop near me with free Wi-Fi in San Francisco.",
     "function": {"api_call": "coffee_shop.find_nearby", "description": "Locate nearby …", "parameters": {…}},
     "model_answer": "coffee_shop.find_nearby(location=\\"San Francisco\\", amenities=\\"Wi-Fi\\")"}

The hub has no official copy, so the recipe names a file: the paper's openfunction_*.json from
https://github.com/sail-sg/sdft, or Gorilla's gorilla_openfunctions_v1_*.json from
https://github.com/ShishirPatil/gorilla, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data import OnBad, read_conversations
from ..grading import make_grader
from ..models.slots import fill
from ..recipe import DataConfig
from ..types import Conversation, Message
from . import Task, first_row, load_rows

# The wording of the paper's files.
_INSTRUCTION = (
    "Construct a function call to answer the given question using keyword arguments based on the provided "
    "specifications:\n\nQuestion: {question}\n\nFunction to be used: {call}\nDescription: {description}\nParameters:\n"
    "{parameters}\nFormat your response as a single string using keyword arguments."
)


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """Rows with an instruction and a call, or Gorilla's rows (question, function, model_answer) in the same wording."""
    if "model_answer" in first_row(source):
        return load_rows(source, on_bad, convert=_conversation)
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
    """One numbered line per parameter, then the required parameters."""
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


TASK = Task(
    name="openfunctions",
    skill="tool use",
    grade=make_grader("function_call"),
    load=load,
    template="call",
    paper_template="refer",
)
