"""The values that all parts share. They are frozen, refuse unknown keys, and are written to disk by `to_json`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "loop", "error"]
Outcome = Literal["pass", "fail", "unjudged"]

LOADING = "loading the model"


class Progress(Protocol):
    """Called during long work with a label, the number of finished items and their total (0 if it is unknown), and a
    note on what is being done if no item is finished by it, such as `LOADING`."""

    def __call__(self, label: str, done: int, total: int, note: str = "", /) -> None: ...


class Report(Protocol):
    """A `Progress` of one label."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


def silent(_label: str, _done: int, _total: int, _note: str = "") -> None:
    """A `Progress` that shows nothing."""


_canonical = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode


def content_id(*parts: Any) -> str:
    """Sixteen hex digits that depend only on the JSON content of `parts`."""
    return hashlib.blake2b(_canonical(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of the tool `name`. `arguments` are JSON values by parameter. `id` is the name by which a result refers to
    the call; it is empty in a response."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    id: str = ""


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
    return (replace(first, tools=tools_of(chat), template_kwargs=chat[0].template_kwargs if chat else {}), *rest)


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


@dataclass(frozen=True, slots=True)
class Example:
    """One response to train on or to score: the turns before it (`prompt`) and the original response (`reference`)."""

    id: str
    prompt: Messages
    reference: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: Messages, reference: str, extra: Mapping[str, Any] | None = None) -> Example:
        """An example whose id depends only on prompt and reference, so a row has the same id in every file."""
        return cls(content_id(messages_json(prompt), reference), prompt, reference, extra or {})

    @property
    def instruction(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The tools that the response may call."""
        return tools_of(self.prompt)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "prompt": messages_json(self.prompt), "reference": self.reference, "extra": self.extra}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Example:
        return cls(**{**row, "prompt": messages_from_json(row["prompt"])})


@dataclass(frozen=True, slots=True)
class Conversation:
    """One data row: a chat with at least one assistant turn. Each assistant turn is an `Example`, except `untrained`.

    `untrained` holds the indices of the assistant turns that are context only. The reasoning of a turn is not part of
    its response: models that think are not trained.
    """

    messages: Messages
    extra: Mapping[str, Any] = field(default_factory=dict)
    untrained: tuple[int, ...] = ()

    @property
    def reasoning(self) -> tuple[int, ...]:
        """The indices of the turns that hold reasoning."""
        return tuple(index for index, message in enumerate(self.messages) if message.reasoning)

    def examples(self) -> list[Example]:
        return [
            Example.of(self.messages[:turn], message.text, self.extra)
            for turn, message in enumerate(self.messages)
            if message.role == "assistant" and turn not in self.untrained
        ]

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"messages": messages_json(self.messages), "extra": self.extra}
        if self.untrained:
            row["untrained"] = list(self.untrained)
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Conversation:
        """Rows of earlier versions also have the key `reasoning`, the indices of turns whose reasoning was left out."""
        return cls(messages_from_json(row["messages"]), row["extra"], tuple(row.get("untrained", ())))


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a backend. The completion has the same `id`, and its sampling is seeded by the id."""

    id: str
    messages: Messages


@dataclass(frozen=True, slots=True)
class Completion:
    """A backend's answer. `finish` is stop (the model ended its turn), length (cut off at the limit), loop (cut off
    because it repeats itself without end) or error (see `error`). A `transient` error is the engine's and not the
    prompt's: the next run asks again."""

    id: str
    text: str
    finish: Finish
    tokens: int = 0
    error: str | None = None
    transient: bool = False

    @property
    def cut_off(self) -> bool:
        return self.finish in ("length", "loop")

    def to_json(self) -> dict[str, Any]:
        row = {"id": self.id, "text": self.text, "finish": self.finish, "tokens": self.tokens, "error": self.error}
        return {**row, "transient": True} if self.transient else row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Completion:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's judgement of one text. `expected` was read from the reference, `found` from the text. `value` in
    [0, 1] is set if the judgement is not yes or no, for example the won share of a pairwise comparison. `checked` is
    False for a pass without a look at the content: the rewrite is kept, and not counted as accepted."""

    outcome: Outcome
    reason: str
    expected: str | None = None
    found: str | None = None
    value: float | None = None
    checked: bool = True

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"

    def to_json(self) -> dict[str, Any]:
        row = {"outcome": self.outcome, "reason": self.reason, "expected": self.expected, "found": self.found}
        value = {} if self.value is None else {"value": self.value}
        return row | value | ({} if self.checked else {"checked": False})

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Grade:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An example, the seed model's rewrite of its response, and the grade on it (eq. 4 of the paper)."""

    example: Example
    completion: Completion
    grade: Grade

    @property
    def source(self) -> Literal["rewrite", "original"]:
        return "rewrite" if self.grade.passed else "original"

    @property
    def response(self) -> str:
        """The response that SDFT trains on: the rewrite if it passed, else the original."""
        return self.completion.text if self.grade.passed else self.example.reference

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.example.id,
            "source": self.source,
            "example": self.example.to_json(),
            "completion": self.completion.to_json(),
            "grade": self.grade.to_json(),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Rewrite:
        """Raises KeyError or TypeError if the row is not a rewrite."""
        return cls(
            Example.from_json(row["example"]),
            Completion.from_json(row["completion"]),
            Grade.from_json(row["grade"]),
        )


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one arm on one task: `value` in [0, 1] and its 95 % interval [low, high] by the method `interval`.

    Every item is in one bucket: passed + failed + tied + unjudged + truncated + unanswered + errors = n. Truncated
    answers were cut off, at the limit or in a loop, and did not pass. Unanswered replies end inside their think trace.
    `value` is the mean over the items that could be judged: all but unjudged and errors. `details` are further numbers,
    such as mean lengths.
    """

    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    passed: int
    failed: int
    tied: int = 0
    unjudged: int = 0
    truncated: int = 0
    unanswered: int = 0
    errors: int = 0
    interval: str = "wilson"
    reasons: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counted = (self.passed, self.failed, self.tied, self.unjudged, self.truncated, self.unanswered, self.errors)
        buckets = sum(counted)
        if buckets != self.n:
            raise ValueError(f"score of {self.task}: the buckets hold {buckets} items, n is {self.n}")

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Score:
        return cls(**row)
