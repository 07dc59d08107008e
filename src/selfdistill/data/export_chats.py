"""Chats with tools in the forms of other training stacks. A chat that a stack can't express is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..errors import ExperimentError
from ..grading.traces import join
from ..models.tool_turns import chat_of
from ..types import FunctionCall, Message, Messages, Thought, read_reply, tools_of


def with_response(prompt: Messages, response: str, thought: Thought | None = None) -> Messages:
    """The prompt and the response as the last turn, with its calls if the prompt has tools. Without a `thought`, which
    all rows of a model that thinks have, the turns hold no reasoning, as in training."""
    content, calls = read_reply(response) if tools_of(prompt) else (response, ())
    if thought is None:
        return (*(replace(turn, reasoning="") for turn in prompt), Message("assistant", content, tool_calls=calls))
    return (*prompt, Message("assistant", content, thought.text if thought.trained else "", calls))


def columns(messages: Messages, arguments: bool) -> dict[str, Any]:
    """The columns of a row besides its messages: `tools` as JSON text, because a table can't hold schemas that differ
    between rows, and `chat_template_kwargs`. Without `arguments` the stack has no such column."""
    tools, kwargs = tools_of(messages), messages[0].template_kwargs
    if kwargs and not arguments:
        raise ExperimentError(
            "The rows hold chat_template_kwargs, which this format has no place for; export to trl or jsonl, or take "
            "the column out of the data."
        )
    found: dict[str, Any] = {"tools": json.dumps(list(tools), ensure_ascii=False)} if tools else {}
    return found | ({"chat_template_kwargs": dict(kwargs)} if kwargs else {})


def openai_turns(messages: Messages) -> list[dict[str, Any]]:
    """Turns as OpenAI writes them, with arguments as objects, and reasoning as `reasoning_content`."""
    return list(chat_of(messages, ("reasoning_content",)))


def swift_turns(messages: Messages) -> Iterator[tuple[int, dict[str, Any]]]:
    """ms-swift's turns, each with the place of its message: calls are turns of role tool_call, results of role
    tool_response (https://swift.readthedocs.io, Agent support)."""
    for place, message in enumerate(messages):
        if message.role == "tool":
            yield place, {"role": "tool_response", "content": message.content}
            continue
        if message.content or message.reasoning or not message.tool_calls:
            yield place, {"role": message.role, "content": _whole(message)}
        for call in message.tool_calls:
            yield place, {"role": "tool_call", "content": _json(call)}


def sharegpt_turns(messages: Messages) -> dict[str, Any]:
    """LLaMA-Factory's ShareGPT: a turn holds a text, or calls (function_call), or one result (observation)."""
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    turns: list[dict[str, str]] = []
    for message in messages:
        if message.role == "system":
            continue
        name, value = names[message.role], _whole(message)
        if message.tool_calls:
            if value.strip():
                raise ExperimentError(
                    "LLaMA-Factory can't express a turn with a text and calls; export to trl, swift or axolotl."
                )
            calls = [_json(call) for call in message.tool_calls]
            name, value = "function_call", calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"
        if name == "observation" and turns[-1]["from"] == "observation":
            raise ExperimentError(
                "LLaMA-Factory can't express several results in a row; export to trl, swift or axolotl."
            )
        turns.append({"from": name, "value": value})
    return {"conversations": turns, "system": "".join(m.content for m in messages if m.role == "system")}


def _whole(message: Message) -> str:
    """The content after its think block, in the form that most stacks read."""
    return join(message.reasoning, message.content) if message.reasoning else message.content


def _json(call: FunctionCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
