"""What any chat model does: common knowledge, and answers of a length or form that is asked for. Evaluation only.

    {"kind": "facts", "prompt": "What do bees make?", "keys": ["honey"]}
    {"kind": "forms", "prompt": "Write at least 60 words about elephants.", "at_least": {"words": 60}}

The 64 questions and 48 instructions are our own. They are so easy that small models do many of them, and so show what
a small model forgets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..data import OnBad
from ..recipe import DataConfig
from ..types import Conversation, Example, Grade, Message
from . import Task, load_rows
from .reading import grade_fact

_COUNTS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "sentences": lambda text: len(re.findall(r"[.!?][\"')\]]*(?=\s|$)", re.sub(r"(?m)^\s*\d+\.", "", text))),
    "items": lambda text: len(re.findall(r"(?m)^\s*\d+[.):]\s*\S", text)),
}


def load(kind: str, source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The rows of one kind, with an empty answer, because many answers are right."""
    return (row for row in load_rows(source, on_bad, convert=_conversation) if row.extra["kind"] == kind)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    messages = (Message("user", row["prompt"]), Message("assistant", ""))
    wanted = {"keys": row["keys"]} if row["kind"] == "facts" else {"at_least": row["at_least"]}
    return Conversation(messages, {"kind": row["kind"], **wanted})


def grade_form(example: Example, text: str) -> Grade:
    """Passes if the text has the number of words, sentences or numbered items that is asked for, or more."""
    ((unit, wanted),) = example.extra["at_least"].items()
    found = _COUNTS[unit](text)
    expected = f"{wanted} {unit}"
    if found < wanted:
        return Grade("fail", f"too few {unit}", expected, str(found))
    return Grade("pass", "as long as asked for", expected, str(found))


_TEST = DataConfig(path=str(Path(__file__).with_name("everyday.jsonl")), split="test")
FACTS = Task(name="everyday-facts", skill="common knowledge", grade=grade_fact, load=partial(load, "facts"), test=_TEST)
FORMS = Task(name="everyday-forms", skill="length and form", grade=grade_form, load=partial(load, "forms"), test=_TEST)
