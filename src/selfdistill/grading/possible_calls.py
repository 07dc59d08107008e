"""BFCL's comparison of calls: for each parameter of a call, a list of allowed values.

The rules are those of `bfcl_eval.eval_checker.ast_eval.ast_checker` for Python
(https://github.com/ShishirPatil/gorilla, Apache-2.0), including their strict types: in a list of numbers with decimals
the integer 1 is not 1.0. `python benchmarks/bfcl.py` compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..types import FunctionCall, Grade, read_reply, write_reply

Possible = Mapping[str, Mapping[str, Sequence[Any]]]
"""One expected call: {name: {parameter: allowed values}}. An allowed value of "" means that the parameter may be left
out."""

_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
_IGNORED = re.compile(r"[ ,./\-_*^]")


def possible_calls(expected: Sequence[Possible], text: str, tools: Sequence[Mapping[str, Any]]) -> Grade:
    """Whether a reply makes the expected calls, in any order, and no others. Each expected call takes the first call
    that fits. Texts are compared without case, spaces and the signs ,./-_*^."""
    shown = write_reply("", [shortest(each, tools) for each in expected])
    try:
        _, found = read_reply(text)
    except ValueError as error:
        return Grade("fail", str(error), shown, text.strip())
    written = write_reply("", found) or "no call"
    if len(found) != len(expected):
        reason = "other number of calls" if found else "calls no tool"
        return Grade("fail", reason, shown, written)
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    left = list(found)
    for possible in expected:
        problems = [_problem(call, possible, schemas) for call in left]
        if None not in problems:
            return Grade("fail", str(min(problems, key=lambda each: each == _OTHER)), shown, written)
        left.pop(problems.index(None))
    return Grade("pass", "allowed calls", shown, written)


def shortest(possible: Possible, tools: Sequence[Mapping[str, Any]]) -> FunctionCall:
    """An allowed call: the first allowed value of each parameter that is required or can't be left out."""
    ((name, allowed),) = possible.items()
    required = {key for each in tools if each["function"]["name"] == name for key in _required(each["function"])}
    given = {key: values for key, values in allowed.items() if key in required or "" not in values}
    return FunctionCall(name, {key: _first([each for each in values if each != ""]) for key, values in given.items()})


def _required(function: Mapping[str, Any]) -> Sequence[str]:
    required: Sequence[str] = function["parameters"].get("required", ())
    return required


def _first(values: Sequence[Any]) -> Any:
    value = values[0] if values else ""
    if isinstance(value, dict):
        return _chosen(value)
    return [_chosen(each) if isinstance(each, dict) else each for each in value] if isinstance(value, list) else value


def _chosen(allowed: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {key: values[0] for key, values in allowed.items() if "" not in values}


_OTHER = "function differs"


def _problem(call: FunctionCall, possible: Possible, schemas: Mapping[str, Any]) -> str | None:
    """Why a call is not the expected one, None if it is."""
    ((name, allowed),) = possible.items()
    schema = schemas.get(name, {})
    if call.name != name:
        return _OTHER
    if any(key not in call.arguments for key in schema.get("required", ())):
        return "a required argument is missing"
    for key, value in call.arguments.items():
        if key not in schema.get("properties", {}) or key not in allowed:
            return "an argument too many"
        if not _allowed(value, allowed[key], schema["properties"][key]):
            return "arguments differ"
    missing = any(key not in call.arguments and "" not in values for key, values in allowed.items())
    return "an argument is missing" if missing else None


def _allowed(value: Any, values: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """Whether a value has the parameter's type and is one of `values`. A value that has the type of `values` and not
    the parameter's stands for a variable, and is compared unchanged."""
    kind, inner = _type(schema), _type(schema.get("items", {})) if schema.get("type") == "array" else None
    with suppress(OverflowError):  # an integer that is larger than any float stays one
        value = float(value) if kind is float and type(value) is int else value
    usual = next((type(each) for each in values if each != ""), None)
    own: type = type(value)
    if own is not kind or (usual is not None and usual is not kind):
        return own in (kind, usual) and value in values
    if kind is dict:
        return any(_same_object(value, each) for each in values if each != "")
    if kind is list:
        values = [[] if each == "" else each for each in values]
        if not any(_items_fit(value, each, inner) for each in values):
            return False
        if inner is dict:
            return any(_same_objects(value, each) for each in values)
    return _plain(value) in [_plain(each) for each in values]


def _type(schema: Mapping[str, Any]) -> type:
    """The Python type of a schema's type. BFCL's type `any`, which JSON Schema lacks, is compared as text."""
    return _TYPES.get(str(schema.get("type")), str)


def _items_fit(value: Sequence[Any], allowed: Any, inner: type | None) -> bool:
    """Whether the items of a list have the type of the schema, or that of the items of an allowed list."""
    usual = next((type(item) for item in allowed if item != ""), None)
    return all(type(item) in (inner, usual) for item in value)


def _same_objects(value: Sequence[Any], allowed: Any) -> bool:
    if not isinstance(allowed, list) or len(value) != len(allowed):
        return False
    return all(isinstance(own, dict) and _same_object(own, each) for own, each in zip(value, allowed, strict=True))


def _same_object(value: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]]) -> bool:
    if any(key not in value and "" not in values for key, values in allowed.items()):
        return False
    return all(key in allowed and _text(own) in [_text(each) for each in allowed[key]] for key, own in value.items())


def _plain(value: Any) -> Any:
    return [_text(each) for each in value] if isinstance(value, list) else _text(value)


def _text(value: Any) -> Any:
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
