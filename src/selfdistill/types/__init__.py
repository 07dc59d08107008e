"""The values that all parts share. They are frozen, refuse unknown keys, and are written to disk by `to_json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from .messages import (
    FunctionCall,
    Message,
    Messages,
    Role,
    Thought,
    messages_from_json,
    messages_json,
    read_reply,
    shown_turns,
    tools_of,
    with_chat_of,
    write_reply,
)

__all__ = [
    "FunctionCall",
    "Message",
    "Messages",
    "Role",
    "Thought",
    "messages_from_json",
    "messages_json",
    "read_reply",
    "shown_turns",
    "tools_of",
    "with_chat_of",
    "write_reply",
]

Finish = Literal["stop", "length", "loop", "error"]
Outcome = Literal["pass", "fail", "unjudged"]

LOADING = "loading the model"
WHOLE = "the whole run"
"""The label of a run's steps: how many are finished, of how many. The note is the seconds that the steps after the
active one will take, empty if this is not known yet."""


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
class Example:
    """One response to train on or to score: the turns before it (`prompt`) and the original response (`reference`).

    `thought` is the reasoning before the response. A model that does not think ignores it; without it, a model that
    thinks gets an empty block that is not trained on. The id does not depend on it."""

    id: str
    prompt: Messages
    reference: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    thought: Thought | None = None

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

    @property
    def calls(self) -> tuple[FunctionCall, ...]:
        """The calls in the reference."""
        return read_reply(self.reference)[1] if self.tools else ()

    def to_json(self) -> dict[str, Any]:
        row = {"id": self.id, "prompt": messages_json(self.prompt), "reference": self.reference, "extra": self.extra}
        return row if self.thought is None else {**row, "thought": self.thought.to_json()}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Example:
        thought = Thought(**row["thought"]) if "thought" in row else None
        return cls(**{**row, "prompt": messages_from_json(row["prompt"]), "thought": thought})


@dataclass(frozen=True, slots=True)
class Conversation:
    """One data row: a chat with at least one assistant turn. Each assistant turn is an `Example`, except `untrained`.

    `untrained` holds the indices of the assistant turns that are context only.
    """

    messages: Messages
    extra: Mapping[str, Any] = field(default_factory=dict)
    untrained: tuple[int, ...] = ()

    @property
    def reasoning(self) -> tuple[int, ...]:
        """The indices of the turns that hold reasoning."""
        return tuple(index for index, message in enumerate(self.messages) if message.reasoning)

    def examples(self) -> list[Example]:
        found = []
        for turn, message in enumerate(self.messages):
            if message.role == "assistant" and turn not in self.untrained:
                example = Example.of(self.messages[:turn], message.text, self.extra)
                thought = Thought(message.reasoning) if message.reasoning else None
                found.append(replace(example, thought=thought) if thought else example)
        return found

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
    prompt's: the next run asks again. `raw` is the text as the model wrote it, if `text` is another form of it, or
    a part of it. `reasoning` is the think trace if it is not part of `text`. `thinking_tokens` are the trace's tokens
    with its marks, None if they were not counted."""

    id: str
    text: str
    finish: Finish
    tokens: int = 0
    error: str | None = None
    transient: bool = False
    raw: str | None = None
    reasoning: str = ""
    thinking_tokens: int | None = None

    @classmethod
    def failed(cls, name: str, error: str, transient: bool = False) -> Completion:
        """An answer that did not come, with the reason."""
        return cls(name, "", "error", error=error, transient=transient)

    @property
    def thought(self) -> Thought | None:
        """The think trace to train on, None if there is none."""
        return Thought(self.reasoning) if self.reasoning else None

    @property
    def cut_off(self) -> bool:
        return self.finish in ("length", "loop")

    def with_text(self, text: str) -> Completion:
        """The completion with `text`, and with its own text in `raw` if the two differ."""
        return self if text == self.text else replace(self, text=text, raw=self.text)

    def to_json(self) -> dict[str, Any]:
        row = {"id": self.id, "text": self.text, "finish": self.finish, "tokens": self.tokens, "error": self.error}
        more = {"raw": self.raw, "reasoning": self.reasoning or None, "thinking_tokens": self.thinking_tokens}
        transient = {"transient": True} if self.transient else {}
        return {**row, **transient, **{name: value for name, value in more.items() if value is not None}}

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
    """An example, the seed model's rewrite of its response, and the grade on it (eq. 4 of the paper).

    For a model that thinks, the completion's text is the answer, which is graded, and `trace_fault` is why its think
    trace can't be trained on; None if it can, or if the model does not think."""

    example: Example
    completion: Completion
    grade: Grade
    trace_fault: str | None = None

    @property
    def source(self) -> Literal["rewrite", "original"]:
        return "rewrite" if self.grade.passed else "original"

    @property
    def response(self) -> str:
        """The response that SDFT trains on: the rewrite if it passed, else the original."""
        return self.completion.text if self.grade.passed else self.example.reference

    def to_json(self) -> dict[str, Any]:
        row = {
            "id": self.example.id,
            "source": self.source,
            "example": self.example.to_json(),
            "completion": self.completion.to_json(),
            "grade": self.grade.to_json(),
        }
        return row if self.trace_fault is None else {**row, "trace_fault": self.trace_fault}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Rewrite:
        """Raises KeyError or TypeError if the row is not a rewrite."""
        return cls(
            Example.from_json(row["example"]),
            Completion.from_json(row["completion"]),
            Grade.from_json(row["grade"]),
            row.get("trace_fault"),
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
