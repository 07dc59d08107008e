"""How models write calls of tools: a table of notations, each with the models that use it.

This is the only place that knows these notations. All other parts see calls as `types.write_reply` writes them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..types import FunctionCall, write_reply

Tools = Sequence[Mapping[str, Any]]
Reader = Callable[[str, Tools], tuple[str, list[FunctionCall]]]
_STRING = '<|"|>'  # Gemma's quotation mark
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_DEEPSEEK = re.compile(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>(\S+)\s*```json\n(.*?)\n```|(.*?)<｜tool▁sep｜>(.*?))\s*"
    r"<｜tool▁call▁end｜>",
    re.DOTALL,
)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+?)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?(?=\{)")
_GEMMA = re.compile(r"call:([^{]+)(\{.*\})\s*", re.DOTALL)
# gpt-oss names the tool in the header of a message, before the channel (its chat template) or after it (the models).
_HARMONY = re.compile(
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>\w+)?\s*to=functions\.([^\s<]+)\s*"
    r"(?:<\|channel\|>\s*\w+)?\s*(?:<\|constrain\|>)?\s*\w*\s*(?:<\|message\|>\s*|\Z)"
)
_HARMONY_TEXT = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*<\|message\|>(.*?)(?:<\|(?:end|return)\|>|\Z)", re.DOTALL
)
_KEY = re.compile(r"([{,]\s*)([^\s{}\[\],:\"]+)\s*:")
_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_PYTHON_LIST = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")
_CONSTANTS = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"\b(?:True|False|None)\b")


def read_calls_of(text: str, tools: Tools) -> tuple[str, list[FunctionCall]]:
    """The content of a reply, and the calls in it. `tools` may be called; their schemas give the types of arguments
    that a notation writes without types. Raises ValueError if the text begins a call that can't be read."""
    if "<|channel|>" in text and _HARMONY.search(text):
        return _harmony(text)
    for start, end, read in _NOTATIONS:
        first = text.find(start)
        if first < 0:
            continue
        blocks, content = _blocks(text, start, end)
        try:
            calls = [call for block in blocks for call in read(block, tools)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError, MemoryError):
            raise ValueError("a tool call that can't be read") from None
        if not calls:
            raise ValueError("a tool call that never closes")
        return content, calls
    bare = _bare(text, tools)
    return ("", bare) if bare else (text, [])


def normal_text(text: str, tools: Tools, read: Reader = read_calls_of) -> str:
    """A reply in the form of `write_reply`; a reply without calls is returned unchanged. A call that can't be read
    stays unchanged, between <tool_call> and </tool_call>, so that no part takes the reply for a text."""
    try:
        content, calls = read(text, tools)
    except ValueError:
        return text if "<tool_call>" in text else f"<tool_call>\n{text}\n</tool_call>"
    return write_reply(content, calls) if calls else text


def _blocks(text: str, start: str, end: str) -> tuple[list[str], str]:
    """The texts between the marks, and the rest. Without an end mark, a block runs to the next one or the end."""
    blocks, rest, at = list[str](), list[str](), 0
    while (begin := text.find(start, at)) >= 0:
        rest.append(text[at:begin])
        inside = begin + len(start)
        close = text.find(end, inside) if end else text.find(start, inside)
        if end and close < 0:
            raise ValueError("a tool call that never closes")
        blocks.append(text[inside : close if close >= 0 else len(text)])
        at = close + len(end) if close >= 0 else len(text)
    rest.append(text[at:])
    return blocks, "".join(rest).strip()


# ---- the notations


def _json(block: str, tools: Tools) -> list[FunctionCall]:
    """An object {name, arguments}, or a list of them."""
    value = json.loads(block)
    return [_call(each) for each in (value if isinstance(value, list) else [value])]


def _call(value: Mapping[str, Any]) -> FunctionCall:
    name = value.get("name") or value["tool_name"]
    arguments = value["arguments"] if "arguments" in value else value["parameters"]
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError
    return FunctionCall(name, arguments)


def _tagged(block: str, tools: Tools) -> list[FunctionCall]:
    """Between <tool_call> and </tool_call>: JSON, Qwen3-Coder's tags, or GLM's."""
    if block.lstrip().startswith(("{", "[")):
        return _json(block, tools)
    if found := _FUNCTION.findall(block):
        return [_typed(name, _PARAMETER.findall(body), tools) for name, body in found]
    name = block.partition("<arg_key>")[0].strip()
    if not name or any(mark in name for mark in "<>\n"):
        raise ValueError
    return [_typed(name, _ARGUMENT.findall(block), tools)]


def _typed(name: str, arguments: Iterable[tuple[str, str]], tools: Tools) -> FunctionCall:
    """Arguments that are written without quotes get the types of the tool's schema."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    known = schemas.get(name, {}).get("properties", {})
    return FunctionCall(name, {key: _value(text, known.get(key, {})) for key, text in arguments})


def _value(text: str, schema: Any) -> Any:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return {str(value): value for value in _CONSTANTS.values()}.get(text, text)


def _gemma(block: str, tools: Tools) -> list[FunctionCall]:
    """call:name{key:<|"|>text<|"|>,other:3}"""
    match = _GEMMA.fullmatch(block.strip())
    if match is None:
        raise ValueError
    parts = match[2].split(_STRING)
    written = [json.dumps(part) if place % 2 else _in_json(part) for place, part in enumerate(parts)]
    return [FunctionCall(match[1], json.loads("".join(written)))]


def _in_json(part: str) -> str:
    names = {str(value): name for name, value in _CONSTANTS.items()}
    return _WORD.sub(lambda word: names[word[0]], _KEY.sub(r'\1"\2":', part))


def _mistral(block: str, tools: Tools) -> list[FunctionCall]:
    """A list of objects, or (from version 11 of the tokenizer) name[ARGS]{...}."""
    named = _MISTRAL.match(f"[TOOL_CALLS]{block}")
    if named is None:
        return _json(block, tools)
    arguments, _ = json.JSONDecoder().raw_decode(f"[TOOL_CALLS]{block}", named.end())
    return [_call({"name": named[1], "arguments": arguments})]


def _phi(block: str, tools: Tools) -> list[FunctionCall]:
    """JSON with or without an end mark."""
    return _json(block.partition("<|/tool_call|>")[0], tools)


def _deepseek(block: str, tools: Tools) -> list[FunctionCall]:
    return [_call({"name": a or c, "arguments": b or d}) for a, b, c, d in _DEEPSEEK.findall(block)]


def _python(block: str, tools: Tools) -> list[FunctionCall]:
    """A list of Python calls with named arguments."""
    tree = ast.parse(block.strip(), mode="eval").body
    calls = tree.elts if isinstance(tree, ast.List) else [tree]
    found = []
    for call in calls:
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        arguments = {str(keyword.arg): ast.literal_eval(_JSON.visit(keyword.value)) for keyword in call.keywords}
        found.append(FunctionCall(ast.unparse(call.func), arguments))
    return found


class _JsonNames(ast.NodeTransformer):
    """true, false and null as Python's constants."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


_JSON = _JsonNames()


def _harmony(text: str) -> tuple[str, list[FunctionCall]]:
    """Messages on channels, of which some call a tool. The content is the text on other channels than `analysis`. An
    analysis stands before the content, in the form of a trace of gpt-oss."""
    calls, rest, at = list[FunctionCall](), list[str](), 0
    while header := _HARMONY.search(text, at):
        rest.append(text[at : header.start()])
        try:
            arguments, at = json.JSONDecoder().raw_decode(text, header.end())
            calls.append(_call({"name": header[1], "arguments": arguments}))
        except (ValueError, TypeError, RecursionError):
            raise ValueError("a tool call that can't be read") from None
    messages = [(channel, said) for part in (*rest, text[at:]) for channel, said in _HARMONY_TEXT.findall(part)]
    content = "\n".join(said.strip() for channel, said in messages if channel != "analysis" and said.strip())
    if not (trace := "\n".join(said.strip() for channel, said in messages if channel == "analysis" and said.strip())):
        return content, calls
    marked = f"<|channel|>analysis<|message|>{trace}<|end|><|start|>assistant<|channel|>final<|message|>{content}"
    return marked, calls


def _bare(text: str, tools: Tools) -> list[FunctionCall]:
    """JSON without marks, as Llama 3 writes it, or a list of Python calls, also in a code block; only if the text is
    nothing else and names one of the tools."""
    fenced = _FENCED.fullmatch(text.strip())
    block = (fenced[1] if fenced else text).strip()
    if not block.startswith(("{", "[")):
        return []
    try:
        read = _python if _PYTHON_LIST.match(block) else _json
        calls = read(block, tools)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError, MemoryError):
        return []
    names = {tool["function"]["name"] for tool in tools}
    return calls if calls and all(call.name in names for call in calls) else []


_NOTATIONS: tuple[tuple[str, str, Callable[[str, Tools], list[FunctionCall]]], ...] = (
    (
        "<tool_call>",
        "</tool_call>",
        _tagged,
    ),  # Hermes, Qwen, Nemotron 3, GLM 4.5, Granite 4
    ("<|tool_call>", "<tool_call|>", _gemma),  # Gemma 4
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", _deepseek),  # DeepSeek V3, V3.1, R1
    ("[TOOL_CALLS]", "", _mistral),  # Mistral
    ("<|tool_call|>", "", _phi),  # Phi-4-mini, Granite 3
    ("<|START_ACTION|>", "<|END_ACTION|>", _json),  # Command A
    ("<|tool_call_start|>", "<|tool_call_end|>", _python),  # LFM2
    ("<|python_tag|>", "", _json),  # Llama 3
)
