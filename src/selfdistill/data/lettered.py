"""Multiple choice: the choices become lettered lines of the prompt, and the answer becomes a letter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from string import ascii_uppercase
from typing import Any

from .values import kind, known, number_text

_LETTER = re.compile(r"\(?([A-Za-z])[.):]?")


class ChoiceError(ValueError):
    """The reason why choices, or the answer, can't be read."""


def numbered_from_one(questions: Iterable[tuple[Any, Any]]) -> bool:
    """Whether the answers to unlabelled choices are numbers from 1: one of them equals the number of choices, and none
    is 0. `questions` holds the choices and the answer of each row. Rows that can't be read are ignored."""
    numbers: list[tuple[int, int]] = []
    for choices, answer in questions:
        with suppress(ChoiceError, ValueError):
            read = Choices(choices)
            if not read.labels:
                numbers.append((int(answer if isinstance(answer, str) else number_text(answer) or ""), len(read.texts)))
    return any(number == count for number, count in numbers) and all(number for number, _ in numbers)


class Choices:
    """The choices of a row: a list of texts or numbers, an object {text: [...], label: [...]} as in ARC, or an object
    of labels and texts. Raises ChoiceError."""

    def __init__(self, value: Any) -> None:
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):  # as in a cell of a CSV file
            with suppress(ValueError):
                value = json.loads(value)
        labels: Sequence[Any] = ()
        if isinstance(value, dict) and isinstance(value.get("text"), (list, tuple)):
            labels, value = value.get("label") or (), value["text"]
        elif isinstance(value, dict):
            labels, value = list(value), list(value.values())
        if not isinstance(value, (list, tuple)):
            raise ChoiceError(f"is {kind(value)}, not a list of choices")
        texts = [each.strip() if isinstance(each, str) else number_text(each) for each in value]
        self.texts = [text for text in texts if text]
        if len(self.texts) < len(texts):
            raise ChoiceError("holds a choice that is neither text nor a number")
        if not 2 <= len(self.texts) <= len(ascii_uppercase):
            raise ChoiceError(f"holds {len(self.texts)} choices; two to {len(ascii_uppercase)} can be lettered")
        self.labels = [str(label).strip() for label in labels]
        if self.labels and len(self.labels) != len(self.texts):
            raise ChoiceError(f"holds {len(self.texts)} choices, but {len(self.labels)} labels")

    def lines(self) -> str:
        return "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, self.texts, strict=False))

    def answer(self, value: Any) -> str:
        """The letter of the choice that `value` names by its label, letter, text, or index from 0. Any other text is
        returned unchanged. Raises ChoiceError if the value could mean two choices, or if a number or letter names no
        choice."""
        value = known(value)
        text = value.strip() if isinstance(value, str) else number_text(value)
        if text is None:
            raise ChoiceError(f"is {kind(value)}, not one of the choices")
        meant = {place for place, choice in enumerate(self.texts) if choice == text}
        if self.labels:
            meant |= {place for place, label in enumerate(self.labels) if label == text}
        elif text.isdecimal() and int(text) < len(self.texts):
            meant.add(int(text))
        elif (letter := _LETTER.fullmatch(text)) and letter[1].upper() in ascii_uppercase[: len(self.texts)]:
            meant.add(ascii_uppercase.index(letter[1].upper()))
        if len(meant) > 1:
            raise ChoiceError(f"is {text!r}, which is one choice by its text and another by its letter or index")
        if not meant and _LETTER.fullmatch(text):
            raise ChoiceError(f"is {text!r}, which is none of the {len(self.texts)} choices")
        if not meant and text.isdecimal():
            raise ChoiceError(f"is {text}, which is neither a choice nor an index from 0 to {len(self.texts) - 1}")
        return ascii_uppercase[meant.pop()] if meant else str(value)
