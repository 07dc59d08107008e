"""Function calls: our graders compare the values of calls (of tools, or in a text), the paper's compares the text."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..types import FunctionCall, Grade, read_reply, write_reply
from .schemas import canonical, invalid_arguments

_NAME = r"[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+"
_CALL_START = re.compile(r"(?<![\w.])" + _NAME + r"\((?!(?:s|es)\))")  # `file(s)` is a plural
_AFTER = re.compile(r"\.\w|[\[(]")
_TOKEN = re.compile(r"""\\.|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'|[()\[\]{}]""")
_PARAMETER = re.compile(r"^[^\S\n]*+\d++\.[^\S\n]++(\S++)", re.MULTILINE)
_MOST_CALLS = 50
_MOST_CHARACTERS = 20_000
_JSON_NAMES = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Call:
    """A call: its source text, the name of the function, and the expression tree."""

    source: str
    name: str
    node: ast.Call


def same_tool_calls(reference: str, text: str, tools: Sequence[Mapping[str, Any]]) -> Grade:
    """Whether a reply calls the same tools as the reference, in any order, with equal values (1 and 1.0 are equal), and
    validly against the schemas of `tools`. A reply without calls passes if the reference has none; its text is not
    compared."""
    try:
        _, wanted = read_reply(reference)
    except ValueError:
        return Grade("unjudged", "no call in the reference that can be read")
    expected = write_reply("", wanted) or "no call"
    try:
        _, found = read_reply(text)
    except ValueError as error:
        return Grade("fail", str(error), expected, text.strip()[:_MOST_CHARACTERS])
    shown = write_reply("", found) or "no call"
    if not wanted or not found:
        reason = "no call, like the reference" if not (wanted or found) else "calls no tool"
        reason = "calls a tool, unlike the reference" if found else reason
        return Grade("fail" if wanted or found else "pass", reason, expected, shown)
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    if any(call.name not in schemas for call in found):
        return Grade("fail", "calls a tool that is not defined", expected, shown)
    if any(invalid_arguments(schemas[call.name], call.arguments) for call in found):
        return Grade("fail", "arguments not valid against the schema", expected, shown)
    if _counted(found) == _counted(wanted):
        return Grade("pass", "same calls", expected, shown)
    if len(found) != len(wanted):
        return Grade("fail", "other number of calls", expected, shown)
    names = Counter(call.name for call in found) != Counter(call.name for call in wanted)
    return Grade("fail", "function differs" if names else "arguments differ", expected, shown)


def _counted(calls: Sequence[FunctionCall]) -> Counter[tuple[str, str]]:
    return Counter((call.name, _spelled(call.arguments)) for call in calls)


def _spelled(arguments: Mapping[str, Any]) -> str:
    try:
        return canonical(arguments)
    except (ValueError, RecursionError):  # an infinite number, or lists in lists
        return repr(arguments)


def tool_calls(reference: str, text: str, *, tools: Sequence[Mapping[str, Any]] = ()) -> Grade:
    """`same_tool_calls`, for rows with tools. A reply without calls passes unchecked, as its text is not compared."""
    grade = same_tool_calls(reference, text, tools)
    return grade if grade.expected != "no call" or not grade.passed else replace(grade, checked=False)


def function_call(reference: str, text: str, *, instruction: str = "") -> Grade:
    """Whether `text` makes the reference's call, and no other call (eq. 4, Extract for tool use).

    Calls are parsed as Python. The order of named arguments does not matter, and literals are compared by value (1 and
    1.0, 'a' and "a" are equal, True and 'True' are not). JSON's true, false and null count as Python's constants. A
    positional argument gets its name from the instruction's "Parameters:" list, or else from the reference. Prose,
    backticks and fences around the call are ignored. A second call fails, even if it repeats the first, and so does a
    call whose result is used (`f(1).x`). A reference that isn't Python (`path=<path>`) is compared as text, ignoring
    white space and the kind of quotes.
    """
    expected = read_call(reference)
    if expected is None:
        return _same_text(reference, text)
    parameters = signature(instruction) or [keyword.arg for keyword in expected.node.keywords if keyword.arg]
    try:
        wanted = _arguments(expected.node, parameters)
    except RecursionError:
        return _same_text(reference, text)
    try:
        whole = read_call(text)
        calls = [whole] if whole else list(find_calls(text))
        found = [(call.name, _arguments(call.node, parameters)) for call in calls]
    except _UnreadableError as error:
        return Grade("fail", str(error), expected.source)
    except RecursionError:
        return Grade("fail", "call nested too deeply", expected.source)
    if not found:
        return Grade("fail", "no call found", expected.source)
    shown = "; ".join(call.source for call in calls[:3])
    if len(found) > 1:
        reason = "the same call more than once" if len(set(found)) == 1 else "more than one call"
        return Grade("fail", reason, expected.source, shown)
    name, arguments = found[0]
    if name != expected.name:
        return Grade("fail", "function differs", expected.source, shown)
    if arguments != wanted:
        return Grade("fail", "arguments differ", expected.source, shown)
    return Grade("pass", "same call", expected.source, shown)


def signature(instruction: str) -> list[str]:
    """The parameter names in the numbered list under "Parameters:", in order."""
    _, found, rest = instruction.partition("\nParameters:")
    return _PARAMETER.findall(rest) if found else []


def read_call(source: str) -> Call | None:
    """`source` as one Python call to a plain or dotted name, None if it isn't one."""
    source = source.strip()
    node = _parse(source)
    name = _dotted(node.func) if isinstance(node, ast.Call) else None
    return Call(source, name, node) if isinstance(node, ast.Call) and name else None


class _UnreadableError(Exception):
    """Why the calls of a text can't be counted."""


def find_calls(text: str) -> Iterator[Call]:
    """The outermost calls in `text`. A name whose parentheses never close or don't contain Python, as in prose, is not
    a call. Raises _UnreadableError."""
    at = tries = 0
    while start := _CALL_START.search(text, at):
        tries += 1
        if tries > _MOST_CALLS:
            raise _UnreadableError("too many calls to read")
        end = _closing(text, start.end() - 1)
        call = read_call(text[start.start() : end]) if end else None
        if call is None:
            at = start.end()
            continue
        assert end is not None
        if _AFTER.match(text, end):
            raise _UnreadableError("call within a longer expression")
        yield call
        at = end


def _closing(text: str, opening: int) -> int | None:
    """The place after the bracket that closes the one at `opening`; brackets within strings don't count."""
    depth = 0
    for token in _TOKEN.finditer(text, opening, opening + _MOST_CHARACTERS):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _parse(source: str) -> ast.expr | None:
    if len(source) > _MOST_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the model's code
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _dotted(node: ast.expr) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _arguments(call: ast.Call, parameters: Sequence[str] = ()) -> Hashable:
    """The values of a call's arguments, equal for two calls that differ only in spelling. Raises RecursionError."""
    named: list[tuple[str, Hashable]] = [(keyword.arg or "**", _value(keyword.value)) for keyword in call.keywords]
    placed: list[Hashable] = []
    for place, argument in enumerate(call.args):
        if place < len(parameters) and not isinstance(argument, ast.Starred):
            named.append((parameters[place], _value(argument)))
        else:
            placed.append(_value(argument))
    return (tuple(placed), frozenset(named), len(named))


def _value(node: ast.expr) -> Hashable:
    match node:
        case ast.Constant(value=bool() | None as value):
            return ("constant", str(value))
        case ast.Constant(value=int() | float() | complex() as number):
            return ("number", number)
        case ast.Constant(value=value):
            return (type(value).__name__, value)
        case ast.Name(id=name) if name in _JSON_NAMES:
            return ("constant", str(_JSON_NAMES[name]))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return ("number", -number)
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float() as number)):
            return ("number", number)
        case ast.List(elts=items):
            return ("list", tuple(map(_value, items)))
        case ast.Tuple(elts=items):
            return ("tuple", tuple(map(_value, items)))
        case ast.Set(elts=items):
            return ("set", frozenset(map(_value, items)))
        case ast.Dict(keys=keys, values=values):
            pairs = {_value(key) if key else "**": _value(value) for key, value in zip(keys, values, strict=True)}
            return ("dict", frozenset(pairs.items()))
        case ast.Call(func=function):
            return ("call", _value(function), _arguments(node))
        case _:
            return ("expression", ast.dump(node))


def _same_text(reference: str, text: str) -> Grade:
    expected, found = _compact(reference), _compact(text)
    if not expected:
        return Grade("unjudged", "no call in the reference")
    if found == expected:
        return Grade("pass", "same text", reference.strip(), text.strip())
    return Grade("fail", "text differs", reference.strip(), text.strip())


def _compact(text: str) -> str:
    text = text.strip().strip("`")
    return re.sub(r"\s+", "", text.removeprefix("python\n")).replace("'", '"')


_PAPER_CALL = re.compile(r"(" + _NAME + r")\((.*)\)")


def function_call_paper(reference: str, text: str) -> Grade:
    """The rule of the paper's code: the reference's call occurs in the text, after white space and quotes are unified.

    The order of arguments matters. The rest of the text, including further calls, is ignored.
    https://github.com/sail-sg/sdft (eval/eval_openfunction.py)
    """
    call = _PAPER_CALL.match(_standardise(reference))
    if call is None:
        return Grade("unjudged", "no call in the reference")
    if _occurs(call[0], _standardise(text)):
        return Grade("pass", "same call", call[0], call[0])
    return Grade("fail", "call not found", call[0])


def _occurs(call: str, text: str) -> bool:
    """Whether `call` occurs in `text`, except as the end of a longer name. Not a regular expression, because Python
    would cache one pattern per reference."""
    at = text.find(call)
    while at > 0 and (text[at - 1].isalnum() or text[at - 1] == "_"):
        at = text.find(call, at + 1)
    return at >= 0


def _standardise(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip()).replace("'", '"').replace(", ", ",")
