"""Calls of tools: one call, several calls, or none.

    tools: weather(city, unit), timer(minutes)
    user:  How warm is it in Oslo, in celsius?

Every model is asked in the same way, whatever its chat template: the tools are written into the system turn, as with
model.tools_in: system, and calls are read in every notation that is known.

The easy level offers one or two tools and needs one call or none, the medium one four tools and up to two calls, the
hard one seven tools (some much alike, with lists, enumerations and optional arguments) and up to four calls. An answer
passes if it makes the right calls by value, in any order, and no other. If no tool is needed, it passes if it calls
none and holds the fact that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from ...grading.calls import same_tool_calls
from ...models.call_notations import normal_text
from ...models.tool_turns import in_plain_text
from ...types import Example, FunctionCall, Grade, Message, Messages, read_reply, write_reply
from ..reading import grade_fact
from . import pools
from .items import ProbeItem, probe

_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_HOUR = {"type": "integer", "description": "The hour, from 0 to 23."}


def _tool(name: str, does: str, optional: Mapping[str, Any] | None = None, /, **needed: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {**needed, **(optional or {})}, "required": list(needed)}
    return {"type": "function", "function": {"name": name, "description": does, "parameters": parameters}}


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


# A tool, and a request for a call of it: the words, and the arguments.
Asked = tuple[str, dict[str, Any]]
_OFFERED: list[tuple[dict[str, Any], Callable[[Random], Asked]]] = []


def _offer(tool: dict[str, Any]) -> Callable[[Callable[[Random], Asked]], Callable[[Random], Asked]]:
    def kept(request: Callable[[Random], Asked]) -> Callable[[Random], Asked]:
        _OFFERED.append((tool, request))
        return request

    return kept


@_offer(_tool("get_weather", "The weather of today in a city.", city=_TEXT))
def _weather(rng: Random) -> Asked:
    city = rng.choice(pools.CITIES)
    return rng.choice(("What is the weather in {} today?", "Look up today's weather in {}.")).format(city), {
        "city": city
    }


@_offer(_tool("set_timer", "Sets a timer.", minutes=_WHOLE))
def _timer(rng: Random) -> Asked:
    minutes = rng.randint(2, 90)
    asked = rng.choice(("Set a timer for {} minutes.", "Please start a timer of {} minutes."))
    return asked.format(minutes), {"minutes": minutes}


@_offer(_tool("send_message", "Sends a text message.", to=_TEXT, text=_TEXT))
def _message(rng: Random) -> Asked:
    name, word = rng.choice(pools.NAMES), rng.choice(pools.WORDS)
    return f'Send {name} a message with the text "the {word} is ready".', {"to": name, "text": f"the {word} is ready"}


@_offer(_tool("convert_money", "Converts an amount between currencies.", amount=_WHOLE, start=_TEXT, goal=_TEXT))
def _money(rng: Random) -> Asked:
    amount, (start, goal) = rng.randint(5, 900), rng.sample(("EUR", "USD", "GBP", "JPY", "CHF", "SEK"), 2)
    return f"How much are {amount} {start} in {goal}?", {"amount": amount, "start": start, "goal": goal}


@_offer(
    _tool(
        "get_forecast", "The weather of the coming days in a city.", {"unit": _one_of("celsius", "fahrenheit")},
        city=_TEXT, days=_WHOLE,
    )
)  # fmt: skip
def _forecast(rng: Random) -> Asked:
    city, days = rng.choice(pools.CITIES), rng.randint(2, 9)
    unit = rng.choice(("", "celsius", "fahrenheit"))
    words = f"Give me the forecast for {city} for the next {days} days{f', in {unit}' if unit else ''}."
    return words, {"city": city, "days": days, **({"unit": unit} if unit else {})}


@_offer(
    _tool(
        "add_to_list", "Adds items to a list.", list=_one_of("shopping", "packing", "reading"),
        items={"type": "array", "items": _TEXT},
    )
)  # fmt: skip
def _list(rng: Random) -> Asked:
    items, kind = pools.some(rng, pools.FRUITS, rng.randint(2, 3)), rng.choice(("shopping", "packing"))
    return f"Put {', '.join(items[:-1])} and {items[-1]} on my {kind} list.", {"list": kind, "items": items}


@_offer(_tool("book_table", "Books a table.", {"outside": {"type": "boolean"}}, city=_TEXT, people=_WHOLE, hour=_HOUR))
def _table(rng: Random) -> Asked:
    city, people, hour = rng.choice(pools.CITIES), rng.randint(2, 9), rng.randint(1, 10)
    outside = rng.random() < 0.5
    words = f"Book a table for {people} people in {city} at {hour} in the evening{', outside' if outside else ''}."
    return words, {"city": city, "people": people, "hour": hour + 12, **({"outside": True} if outside else {})}


@_offer(_tool("play_music", "Plays music.", {"shuffle": {"type": "boolean"}}, instrument=_TEXT))
def _music(rng: Random) -> Asked:
    instrument, shuffle = rng.choice(pools.INSTRUMENTS), rng.random() < 0.5
    words = f"Play some {instrument} music{', shuffled' if shuffle else ''}."
    return words, {"instrument": instrument, **({"shuffle": True} if shuffle else {})}


_SIMPLE = _OFFERED[:4]
_NONE = (
    ("What do bees make?", "honey"), ("What colour is snow?", "white"), ("How many legs does a spider have?", "8"),
    ("What is the capital of France?", "Paris"), ("What is frozen water called?", "ice"),
    ("Which planet do we live on?", "Earth"), ("What is the opposite of hot?", "cold"),
    ("What is the capital of Italy?", "Rome"), ("How many days does a week have?", "7"),
    ("What is the capital of Japan?", "Tokyo"), ("Which animal says meow?", "cat"),
)  # fmt: skip
_SPELLED = {"8": ["8", "eight"], "7": ["7", "seven"]}
# (tools offered, share of items without a call, most calls)
_STEPS = {"easy": (1, 0.35, 1), "medium": (4, 0.25, 2), "hard": (7, 0.15, 4)}


def grade(example: Example, text: str) -> Grade:
    """The calls by value; an optional argument that is false equals one that is left out. Without a call in the
    reference, no call and the right fact in the text."""
    text = _without_defaults(normal_text(text, example.tools), example.tools)
    called = same_tool_calls(example.reference, text, example.tools)
    if example.calls or not called.passed:
        return called
    return grade_fact(example, read_reply(text)[0])


def _without_defaults(text: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """A reply in which optional arguments that are false are left out."""
    try:
        content, calls = read_reply(text)
    except ValueError:
        return text
    needed = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    kept = [
        replace(
            call,
            arguments={
                key: value
                for key, value in call.arguments.items()
                if not _is_default(needed.get(call.name, {}), key, value)
            },
        )
        for call in calls
    ]
    return write_reply(content, kept) if calls else text


def _is_default(parameters: Mapping[str, Any], key: str, value: Any) -> bool:
    return value is False and key in parameters.get("properties", {}) and key not in parameters.get("required", ())


def in_text(example: Example) -> Messages:
    return in_plain_text(example.prompt)


def make(rng: Random, step: str) -> ProbeItem:
    offered, share, most = _STEPS[step]
    pool = _SIMPLE if step == "easy" else _OFFERED
    chosen = rng.sample(pool, offered + (step == "easy" and rng.random() < 0.5))
    tools = tuple(tool for tool, _ in chosen)
    if rng.random() < share:
        return _without_call(rng, tools)
    count = rng.randint(2, most) if step == "hard" else rng.randint(1, most)
    asked, calls = [], []
    for tool, request in rng.sample(chosen, count):
        words, arguments = request(rng)
        asked.append(words)
        calls.append(FunctionCall(tool["function"]["name"], arguments))
    gold = write_reply("", calls)
    key, value = next(iter(calls[0].arguments.items()))
    changed = replace(calls[0], arguments={**calls[0].arguments, key: value + 1 if isinstance(value, int) else "Bonn"})
    other = "There is nothing that I could call for this, so I can't say."
    wrong = (write_reply("", [changed, *calls[1:]]), write_reply("", [*calls, calls[0]]), other)
    prompt = (Message("user", " ".join(asked), tools=tools),)
    return ProbeItem("one call" if count == 1 else "several calls", prompt, gold, wrong)


def _without_call(rng: Random, tools: tuple[dict[str, Any], ...]) -> ProbeItem:
    question, key = rng.choice(_NONE)
    name = rng.choice(pools.NAMES)
    before = rng.choice(("{} asks: ", "A question from {}: ", "{} wants to know: ", "For the quiz of {}: "))
    called = write_reply("", [FunctionCall(tools[0]["function"]["name"], {"city": key})])
    wrong = (called, "I do not know that, to be honest.", "")
    keys = _SPELLED.get(key, [key])
    prompt = (Message("user", before.format(name) + question, tools=tools),)
    return ProbeItem("no call", prompt, f"The answer is {keys[0]}.", wrong, {"keys": keys})


TASK = probe("tools", "tool calls", make, grade, ask=in_text)
