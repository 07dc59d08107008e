"""Formats: how the columns of a row are a conversation. A new one is a function and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..types import Conversation, Message, Role
from .lettered import ChoiceError, Choices
from .turns import Turn, UnusableError, gather_unused, plain_turn, read_turns, truth
from .values import as_json, is_filled, kind, known, number_text

# Other names under which a field's column is found, in order of preference.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "system": ("system_prompt", "system_message"),
    "input": ("context",),
    "output": ("response", "completion", "answer"),
    "prompt": ("input",),
    "completion": ("response", "output", "answer"),
    "question": ("query", "q"),
    "answer": ("answers", "response", "output", "answerKey", "a"),
    "choices": ("options",),
    "conversations": ("conversation",),
}
# Columns that can't be left out without changing what is learned, and what to do about them.
_TOOLS = "tools and tool calls are not supported"
_MEDIA = "pictures, sound and video are not supported, only text"
_REFUSED = {
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call"), _TOOLS),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), _MEDIA),
    "documents": "documents are not supported; write them into the prompt",
    "chat_template_kwargs": "settings of single rows are not supported; set model.template_kwargs for all rows",
}
_ROW_MARKS = ("weight", "sample_weight", "loss_weight", "train", "trainable")


@dataclass(frozen=True)
class Fields:
    """A row seen through the names of a format's fields. `columns` names the column of a field; a field that is not in
    it is in the first column of its name or its other names that the row has."""

    row: Mapping[str, Any]
    columns: Mapping[str, str]

    def name(self, field: str) -> str:
        if field in self.columns:
            return self.columns[field]
        return next((name for name in OTHER_NAMES.get(field, ()) if name in self.row and field not in self.row), field)

    def get(self, field: str) -> Any:
        return known(self.row.get(self.name(field)))

    def text(self, field: str) -> str:
        value = self.get(field)
        if isinstance(value, str):
            return value
        name = self.name(field)
        if value is None:
            raise UnusableError(f"`{name}` is {'null' if name in self.row else 'missing'}")
        raise UnusableError(f"`{name}` is {kind(value)}, not text")

    def maybe(self, field: str) -> str:
        """The text of an optional field, "" if it is empty."""
        return "" if self.get(field) is None else self.text(field)

    def material(self, field: str) -> str:
        """What a question is about: a text, a number, or a list of texts; "" if the field is empty."""
        value = self.get(field)
        if _is_texts(value):
            return "\n\n".join(value)
        text = number_text(value) or self.maybe(field)
        return "" if text.isspace() else text

    def filled(self, field: str) -> str:
        return self._not_empty(field, self.text(field))

    def response(self, field: str, several: bool = False) -> Turn:
        """The assistant's turn: a text or a number; with `several`, the first of a list of answers (as in SQuAD)."""
        value = answers_in(self.get(field)) if several else self.get(field)
        if several and _is_texts(value):
            value = value[0] if value else ""
        text = value if isinstance(value, str) else number_text(value) or self.text(field)
        return plain_turn("assistant", self._not_empty(field, text), f"`{self.name(field)}`")

    def _not_empty(self, field: str, text: str) -> str:
        if not text or text.isspace():
            raise UnusableError(f"`{self.name(field)}` is empty")
        return text


def answers_in(value: Any) -> Any:
    """SQuAD's {text: [...], answer_start: [...]} or a list of texts: the different answers. Anything else unchanged."""
    if isinstance(value, dict) and isinstance(value.get("text"), (list, tuple)):
        value = value["text"]
    return list(dict.fromkeys(value)) if _is_texts(value) else value


def _alpaca(fields: Fields) -> list[Turn]:
    """Taori et al. 2023; `history` as in LLaMA-Factory: earlier [user, assistant] pairs."""
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


def _prompt_completion(fields: Fields) -> list[Turn]:
    """TRL's prompt-completion type; both are texts, or both lists of messages. `context` and `choices` only if
    `data.columns` names them: a prompt is usually whole."""
    if isinstance(fields.get("prompt"), list):
        turns = read_turns(fields.get("prompt"), fields.name("prompt"))
    else:
        turns = [Turn(Message("user", _asked(fields, "prompt", named_only=True)))]
    if isinstance(fields.get("completion"), list):
        return turns + read_turns(fields.get("completion"), fields.name("completion"))
    return [*turns, _answer(fields, "completion", named_only=True)]


def _question_answer(fields: Fields) -> list[Turn]:
    return [Turn(Message("user", _asked(fields, "question"))), _answer(fields, "answer")]


def _asked(fields: Fields, field: str, named_only: bool = False) -> str:
    """The question, then the context, then the choices as lettered lines."""
    context = fields.material("context") if not named_only or "context" in fields.columns else ""
    choices = _choices(fields) if not named_only or "choices" in fields.columns else None
    parts = [fields.filled(field), context, choices.lines() if choices else ""]
    return "\n".join(part for part in parts if part)


def _choices(fields: Fields) -> Choices | None:
    value = fields.get("choices")
    if not is_filled(value):
        return None
    try:
        return Choices(value)
    except ChoiceError as error:
        raise UnusableError(f"`{fields.name('choices')}` {error}") from None


def _answer(fields: Fields, field: str, named_only: bool = False) -> Turn:
    choices = _choices(fields) if not named_only or "choices" in fields.columns else None
    value = fields.get(field)
    if choices is None or not (isinstance(value, str) or number_text(value)):
        return fields.response(field, several=not named_only)
    try:
        return plain_turn("assistant", choices.answer(value), f"`{fields.name(field)}`")
    except ChoiceError as error:
        raise UnusableError(f"`{fields.name(field)}` {error}") from None


def _messages(fields: Fields) -> list[Turn]:
    """OpenAI's chat format."""
    return _chat(fields, "messages")


def _sharegpt(fields: Fields) -> list[Turn]:
    return _chat(fields, "conversations")


def _chat(fields: Fields, field: str) -> list[Turn]:
    name = fields.name(field)
    if fields.get(field) is None:
        raise UnusableError(f"`{name}` is {'null' if name in fields.row else 'missing'}")
    return read_turns(fields.get(field), name)


@dataclass(frozen=True)
class Format:
    """The fields that make a format, those it may have, and how they become turns. Fields in `named` are read only if
    `data.columns` names their columns."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Fields], list[Turn]]
    named: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.required, *self.optional, *self.named)


FORMATS = {
    "alpaca": Format(("instruction", "output"), ("input", "history", "system"), _alpaca),
    "prompt_completion": Format(("prompt", "completion"), ("system",), _prompt_completion, ("context", "choices")),
    "question_answer": Format(("question", "answer"), ("context", "choices", "system"), _question_answer),
    "messages": Format(("messages",), ("system",), _messages),
    "sharegpt": Format(("conversations",), ("system",), _sharegpt),
}


def read_conversation(form: Format, fields: Fields) -> Conversation:
    """The conversation in a row; `extra` holds the columns and turn fields that nothing reads. Raises UnusableError."""
    used = {fields.name(field) for field in (*form.required, *form.optional)} | set(fields.columns.values())
    _refuse(fields.row, used)
    turns = form.read(fields)
    system = fields.maybe("system")
    if system.strip() and not (turns and turns[0].message == Message("system", system)):
        turns.insert(0, Turn(Message("system", system)))
    messages = tuple(turn.message for turn in turns)
    _check_turns(messages)
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    untrained = tuple(index for index in answers if not turns[index].trained)
    if len(untrained) == len(answers):
        raise UnusableError("every assistant turn is marked as context only, so there is no response to learn")
    reasoning = tuple(index for index in answers if turns[index].reasoning)
    return Conversation(messages, _extra(fields, form, used, turns), untrained, reasoning)


def _refuse(row: Mapping[str, Any], used: set[str]) -> None:
    for name in _REFUSED.keys() & row.keys() - used:
        if is_filled(row[name]):
            raise UnusableError(f"`{name}` is filled: {_REFUSED[name]}")
    for name in _ROW_MARKS:
        if name in row and name not in used and is_filled(row[name]) and not _is_one(row[name]):
            raise UnusableError(
                f"`{name}` is {row[name]!r}; rows are not weighted, so leave out rows that are not to be trained on, "
                "and rename the column if it means something else"
            )


def _is_one(value: Any) -> bool:
    try:
        return truth(value, "")
    except UnusableError:
        return False


def _extra(fields: Fields, form: Format, used: set[str], turns: Sequence[Turn]) -> dict[str, Any]:
    extra = {key: as_json(value) for key, value in fields.row.items() if key not in used and known(value) is value}
    several = answers_in(fields.get("answer")) if "answer" in form.required else None
    if isinstance(several, list) and _is_texts(several) and len(several) > 1:
        extra[f"{fields.name('answer')} after the first"] = several[1:]
    return extra | gather_unused(turns, fields.name(form.required[0]))


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


def _check_turns(messages: Sequence[Message]) -> None:
    """System first if at all, then user and assistant in turns, the assistant last."""
    roles = [message.role for message in messages]
    if roles == ["user", "assistant"]:  # nearly all
        return
    if "assistant" not in roles:
        raise UnusableError("no assistant turn, so there is no response to learn")
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise UnusableError("a system message stands where only the first may be one")
    if turns[0] == "assistant":
        raise UnusableError("the first turn is the assistant's, so there is nothing it answers")
    if any(first == second for first, second in pairwise(turns)):
        raise UnusableError("turns don't alternate between user and assistant")
    if turns[-1] == "user":
        raise UnusableError("the last turn is the user's, without a response")
