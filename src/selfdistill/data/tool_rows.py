"""Tools in rows: their definitions, the calls of a turn, and the checks of calls and results against each other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import RecipeError
from ..grading.schemas import invalid_arguments, validator
from ..types import FunctionCall, Message
from .bad_rows import UnusableError
from .values import is_filled, kind

# Names of types in published tool data that JSON Schema does not know.
_TYPES = {
    "str": "string", "text": "string", "int": "integer", "long": "integer", "float": "number", "double": "number",
    "bool": "boolean", "list": "array", "tuple": "array", "set": "array", "dict": "object", "hashmap": "object",
}  # fmt: skip
_KNOWN = {"string", "integer", "number", "boolean", "array", "object", "null"}
_TYPE = re.compile(r"\s*(?:optional\[)?\s*(\w+)", re.IGNORECASE)
# Prompts that write tool definitions into the system turn: of Hermes, and of Qwen's chat template.
_WRITTEN = re.compile(
    r"\s*(?:You are a function calling AI model\b|# Tools\s+You may call one or more functions\b).*?"
    r"<tools>(?P<tools>\s*[\[{].*?)</tools>.*(?:</tool_call>|\Z)",
    re.DOTALL,
)
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)


# ---- definitions


def read_tools(value: Any, label: str) -> tuple[dict[str, Any], ...]:
    """Tool definitions in OpenAI's form. `value` is a list, one definition, or JSON text of either; a definition may
    lack its frame {type: function, function: ...}, and name its types as Python does. Raises UnusableError."""
    if not is_filled(value):
        return ()
    value = parsed(value, label)
    tools = tuple(_tool(parsed(tool, label), label) for tool in (value if isinstance(value, list) else [value]))
    names = [tool["function"]["name"] for tool in tools]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UnusableError(f"{label} defines {doubled} twice")
    return tools


def _tool(value: Any, label: str) -> dict[str, Any]:
    own = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("name"), str) or not own["name"]:
        raise UnusableError(f"{label} holds a tool without a name")
    own = _without_null(own)
    schema = _schema(own.get("parameters") or {}, f"{label}: the parameters of {own['name']}")
    try:
        validator(schema)
    except RecipeError:
        raise UnusableError(f"{label}: the parameters of {own['name']} are not a JSON Schema") from None
    return {"type": "function", "function": {**own, "parameters": schema}}


def _schema(value: Any, label: str) -> dict[str, Any]:
    """The JSON Schema of an object. xLAM's {name: {type, description, default}} has no frame; a parameter is required
    there unless it is optional or has a default."""
    if not isinstance(value, dict):
        raise UnusableError(f"{label} are {kind(value)}, not an object")
    if isinstance(value.get("type"), str) or not all(isinstance(each, dict) for each in value.values()):
        return {"type": "object", "properties": {}, **_in_json_types(value)}
    if "properties" in value:
        return {"type": "object", **_in_json_types(value)}
    optional = [name for name, about in value.items() if "default" in about or "optional" in str(about.get("type", ""))]
    required = {"required": needed} if (needed := [name for name in value if name not in optional]) else {}
    return {"type": "object", "properties": _in_json_types(value), **required}


def _in_json_types(value: Any) -> Any:
    """The schema with JSON's names of types. A type that can't be translated is left out, which allows any value."""
    if isinstance(value, list):
        return [_in_json_types(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: each if key in ("enum", "default", "const") else _in_json_types(each) for key, each in value.items()}
    if isinstance(named := value.get("type"), str) and named not in _KNOWN:
        first = _TYPE.match(named.lower())
        found.pop("type")
        if first and (name := _TYPES.get(first[1], first[1])) in _KNOWN:
            found["type"] = name
    return found


def _without_null(value: Any) -> Any:
    """Tables write null for a key that other rows have."""
    if isinstance(value, list):
        return [_without_null(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = ("default", "const")
    return {key: _without_null(each) for key, each in value.items() if each is not None or key in kept}


def tools_in_text(system: str) -> tuple[str, str] | None:
    """The definitions that a system turn of Hermes or Qwen writes, and the system turn without them, since the model's
    own template writes the definitions. None if the turn writes none."""
    found = _WRITTEN.search(system)
    if not found:
        return None
    lines = [line for line in found["tools"].strip().splitlines() if line.strip()]
    text = found["tools"].strip()
    definitions = text if text.startswith("[") or len(lines) == 1 else f"[{','.join(lines)}]"
    return definitions, (system[: found.start()] + system[found.end() :]).strip()


# ---- calls and results


def read_calls(value: Any, label: str) -> tuple[FunctionCall, ...]:
    """Calls as OpenAI's {id, function: {name, arguments}}, or as {name, arguments}; arguments are an object or JSON
    text. Raises UnusableError."""
    value = parsed(value, f"{label}: a tool call")
    return tuple(_call(call, label) for call in (value if isinstance(value, list) else [value]))


def _call(value: Any, label: str) -> FunctionCall:
    own = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("name"), str):
        raise UnusableError(f"{label} holds a tool call without a name")
    arguments = own.get("arguments", own.get("parameters"))
    arguments = parsed(arguments, f"{label}: the arguments of {own['name']}") if arguments not in (None, "") else {}
    if not isinstance(arguments, dict):
        raise UnusableError(f"{label}: the arguments of {own['name']} are {kind(arguments)}, not an object")
    return FunctionCall(own["name"], arguments, str(value.get("id") or ""))


def calls_in_text(text: str, label: str) -> tuple[str, tuple[FunctionCall, ...]]:
    """The text without its <tool_call> blocks, and the calls in them."""
    calls = [call for block in _CALL.findall(text) for call in read_calls(block, label)]
    content = _CALL.sub("", text)
    if "<tool_call>" in content:
        raise UnusableError(f"{label} holds a tool call that never closes")
    return (content.strip(), tuple(calls)) if calls else (text, ())


def results_in_text(text: str) -> list[str]:
    """The results in a tool's turn: one, or several in <tool_response> blocks as in Hermes."""
    found = _RESULT.findall(text)
    return found if found and not _RESULT.sub("", text).strip() else [text]


def parsed(value: Any, label: str) -> Any:
    """The value of JSON text; any other value unchanged. Raises UnusableError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UnusableError(f"{label} is not JSON") from None


def linked(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages, in which each result names its call. Calls are checked against the tools, results against the
    calls. Raises UnusableError."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    done: list[Message] = []
    waiting: list[str] = []
    for number, message in enumerate(messages, 1):
        if message.role == "tool":
            if not waiting:
                raise UnusableError(f"turn {number} is a tool's result without a call")
            name = message.tool_call_id or waiting[0]
            if name not in waiting:
                raise UnusableError(f"turn {number} is the result of a call '{name}' that the turn before doesn't make")
            waiting.remove(name)
            done.append(replace(message, tool_call_id=name))
            continue
        if waiting:
            raise UnusableError(f"a call of {waiting[0]} has no result before turn {number}")
        calls = [_checked(call, schemas, number) for call in message.tool_calls]
        ids = [call.id for call in calls]
        if "" in ids or len(set(ids)) < len(ids):
            calls = [replace(call, id=f"call_{number}_{place}") for place, call in enumerate(calls, 1)]
        waiting = [call.id for call in calls]
        done.append(replace(message, tool_calls=tuple(calls)))
    return tuple(done)


def _checked(call: FunctionCall, schemas: Mapping[str, Any], number: int) -> FunctionCall:
    if not schemas:
        raise UnusableError(f"turn {number} calls {call.name}, and the row defines no tools")
    if call.name not in schemas:
        raise UnusableError(f"turn {number} calls {call.name}, which is none of the row's tools")
    schema = schemas[call.name]
    if reason := invalid_arguments(schema, call.arguments):
        # Tables write null for an argument that other rows have.
        kept = {name: value for name, value in call.arguments.items() if value is not None}
        if invalid_arguments(schema, kept):
            raise UnusableError(f"turn {number}: the arguments of {call.name} are not valid: {reason}")
        call = replace(call, arguments=kept)
    return call
