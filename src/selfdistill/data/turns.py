"""Turns of a chat: roles, texts, reasoning, calls of tools and their results, and marks for whether a turn is trained
on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..grading.traces import split
from ..types import FunctionCall, Message, Role
from .bad_rows import UnusableError
from .tool_rows import calls_in_text, read_calls, results_in_text
from .values import is_filled, kind, number_text

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}
_CALL_ROLES = ("function_call", "tool_call")
"""The text of such a turn is a call, or a list of calls, as JSON."""
_CALLS, _RESULT_ID = ("tool_calls", "function_call"), "tool_call_id"
MEDIA = dict.fromkeys(
    ("image", "images", "audio", "audios", "video", "videos"), "pictures, sound and video are not supported, only text"
)
_REFUSED = {
    **dict.fromkeys(("tools", "functions"), "tools are defined by a column of the row, not by a turn"),
    "tool_responses": "write each result as a turn of role tool",
    **MEDIA,
}
_REASONING = ("reasoning_content", "reasoning", "thinking")
_REASONING_PARTS = ("thinking", "reasoning")
TRAINED_MARKS = ("train", "training", "trainable", "loss", "loss_mask", "loss_scale", "loss_weight", "weight")
_MASKED_MARK = "masked"  # torchtune's mark: true means that the turn is not trained on
_UNCLEAR_MARKS = ("mask", "train_detail", "training_detail")
_KNOWN = {*_REFUSED, *_CALLS, _RESULT_ID, *_REASONING, *TRAINED_MARKS, *_UNCLEAR_MARKS, _MASKED_MARK}
_TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True)
class Turn:
    """A message, whether it is trained on, and the fields that are not read."""

    message: Message
    trained: bool = True
    unused: Mapping[str, Any] = field(default_factory=dict)


def plain_turn(role: Role, text: str, label: str) -> Turn:
    """A turn without marks and calls. Raises UnusableError if the text is empty."""
    answer, reasoning = (text, "") if role != "assistant" else without_reasoning(text, label)
    if not answer.strip() and role != "system":
        raise UnusableError(f"{label} is empty")
    return Turn(Message(role, answer, reasoning))


def without_reasoning(text: str, label: str) -> tuple[str, str]:
    """The answer in a response, and the reasoning before it. Raises UnusableError if the think block never closes,
    because there is no answer then."""
    trace = split(text)
    if trace.answer is None:
        raise UnusableError(f"{label} opens a think block and never closes it, so it holds no answer")
    return trace.answer, trace.reasoning


def read_turns(turns: Any, name: str, tools: bool) -> list[Turn]:
    """A list of {role, content} or {from, value}. `tools`: the row defines tools, so that <tool_call> blocks in the
    text of an assistant's turn are calls. Raises UnusableError."""
    if not isinstance(turns, list):
        raise UnusableError(f"`{name}` is {kind(turns)}, not a list of turns")
    found: list[Turn] = []
    for number, turn in enumerate(turns, 1):
        for read in _read_turn(turn, f"`{name}` turn {number}", tools):
            # ms-swift and ShareGPT write parallel calls, and a text before calls, as turns of their own.
            if found and _is_call(turn) and found[-1].message.role == "assistant":
                found[-1] = _joined(found[-1], read)
            else:
                found.append(read)
    return found


def _is_call(turn: Mapping[str, Any]) -> bool:
    return turn.get("role") in _CALL_ROLES or turn.get("from") in _CALL_ROLES


def _joined(text: Turn, call: Turn) -> Turn:
    calls = (*text.message.tool_calls, *call.message.tool_calls)
    return Turn(replace(text.message, tool_calls=calls), text.trained and call.trained, {**text.unused, **call.unused})


def _read_turn(turn: Any, label: str, tools: bool) -> Iterator[Turn]:
    """The turn; several if a tool's turn holds several results."""
    if not isinstance(turn, dict):
        raise UnusableError(f"{label} is {kind(turn)}, not an object with role and content")
    if refused := next((name for name in _REFUSED if is_filled(turn.get(name))), None):
        raise UnusableError(f"{label} holds `{refused}`: {_REFUSED[refused]}")
    keys = [
        first if turn.get(first) is not None else second for first, second in (("role", "from"), ("content", "value"))
    ]
    name, content = (turn.get(key) for key in keys)
    if name is None:
        raise UnusableError(f"{label} has no role")
    if not isinstance(name, str) or name not in ROLES:
        raise UnusableError(f"{label} has the role {name!r}; only system, user, assistant and tool are supported")
    role = ROLES[name]
    unused = {key: turn[key] for key in turn if key not in _KNOWN and key not in keys and is_filled(turn[key])}
    if role == "tool":
        unused.pop("name", None)  # the call that the result belongs to says it
        answered = str(turn.get(_RESULT_ID) or "")
        for text in results_in_text(_result(content, label)):
            yield Turn(Message("tool", text, tool_call_id=answered), unused=unused)
    elif role == "assistant":
        calls = _CALLS if name not in _CALL_ROLES else ()
        message = _assistant(turn, content, label, tools) if calls else _calling(content, label)
        yield Turn(message, _trained(turn, label) is not False, unused)
    else:
        marks = {f"{key} of {role} turns": turn[key] for key in TRAINED_MARKS if is_filled(turn.get(key))}
        marks = marks if _trained(turn, label) else {}  # never trained on, so a mark that asks for it has no effect
        unread = {key: turn[key] for key in (*_CALLS, _RESULT_ID, *_REASONING) if is_filled(turn.get(key))}
        yield Turn(plain_turn(role, _text(content, label), label).message, unused=unused | marks | unread)


def _assistant(turn: Mapping[str, Any], content: Any, label: str, tools: bool) -> Message:
    thoughts = [turn[name] for name in _REASONING if is_filled(turn.get(name))]
    if isinstance(content, list):
        thoughts += [_thought(part) for part in content if _part_type(part) in _REASONING_PARTS]
        content = [part for part in content if _part_type(part) not in _REASONING_PARTS]
    elif not isinstance(content, str):
        content = number_text(content) or content
    called = [turn[name] for name in _CALLS if is_filled(turn.get(name))]
    calls = tuple(call for value in called for call in read_calls(value, label))
    answer, reasoning = without_reasoning("" if calls and content is None else _text(content, label), label)
    if tools:
        answer, written = calls_in_text(answer, label)
        if calls and written:
            raise UnusableError(f"{label} holds calls twice, as a field and in its text")
        calls = calls or written
    if not answer.strip() and not calls:
        raise UnusableError(f"{label} is empty")
    thoughts = [thought if isinstance(thought, str) else json.dumps(thought) for thought in thoughts]
    return Message("assistant", answer, "\n\n".join(filter(str.strip, (*thoughts, reasoning))), calls)


def _thought(part: Mapping[str, Any]) -> Any:
    return part.get("thinking") or part.get("reasoning") or part.get("text") or ""


def _calling(content: Any, label: str) -> Message:
    calls: tuple[FunctionCall, ...] = read_calls(content, label)
    if not calls:
        raise UnusableError(f"{label} is empty")
    return Message("assistant", "", tool_calls=calls)


def _result(content: Any, label: str) -> str:
    """The text of a tool's result; a result that is not text is written as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(map(_part_type, content)):
        return _text(content, label)
    try:
        return json.dumps(content, ensure_ascii=False)
    except (TypeError, ValueError):
        raise UnusableError(f"{label} is {kind(content)}, not text") from None


def _text(content: Any, label: str) -> str:
    if isinstance(content, list):
        return "".join(_part(part, label) for part in content)
    if content is None:
        raise UnusableError(f"{label} has no content")
    if not isinstance(content, str):
        raise UnusableError(f"{label} is {kind(content)}, not text")
    return content


def _part_type(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _part(part: Any, label: str) -> str:
    if _part_type(part) != "text":
        found = _part_type(part) if isinstance(part, dict) else kind(part)
        raise UnusableError(f"{label} holds a part of type {found}; only text is supported")
    text = part.get("text")
    if not isinstance(text, str):
        raise UnusableError(f"{label} is {kind(text)}, not text")
    return text


def _trained(turn: Mapping[str, Any], label: str) -> bool | None:
    """Whether the marks of a turn ask to train on it; None without marks. Raises UnusableError if they are unclear."""
    if unclear := next((name for name in _UNCLEAR_MARKS if is_filled(turn.get(name))), None):
        raise UnusableError(f"{label} has `{unclear}`, which is not supported; mark whole turns with `train: false`")
    said = {name: truth(turn[name], f"{label} has `{name}`") for name in TRAINED_MARKS if is_filled(turn.get(name))}
    if is_filled(turn.get(_MASKED_MARK)):
        said[_MASKED_MARK] = not truth(turn[_MASKED_MARK], f"{label} has `{_MASKED_MARK}`")
    if len(set(said.values())) > 1:
        raise UnusableError(f"{label} has the marks {', '.join(said)}, which contradict each other")
    return next(iter(said.values()), None)


def truth(value: Any, label: str) -> bool:
    """A mark such as 1, "0", true or "false". Raises UnusableError for any other value."""
    text = value.strip().lower() if isinstance(value, str) else number_text(value) or ""
    if text not in _TRUTHS:
        raise UnusableError(f"{label} {value!r}; only 1 (trained on) and 0 (context only) are supported")
    return _TRUTHS[text]


def gather_unused(turns: Iterable[Turn], name: str) -> dict[str, list[Any]]:
    """The fields of turns that are not read, named as in `messages[].name`, with their values in order."""
    found: dict[str, list[Any]] = {}
    for turn in turns:
        for key, value in turn.unused.items():
            found.setdefault(f"{name}[].{key}", []).append(value)
    return found
