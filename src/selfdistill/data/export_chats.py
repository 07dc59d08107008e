"""Chats with tools in the forms of other training stacks. A chat that a stack can't express is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ExperimentError
from ..types import FunctionCall, Message, Messages, read_reply, tools_of


def with_response(prompt: Messages, response: str, thought: Mapping[str, Any] | None = None) -> Messages:
    """The prompt and the response as the last turn, with its calls if the prompt has tools. `thought` is the think
    block of a model that thinks; without it, all reasoning is left out, as in training."""
    content, calls = read_reply(response) if tools_of(prompt) else (response, ())
    if thought is None:
        prompt = tuple(replace(turn, reasoning="") if turn.reasoning else turn for turn in prompt)
    return (*prompt, Message("assistant", content, reasoning=thought["text"] if thought else "", tool_calls=calls))


def columns(messages: Messages) -> dict[str, Any]:
    """The columns of a row besides its messages: `tools` as JSON text, because a table can't hold schemas that differ
    between rows. Raises ExperimentError for a row with chat_template_kwargs: only TRL has a column for them."""
    if messages[0].template_kwargs:
        raise ExperimentError(
            "The rows hold chat_template_kwargs, which this format has no place for; export to trl or jsonl, or take "
            "the column out of the data."
        )
    return tools_column(messages)


def tools_column(messages: Messages) -> dict[str, Any]:
    tools = tools_of(messages)
    return {"tools": json.dumps(list(tools), ensure_ascii=False)} if tools else {}


def _thought(message: Message) -> str:
    """Reasoning in the text, as LLaMA-Factory and ms-swift read it."""
    return f"<think>\n{message.reasoning}\n</think>\n\n" if message.reasoning else ""


def swift_turns(messages: Messages) -> Iterator[tuple[int, dict[str, Any]]]:
    """ms-swift's turns, each with the place of its message: calls are turns of role tool_call, results of role
    tool_response (https://swift.readthedocs.io, Agent support)."""
    for place, message in enumerate(messages):
        if message.role == "tool":
            yield place, {"role": "tool_response", "content": message.content}
            continue
        if message.content or message.reasoning or not message.tool_calls:
            yield place, {"role": message.role, "content": f"{_thought(message)}{message.content}"}
        for call in message.tool_calls:
            yield place, {"role": "tool_call", "content": _json(call)}


def sharegpt_turns(messages: Messages) -> dict[str, Any]:
    """LLaMA-Factory's ShareGPT: a turn holds a text, or calls (function_call), or one result (observation)."""
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    turns: list[dict[str, str]] = []
    for message in messages:
        if message.role == "system":
            continue
        name, value = names[message.role], message.content
        if message.tool_calls:
            if message.content.strip():
                raise ExperimentError(
                    "LLaMA-Factory can't express a turn with a text and calls; export to trl, swift or axolotl."
                )
            calls = [_json(call) for call in message.tool_calls]
            name, value = "function_call", calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"
        if name == "observation" and turns[-1]["from"] == "observation":
            raise ExperimentError(
                "LLaMA-Factory can't express several results in a row; export to trl, swift or axolotl."
            )
        if (name in ("gpt", "function_call")) != len(turns) % 2:
            raise ExperimentError(
                "LLaMA-Factory leaves out chats in which user and assistant don't alternate; export to trl, swift or "
                "axolotl."
            )
        turns.append({"from": name, "value": f"{_thought(message)}{value}"})
    return {"conversations": turns, "system": "".join(m.content for m in messages if m.role == "system")}


def _json(call: FunctionCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
