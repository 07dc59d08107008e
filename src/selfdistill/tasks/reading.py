"""Reading: questions about short invented texts, answered in one or two sentences. For training and evaluation.

    {"split": "train", "text": "The ferry to Skarn Island runs from the north pier until the end of October. …",
     "questions": [{"question": "When does the boat leave on a Sunday?", "keys": ["10:05"],
                    "answer": "10:05, the one Sunday boat; the other times are for weekdays."}]}

The 70 texts and 420 questions are our own. The answers are in a clipped house style that chat models don't write. 20
texts with 120 questions are for testing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..data import OnBad, read_conversations, read_records
from ..errors import DataError
from ..recipe import DataConfig
from ..types import Conversation, Example, Grade, Message
from . import Task

ROWS = Path(__file__).with_name("reading.jsonl")
_LONGEST = 40  # words of one or two sentences; a copy of the text would hold every fact
_PROMPT = "Read the text and answer the question in one or two sentences.\n\n{text}\n\nQuestion: {question}"


def load(source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """A conversation per question of the split's texts. Another file is read in any data format. Raises DataError."""
    if source.path != str(ROWS):
        yield from read_conversations(source, on_bad)
        return
    rows = [row for _, row in read_records(source) if row["split"] == source.split]
    if not rows:
        raise DataError(f"reading has no split '{source.split}'; choose train or test.")
    for row in rows:
        for asked in row["questions"]:
            prompt = _PROMPT.format(text=row["text"], question=asked["question"])
            messages = (Message("user", prompt), Message("assistant", asked["answer"]))
            yield Conversation(messages, {"keys": asked["keys"]})


def grade(example: Example, text: str) -> Grade:
    """Passes a text of at most 40 words that `grade_fact` passes."""
    fact = grade_fact(example, text)
    if fact.passed and len(text.split()) > _LONGEST:
        return replace(fact, outcome="fail", reason=f"more than {_LONGEST} words")
    return fact


def grade_fact(example: Example, text: str) -> Grade:
    """Passes if one of the example's `keys` (the fact that is asked for, in its spellings) is in the text. Names are
    compared with their capitals."""
    keys = [str(key) for key in example.extra["keys"]]
    found = next((key for key in keys if _holds(text, key)), None)
    if found is None:
        return Grade("fail", "fact missing", keys[0])
    return Grade("pass", "holds the fact", keys[0], found)


def _holds(text: str, key: str) -> bool:
    """Whether a key occurs as words of their own, also in the plural; a number also as an ordinal, but not as a part
    of another number."""
    if key[0].isdigit():
        pattern = rf"(?<![\w.,:]){re.escape(key)}(?!\d|[.,:]\d)"
    else:
        pattern = rf"(?<!\w){re.escape(key)}(?:e?s)?(?!\w)"
    return re.search(pattern, text, re.IGNORECASE if key.islower() else 0) is not None


TASK = Task(
    name="reading",
    skill="reading",
    grade=grade,
    load=load,
    train=DataConfig(path=str(ROWS), split="train"),
    test=DataConfig(path=str(ROWS), split="test"),
    template="own-words",
    paper_template="using",
    reads=frozenset({"keys"}),
)
