"""Formats: how the columns of a row are a conversation. A new one is a function and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..types import Message, Messages, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
}


class UnusableError(ValueError):
    """The reason why a row is no conversation."""


@dataclass(frozen=True)
class Fields:
    """A row seen through the names of a format's fields."""

    row: Mapping[str, Any]
    columns: Mapping[str, str]

    def name(self, field: str) -> str:
        return self.columns.get(field, field)

    def get(self, field: str) -> Any:
        return self.row.get(self.columns.get(field, field))

    def text(self, field: str) -> str:
        value = self.get(field)
        if isinstance(value, str):
            return value
        name = self.name(field)
        if value is None:
            raise UnusableError(f"`{name}` is {'null' if name in self.row else 'missing'}")
        raise UnusableError(f"`{name}` is {_kind(value)}, not text")

    def maybe(self, field: str) -> str:
        """The text of an optional field, empty where there is none."""
        return "" if self.get(field) is None else self.text(field)

    def filled(self, field: str) -> str:
        text = self.text(field)
        if not text or text.isspace():
            raise UnusableError(f"`{self.name(field)}` is empty")
        return text


def _alpaca(fields: Fields) -> list[Message]:
    """Taori et al. 2023; `history` as in LLaMA-Factory: earlier [user, assistant] pairs."""
    asked = fields.text("instruction")
    added = fields.maybe("input")
    if added and not added.isspace():
        asked = f"{asked}\n{added}" if asked.strip() else added
    elif not asked.strip():
        raise UnusableError(f"`{fields.name('instruction')}` is empty")
    return [*_history(fields), Message("user", asked), Message("assistant", fields.filled("output"))]


def _history(fields: Fields) -> Iterator[Message]:
    history, label = fields.get("history"), f"`{fields.name('history')}`"
    if not isinstance(history, list) and history not in (None, ""):
        raise UnusableError(f"{label} is {_kind(history)}, not a list of [user, assistant] pairs")
    for number, pair in enumerate(history or [], 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UnusableError(f"{label} entry {number} is not a pair of texts")
        for role, value in zip(("user", "assistant"), pair, strict=True):
            yield _message(role, value, f"{label} entry {number}")


def _prompt_completion(fields: Fields) -> list[Message]:
    """TRL's prompt-completion type; both are texts, or both lists of messages."""
    messages = []
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        if isinstance(fields.get(field), list):
            messages += _turns(fields, field)
        else:
            messages.append(Message(ROLES[role], fields.filled(field)))
    return messages


def _question_answer(fields: Fields) -> list[Message]:
    return [Message("user", fields.filled("question")), Message("assistant", fields.filled("answer"))]


def _messages(fields: Fields) -> list[Message]:
    """OpenAI's chat format."""
    return _turns(fields, "messages")


def _sharegpt(fields: Fields) -> list[Message]:
    return _turns(fields, "conversations")


@dataclass(frozen=True)
class Format:
    """The columns that make a format, those it may have, and how they become messages."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Fields], list[Message]]


FORMATS = {
    "alpaca": Format(("instruction", "output"), ("input", "history", "system"), _alpaca),
    "prompt_completion": Format(("prompt", "completion"), ("system",), _prompt_completion),
    "question_answer": Format(("question", "answer"), ("system",), _question_answer),
    "messages": Format(("messages",), ("system",), _messages),
    "sharegpt": Format(("conversations",), ("system",), _sharegpt),
}


def read_messages(form: Format, fields: Fields) -> Messages:
    """The conversation in a row. Raises UnusableError."""
    messages = form.read(fields)
    system = fields.maybe("system")
    if system.strip():
        messages.insert(0, Message("system", system))
    _check_turns(messages)
    return tuple(messages)


def _turns(fields: Fields, field: str) -> list[Message]:
    """A list of {role, content} or {from, value}."""
    turns, name = fields.get(field), fields.name(field)
    if turns is None:
        raise UnusableError(f"`{name}` is {'null' if name in fields.row else 'missing'}")
    if not isinstance(turns, list):
        raise UnusableError(f"`{name}` is {_kind(turns)}, not a list of turns")
    messages = []
    for number, turn in enumerate(turns, 1):
        label = f"`{name}` turn {number}"
        if not isinstance(turn, dict):
            raise UnusableError(f"{label} is {_kind(turn)}, not an object with role and content")
        role, content = (turn[a] if turn.get(a) is not None else turn.get(b) for a, b in _KEYS)
        if turn.get("tool_calls") or turn.get("function_call"):
            raise UnusableError(f"{label} calls a tool; only text is supported")
        message = _message(role, content, label)
        if message.role == "assistant" and turn.get("weight") == 0:  # of other turns it says what is so anyway
            raise UnusableError(f"{label} is marked as not to be trained on (weight 0), which is not supported")
        messages.append(message)
    return messages


_KEYS = (("role", "from"), ("content", "value"))


def _message(role: Any, content: Any, label: str) -> Message:
    if role is None or content is None:
        raise UnusableError(f"{label} has no {'role' if role is None else 'content'}")
    if not isinstance(role, str) or role not in ROLES:
        raise UnusableError(f"{label} has the role {role!r}; only system, user and assistant are supported")
    if isinstance(content, list):
        content = "".join(_part(part, label) for part in content)
    text = _text(content, label)
    if not text.strip() and ROLES[role] != "system":
        raise UnusableError(f"{label} is empty")
    return Message(ROLES[role], text)


def _part(part: Any, label: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        kind = part.get("type") if isinstance(part, dict) else _kind(part)
        raise UnusableError(f"{label} holds a part of type {kind}; only text is supported")
    return _text(part.get("text"), label)


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


def _text(value: Any, label: str) -> str:
    if not isinstance(value, str):
        raise UnusableError(f"{label} is {_kind(value)}, not text")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")
