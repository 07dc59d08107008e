"""The turns of a chat, and the one text form of a reply that calls tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of the tool `name`. `arguments` are JSON values by parameter. `id` is the name by which a result refers to
    the call; it is empty in a response."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Thought:
    """The think block before a response: its text, which may be empty, and whether it is trained on."""

    text: str = ""
    trained: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "trained": self.trained}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. A last message with role assistant is a prefill: the model continues it.

    An assistant's turn holds its `reasoning`, then `content`, then `tool_calls`. A turn of role tool is the result of
    the call `tool_call_id`. The first message of a chat also holds what concerns the whole chat: the `tools` that may
    be called (in OpenAI's form, with JSON schemas) and `template_kwargs`, arguments of the chat template.
    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str = ""
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        """The content, then the calls as `write_reply` writes them."""
        return write_reply(self.content, self.tool_calls)

    def to_json(self) -> dict[str, Any]:
        """Role and content, and the other fields that are not empty."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        for name in _OPTIONAL:
            if value := getattr(self, name):
                row[name] = list(value) if name == "tools" else value
        if self.tool_calls:
            row["tool_calls"] = [{"name": c.name, "arguments": c.arguments, "id": c.id} for c in self.tool_calls]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Message:
        """Raises TypeError if the row is not a message."""
        calls = tuple(FunctionCall(**call) for call in row.get("tool_calls", ()))
        return cls(**{**row, "tool_calls": calls, "tools": tuple(row.get("tools", ()))})


_OPTIONAL = [field.name for field in fields(Message) if field.name not in ("role", "content", "tool_calls")]
Messages = tuple[Message, ...]


def messages_json(messages: Messages) -> list[dict[str, Any]]:
    return [message.to_json() for message in messages]


def messages_from_json(rows: list[dict[str, Any]]) -> Messages:
    return tuple(map(Message.from_json, rows))


def tools_of(messages: Messages) -> tuple[Mapping[str, Any], ...]:
    return messages[0].tools if messages else ()


def with_chat_of(messages: Iterable[Message], chat: Messages) -> Messages:
    """`messages` with the tools and template arguments of `chat`."""
    first, *rest = messages
    own = [replace(turn, tools=(), template_kwargs={}) if turn.tools or turn.template_kwargs else turn for turn in rest]
    return (replace(first, tools=tools_of(chat), template_kwargs=chat[0].template_kwargs if chat else {}), *own)


def shown_turns(messages: Messages) -> list[tuple[str, str]]:
    """Role and text of each turn, for a reader; tools come first, under the role `tools`."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools_of(messages))
    return [*([("tools", listed)] if listed else []), *((message.role, message.text) for message in messages)]


_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def write_reply(content: str, calls: Iterable[FunctionCall]) -> str:
    """A reply as text: the content, then each call as JSON between <tool_call> and </tool_call>. This is the one form
    in which calls are stored in texts; a chat template writes them in its own."""
    parts = [content] if content else []
    for call in calls:
        values = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        escaped = values.replace("</tool_call", "<\\/tool_call")
        parts.append(f"<tool_call>\n{escaped}\n</tool_call>")
    return "\n".join(parts)


def read_reply(text: str) -> tuple[str, tuple[FunctionCall, ...]]:
    """The content and the calls in a reply that `write_reply` wrote. Raises ValueError if a call can't be read."""
    calls = []
    for found in _CALL.finditer(text):
        try:
            match json.loads(found[1]):
                case {"name": str(name), "arguments": dict(arguments)}:
                    calls.append(FunctionCall(name, arguments))
                case _:
                    raise ValueError("no name and arguments")
        except (ValueError, RecursionError):
            raise ValueError("a tool call that is not JSON with name and arguments") from None
    content = _CALL.sub("", text)
    if "<tool_call>" in content:
        raise ValueError("a tool call that never closes")
    return (content.strip(), tuple(calls)) if calls else (text, ())
