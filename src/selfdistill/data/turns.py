"""Turns of a chat: roles, texts, marks for whether a turn is trained on, and reasoning, which is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..grading.traces import split
from ..types import Message, Role
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
}
_TOOL_ROLES = ("tool", "function", "function_call", "function_response", "observation", "tool_call", "tool_response")
_TOOLS = ("tools", "functions", "tool_calls", "function_call", "tool_call_id", "tool_responses")
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_REASONING_PARTS = ("thinking", "reasoning")
TRAINED_MARKS = ("train", "training", "trainable", "loss", "loss_mask", "loss_scale", "loss_weight", "weight")
_MASKED_MARK = "masked"  # torchtune's mark: true means that the turn is not trained on
_UNCLEAR_MARKS = ("mask", "train_detail", "training_detail")
_KNOWN = {*_TOOLS, *_MEDIA, *_REASONING, *TRAINED_MARKS, *_UNCLEAR_MARKS, _MASKED_MARK}
_TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class UnusableError(ValueError):
    """The reason why a row can't be used."""


@dataclass(frozen=True)
class Turn:
    """A message, whether it is trained on, whether reasoning was removed from it, and the fields that are not read."""

    message: Message
    trained: bool = True
    reasoning: bool = False
    unused: Mapping[str, Any] = field(default_factory=dict)


def plain_turn(role: Role, text: str, label: str) -> Turn:
    """A turn without marks. Raises UnusableError if the text is empty."""
    answer, reasoning = (text, False) if role != "assistant" else without_reasoning(text, label)
    if not answer.strip() and role != "system":
        raise UnusableError(f"{label} is empty")
    return Turn(Message(role, answer), reasoning=reasoning)


def without_reasoning(text: str, label: str) -> tuple[str, bool]:
    """The answer in a response, and whether a think block came before it. Raises UnusableError if the block never
    closes, because there is no answer then."""
    answer = split(text).answer
    if answer is None:
        raise UnusableError(f"{label} opens a think block and never closes it, so it holds no answer")
    return answer, answer != text


def read_turns(turns: Any, name: str) -> list[Turn]:
    """A list of {role, content} or {from, value}. Raises UnusableError."""
    if not isinstance(turns, list):
        raise UnusableError(f"`{name}` is {kind(turns)}, not a list of turns")
    return [_read_turn(turn, f"`{name}` turn {number}") for number, turn in enumerate(turns, 1)]


def _read_turn(turn: Any, label: str) -> Turn:
    if not isinstance(turn, dict):
        raise UnusableError(f"{label} is {kind(turn)}, not an object with role and content")
    _refuse_tools_and_media(turn, label)
    keys = [
        first if turn.get(first) is not None else second for first, second in (("role", "from"), ("content", "value"))
    ]
    role, content = (turn.get(key) for key in keys)
    if role is None:
        raise UnusableError(f"{label} has no role")
    if not isinstance(role, str) or role not in ROLES:
        tools = "; tool calls are not supported" if role in _TOOL_ROLES else ""
        raise UnusableError(f"{label} has the role {role!r}; only system, user and assistant are supported{tools}")
    reasoning = any(is_filled(turn.get(name)) for name in _REASONING)
    if isinstance(content, list):
        reasoning = reasoning or any(_part_type(part) in _REASONING_PARTS for part in content)
        content = "".join(_part(part, label) for part in content if _part_type(part) not in _REASONING_PARTS)
    elif ROLES[role] == "assistant" and not isinstance(content, str):
        content = number_text(content) or content
    if content is None:
        raise UnusableError(f"{label} has no content")
    if not isinstance(content, str):
        raise UnusableError(f"{label} is {kind(content)}, not text")
    plain = plain_turn(ROLES[role], content, label)
    trained = _trained(turn, label)
    unused = {key: turn[key] for key in turn if key not in _KNOWN and key not in keys and is_filled(turn[key])}
    if plain.message.role != "assistant":  # never trained on, so a mark that asks for training has no effect
        unused |= {
            f"{key} of {plain.message.role} turns": turn[key]
            for key in TRAINED_MARKS
            if trained and is_filled(turn.get(key))
        }
        unused |= {key: turn[key] for key in _REASONING if is_filled(turn.get(key))}
        return Turn(plain.message, unused=unused)
    return Turn(plain.message, trained is not False, plain.reasoning or reasoning, unused)


def _refuse_tools_and_media(turn: Mapping[str, Any], label: str) -> None:
    for names, what in ((_TOOLS, "tool calls are"), (_MEDIA, "pictures, sound and video are")):
        if found := next((name for name in names if is_filled(turn.get(name))), None):
            raise UnusableError(f"{label} holds `{found}`; {what} not supported, only text")


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
