"""Chats with tools in the demo's world: a request to answer by a call, by a call with the result of an earlier call, by
a sum over a result, or without any tool.

    tools:     find_taxi(city: string), book_taxi(code: integer)
    user:      Find a taxi in Rome and book it.
    assistant: <tool_call> find_taxi, city Rome </tool_call>
    tool:      {"code": 42}
    assistant: <tool_call> book_taxi, code 42 </tool_call>
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from ..types import FunctionCall, Message, Messages
from . import words
from .styles import Meaning, Steps, ToolCall
from .trace_style import short
from .world import draw, split_of


class Chat(NamedTuple):
    """The turns before an answer, the first of which holds the tools; the meaning of a right answer; and the text that
    decides the split."""

    messages: Messages
    meaning: Meaning
    key: str


def chats(kinds: tuple[str, ...], split: str, n: int, seed: int = 0) -> Iterator[tuple[Messages, str]]:
    """`n` different chats of `split` (train, dev or test), of each of the `kinds` in turn: the turns before the answer,
    and the answer as `trace_style.short` writes it. A kind is a name in `KINDS`."""
    rng = Random(f"{kinds}/{split}/{seed}")
    seen: set[str] = set()
    while len(seen) < n:
        chat = KINDS[kinds[len(seen) % len(kinds)]](rng)
        if chat.key not in seen and split_of(chat.key) == split:
            seen.add(chat.key)
            yield chat.messages, short(chat.meaning)


def _tool(name: str, arguments: tuple[tuple[str, str | int], ...]) -> dict[str, Any]:
    """The definition of a tool with these parameters, all required, in OpenAI's form."""
    types = {key: {"type": "string" if isinstance(value, str) else "integer"} for key, value in arguments}
    parameters = {"type": "object", "properties": types, "required": list(types)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _asked(request: str, calls: list[ToolCall], rng: Random) -> Messages:
    """The user's turn, with the tools of `calls` and up to two others in random order."""
    tools = {call.name: _tool(call.name, call.arguments) for call in calls}
    for _ in range(rng.choice([0, 1, 1, 2])):
        other = _request(rng)[1]
        tools.setdefault(other.name, _tool(other.name, other.arguments))
    listed = tuple(rng.sample(list(tools.values()), len(tools)))
    return (Message("user", request, tools=listed),)


def _called(before: Messages, call: ToolCall, result: dict[str, int]) -> Messages:
    """The chat, continued by a call and its result."""
    made = FunctionCall(call.name, dict(call.arguments), "1")
    answer = Message("assistant", "", tool_calls=(made,))
    return (*before, answer, Message("tool", json.dumps(result), tool_call_id="1"))


def _request(rng: Random) -> tuple[str, ToolCall]:
    """A request of the skill `tool`, and the call that it asks for."""
    item = draw("tool", rng)
    assert isinstance(item.meaning, ToolCall)
    return item.prompt.partition("\n")[2], item.meaning


def _call(rng: Random) -> Chat:
    request, call = _request(rng)
    return Chat(_asked(request, [call], rng), call, request)


def _search(rng: Random) -> tuple[str, ToolCall, ToolCall]:
    """A request that takes two calls. The second call's only argument is in the result of the first."""
    verb, noun = rng.choice([verb for verb in words.VERBS if verb != "find"]), rng.choice(words.NOUNS)
    city, day = rng.choice(words.CITIES), rng.choice(words.DAYS)
    asked = rng.choice([f"Find a {noun} in {{}} and {verb} it.", f"{verb.title()} any {noun} in {{}}."])
    request = asked.format(f"{city} on {day}")
    found = (rng.choice(["city", "place", "town"]), city), (rng.choice(["day", "date", "when"]), day)
    code = (rng.choice(["code", "key", "number"]), rng.randint(1, 99))
    return request, ToolCall(f"find_{noun}", found), ToolCall(f"{verb}_{noun}", (code,))


def _first_call(rng: Random) -> Chat:
    request, first, second = _search(rng)
    return Chat(_asked(request, [first, second], rng), first, request)


def _next_call(rng: Random) -> Chat:
    request, first, second = _search(rng)
    result = {str(key): int(value) for key, value in (*second.arguments, ("price", rng.randint(2, 40)))}
    return Chat(_called(_asked(request, [first, second], rng), first, result), second, request)


def _result(rng: Random) -> Chat:
    noun, city = rng.choice(words.NOUNS), rng.choice(words.CITIES)
    call = ToolCall(f"check_{noun}", ((rng.choice(["city", "place", "town"]), city),))
    op = rng.choice("*-+")
    if op == "*":
        price, n = rng.randint(2, 12), rng.randint(2, 8)
        request, step = f"What is the price of {n} times a {noun} in {city}?", (price, "*", n, price * n)
    elif op == "-":
        price, n = rng.randint(2, 40), rng.randint(45, 99)
        request, step = f"I have {n} dollars and buy a {noun} in {city}. How many are left?", (n, "-", price, n - price)
    else:
        price, n = rng.randint(2, 60), rng.randint(2, 39)
        request, step = f"How many dollars are a {noun} in {city} and {n} more?", (price, "+", n, price + n)
    asked = _asked(request, [call], rng)
    return Chat(_called(asked, call, {"price": price}), Steps((step,)), f"{request} {price}")


def _no_call(rng: Random) -> Chat:
    item = draw(rng.choice(["lists", "maths_other", "benign"]), rng)
    asked = _asked(item.prompt, [_request(rng)[1]], rng)
    return Chat(asked, item.meaning, item.key)


KINDS: dict[str, Callable[[Random], Chat]] = {
    "call": _call,
    "first_call": _first_call,
    "next_call": _next_call,
    "result": _result,
    "no_call": _no_call,
}
