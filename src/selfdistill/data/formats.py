"""Data formats: how the columns of a row become a conversation. To add one, add a `Format` to `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import RecipeError
from ..types import Message, Role
from .bad_rows import UnusableError
from .lettered import ChoiceError, Choices, numbered_from_one
from .tool_rows import read_calls, read_tools, tools_in_text
from .turns import Turn, plain_turn, read_turns
from .values import is_filled, kind, known, number_text

Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Format:
    """A data format.

    `required`, `optional` and `named_only` hold its fields, each with the other names under which its column is found,
    in order of preference. A row is recognised by the columns of the `required` fields. Fields in `named_only` are
    read only if `data.columns` names their columns. `read` returns the turns of a row. `several` names the field that
    may hold a list of answers; the first answer is used. `problem` looks at the first rows and returns a reason to
    refuse all rows, or None.
    """

    name: str
    read: Callable[[Fields], list[Turn]]
    required: Names
    optional: Names
    named_only: Names = field(default_factory=dict)
    several: str | None = None
    problem: Callable[[Iterable[Fields]], str | None] = lambda rows: None

    @property
    def fields(self) -> Names:
        return {**self.required, **self.optional, **self.named_only}

    def names(self, name: str) -> tuple[str, ...]:
        """The possible names of a field's column: the field's own name, then its other names."""
        return (name, *self.fields.get(name, ()))


@dataclass(frozen=True)
class Fields:
    """A row, read through the fields of a format. `columns` maps fields to columns. For any other field, the column is
    the first of the field's names that the row has."""

    row: Mapping[str, Any]
    form: Format
    columns: Mapping[str, str]

    def name(self, field: str) -> str:
        if field in self.columns:
            return self.columns[field]
        return next((name for name in self.form.names(field) if name in self.row), field)

    def get(self, field: str) -> Any:
        return known(self.row.get(self.name(field)))

    def text(self, field: str) -> str:
        value = self.get(field)
        if isinstance(value, str):
            return value
        if value is None:
            raise self.missing(field)
        raise UnusableError(f"`{self.name(field)}` is {kind(value)}, not text")

    def missing(self, field: str) -> UnusableError:
        name = self.name(field)
        return UnusableError(f"`{name}` is {'null' if name in self.row else 'missing'}")

    def maybe(self, field: str) -> str:
        """The text of an optional field, "" if it is empty."""
        return "" if self.get(field) is None else self.text(field)

    def material(self, field: str) -> str:
        """The text that a question is about, from a text, a number or a list of texts. "" if the field is empty."""
        value = self.get(field)
        if is_texts(value):
            return "\n\n".join(value)
        text = number_text(value) or self.maybe(field)
        return "" if text.isspace() else text

    def filled(self, field: str) -> str:
        return self._not_empty(field, self.text(field))

    def choices(self) -> Choices | None:
        value = self.get("choices")
        if not self._is_read("choices") or not is_filled(value):
            return None
        try:
            return Choices(value)
        except ChoiceError as error:
            raise UnusableError(f"`{self.name('choices')}` {error}") from None

    def asked(self, field: str) -> str:
        """The question, then the context, then the choices as lettered lines."""
        context = self.material("context") if self._is_read("context") else ""
        choices = self.choices()
        parts = [self.filled(field), context, choices.lines() if choices else ""]
        return "\n".join(part for part in parts if part)

    def response(self, field: str) -> Turn:
        """The assistant's turn, from a text or a number. An answer that names a choice becomes the choice's letter."""
        value, choices = self.get(field), self.choices()
        if choices is not None and (isinstance(value, str) or number_text(value)):
            try:
                return plain_turn("assistant", choices.answer(value), f"`{self.name(field)}`")
            except ChoiceError as error:
                raise UnusableError(f"`{self.name(field)}` {error}") from None
        if field == self.form.several and is_texts(answers := answers_in(value)):
            value = answers[0] if answers else ""
        text = value if isinstance(value, str) else number_text(value) or self.text(field)
        return plain_turn("assistant", self._not_empty(field, text), f"`{self.name(field)}`")

    def chat(self, field: str) -> list[Turn]:
        if self.get(field) is None:
            raise self.missing(field)
        return read_turns(self.get(field), self.name(field), tools=bool(self.tools))

    @cached_property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The definitions in the row's column of tools, or in the text of its system turn."""
        value, label = (self.get("tools"), f"`{self.name('tools')}`") if self._is_read("tools") else (None, "")
        written = tools_in_text(self._system_text()) if self._is_read("tools") else None
        if written and not is_filled(value):
            value, label = written[0], "the system turn's <tools>"
        return read_tools(value, label)

    def _system_text(self) -> str:
        """The text of the row's system turn, empty if there is none."""
        value: Any = self.get("system")
        chat = self.get(next(iter(self.form.required)))
        if not is_filled(value) and isinstance(chat, list) and chat and isinstance(chat[0], dict):
            first = chat[0]
            if "system" in (first.get("role"), first.get("from")):
                value = first.get("content", first.get("value"))
        return value if isinstance(value, str) else ""

    def _is_read(self, field: str) -> bool:
        return field in self.columns or field in self.form.optional

    def _not_empty(self, field: str, text: str) -> str:
        if not text or text.isspace():
            raise UnusableError(f"`{self.name(field)}` is empty")
        return text


def answers_in(value: Any) -> Any:
    """The distinct answers in SQuAD's {text: [...], answer_start: [...]} or in a list of texts. Any other value is
    returned unchanged."""
    if isinstance(value, dict) and isinstance(value.get("text"), (list, tuple)):
        value = value["text"]
    return list(dict.fromkeys(value)) if is_texts(value) else value


def is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


_SYSTEM: Names = {"system": ("system_prompt", "system_message")}
_TOOLS: Names = {"tools": ("functions",)}


def _read_alpaca(fields: Fields) -> list[Turn]:
    """Taori et al. 2023. `history` as in LLaMA-Factory: earlier [user, assistant] pairs."""
    asked = fields.text("instruction")
    added = fields.material("input")
    if added:
        asked = f"{asked}\n{added}" if asked.strip() else added
    elif not asked.strip():
        raise UnusableError(f"`{fields.name('instruction')}` is empty")
    return [*_history(fields), Turn(Message("user", asked)), fields.response("output")]


def _history(fields: Fields) -> Iterator[Turn]:
    history, label = fields.get("history"), f"`{fields.name('history')}`"
    if not isinstance(history, list) and history not in (None, ""):
        raise UnusableError(f"{label} is {kind(history)}, not a list of [user, assistant] pairs")
    for number, pair in enumerate(history or [], 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UnusableError(f"{label} entry {number} is not a pair of texts")
        roles: tuple[Role, Role] = ("user", "assistant")
        for role, text in zip(roles, pair, strict=True):
            if not isinstance(text, str):
                reason = "has no content" if text is None else f"is {kind(text)}, not text"
                raise UnusableError(f"{label} entry {number} {reason}")
            yield plain_turn(role, text, f"{label} entry {number}")


ALPACA = Format(
    "alpaca",
    _read_alpaca,
    required={"instruction": (), "output": ("response", "completion", "answer")},
    optional={"input": ("context",), "history": (), **_SYSTEM},
)


def _read_prompt_completion(fields: Fields) -> list[Turn]:
    """TRL's prompt-completion type: two texts, or two lists of messages."""
    is_chat = [isinstance(fields.get(field), list) for field in ("prompt", "completion")]
    prompt = fields.chat("prompt") if is_chat[0] else [Turn(Message("user", fields.asked("prompt")))]
    return [*prompt, *(fields.chat("completion") if is_chat[1] else [fields.response("completion")])]


PROMPT_COMPLETION = Format(
    "prompt_completion",
    _read_prompt_completion,
    required={"prompt": ("input",), "completion": ("response", "output", "answer")},
    optional={**_TOOLS, **_SYSTEM},
    named_only={"context": (), "choices": ("options",)},  # most prompts are complete without them
)


def _read_question_answer(fields: Fields) -> list[Turn]:
    return [Turn(Message("user", fields.asked("question"))), fields.response("answer")]


def _numbered_answers(rows: Iterable[Fields]) -> str | None:
    if not numbered_from_one((fields.get("choices"), fields.get("answer")) for fields in rows):
        return None
    return (
        "the answers are numbers from 1, but a number is read as an index from 0; write letters (A, B, …) or indexes "
        "from 0 as answers"
    )


QUESTION_ANSWER = Format(
    "question_answer",
    _read_question_answer,
    required={"question": ("query", "q"), "answer": ("answers", "response", "output", "answerKey", "a")},
    optional={"context": (), "choices": ("options",), **_SYSTEM},
    several="answer",
    problem=_numbered_answers,
)
# OpenAI's chat format.
MESSAGES = Format("messages", lambda fields: fields.chat("messages"), {"messages": ()}, {**_TOOLS, **_SYSTEM})
SHAREGPT = Format(
    "sharegpt",
    lambda fields: fields.chat("conversations"),
    {"conversations": ("conversation",)},
    {**_TOOLS, **_SYSTEM},
)


def _read_xlam(fields: Fields) -> list[Turn]:
    """Salesforce's xlam-function-calling-60k: a query, tools, and the calls that answer it."""
    label = f"`{fields.name('answers')}`"
    if not is_filled(fields.get("answers")):
        raise UnusableError(f"{label} holds no call, so there is no response to learn")
    calls = read_calls(fields.get("answers"), label)
    return [Turn(Message("user", fields.filled("query"))), Turn(Message("assistant", "", tool_calls=calls))]


XLAM = Format("xlam", _read_xlam, {"query": (), "tools": (), "answers": ()}, _SYSTEM)

FORMATS = {
    form.name: form
    for form in (
        ALPACA,
        PROMPT_COMPLETION,
        QUESTION_ANSWER,
        MESSAGES,
        SHAREGPT,
        XLAM,
    )
}


def check_format(name: str, key: str = "data.format") -> None:
    """Raises RecipeError if `name` is not "auto" or a format. `key` is the recipe key that holds it."""
    if name not in ("auto", *FORMATS):
        raise RecipeError(f"`{key}`: there is no data format '{name}'; choose one of {', '.join(['auto', *FORMATS])}.")
