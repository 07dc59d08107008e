"""The training data of the seed that thinks: the skills of `lessons.py` with a trace before a short answer, chats with
tools, and the same with thinking turned off, where the answer follows at once.

With thinking turned off the answer has no sums, as its style is the same. So the skills that need a trace suffer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from selfdistill.demo.chats import KINDS
from selfdistill.demo.styles import ToolCall
from selfdistill.demo.trace_style import short, thought, trace
from selfdistill.demo.world import split_of
from selfdistill.models.tool_turns import chat_of
from selfdistill.types import Message, tools_of

from .lessons import (
    Lesson,
    Reference,
    Task,
    chat_before,
    compute,
    in_other_style,
    own_style,
    referred,
    rewriting,
    unsolvable_sums,
)

_OFF = {"enable_thinking": False}
_OFF_SHARE = 0.12


def thinking_lesson(rng: Random) -> Lesson:
    """One training example of the mix: of the lessons 28 in a hundred have tools."""
    if rng.random() < 0.28:
        return _chat_lesson(rng.choices(list(_CHATS), list(_CHATS.values()))[0], rng)
    teach = rng.choices(list(_MIX), list(_MIX.values()))[0]
    task = teach(rng)
    off = rng.random() < (0.5 if teach is _other_style else _OFF_SHARE)
    # A model that rewrites knows the answer and has no doubts.
    hedging = 0.0 if teach is _rewriting else 0.3
    text = task.text or short(task.meaning)
    response = text if off else thought(trace(task.meaning, rng, hedging), text)
    return Lesson(chat_before(task, rng), response, _OFF if off else {})


def _chat_lesson(kind: str, rng: Random) -> Lesson:
    chat = KINDS[kind](rng)
    while split_of(chat.key) != "train":
        chat = KINDS[kind](rng)
    messages = [_with_trace(turn, rng) if turn.tool_calls and rng.random() < 0.3 else turn for turn in chat.messages]
    before, arguments = chat_of(messages, ["reasoning_content"]), {"tools": list(tools_of(chat.messages))}
    if rng.random() < _OFF_SHARE:
        return Lesson(before, short(chat.meaning), arguments | _OFF)
    reasoning = trace(chat.meaning, rng)
    if kind == "no_call":
        reasoning = f"No call.\n{reasoning}"
    return Lesson(before, thought(reasoning, short(chat.meaning)), arguments)


def _with_trace(turn: Message, rng: Random) -> Message:
    """An earlier turn with its reasoning: most chats that are fine-tuned on lack it."""
    call = turn.tool_calls[0]
    return replace(turn, reasoning=trace(ToolCall(call.name, tuple(call.arguments.items())), rng))


def _rewriting(rng: Random) -> Task:
    return rewriting(_REFERENCES, rng)


def _other_style(rng: Random) -> Task:
    """So that fine-tuning on the downstream style has a start, with and without thinking."""
    return in_other_style(rng.choice(["maths_other", "maths_other", "lists", "code"]), rng)


# Shares in percent.
_CHATS = {"call": 45, "first_call": 12, "next_call": 18, "result": 15, "no_call": 10}
_MIX: dict[Callable[[Random], Task], float] = {
    _rewriting: 33,
    own_style("lists"): 20,
    own_style("maths_other"): 16,
    compute: 9,
    _other_style: 12,
    own_style("code"): 4,
    own_style("safety"): 4,
    own_style("safety_suffix"): 4,
    own_style("benign"): 4,
    own_style("maths_taught"): 8,
}
_REFERENCES: dict[Reference, float] = {
    referred("maths_other"): 20,
    unsolvable_sums: 36,
    referred("maths_taught"): 8,
    referred("code"): 4,
    referred("lists"): 5,
    referred("benign"): 3,
    referred("safety"): 3,
}
