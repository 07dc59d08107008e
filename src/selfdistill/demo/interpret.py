"""Evaluates the demo's small Python functions without running code: sums, comparisons, slices and a few built-ins.

A language model's answers are never executed outside a sandbox. The demo's functions need no sandbox, because each is
one expression of its parameters.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: operator.mod, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "min": min, "len": len, "list": list, "range": range}
_LIMIT = 10_000  # no right answer is larger, and a larger number could make a huge list


class NotUnderstood(ValueError):  # noqa: N818 - the answer is wrong, not the program
    """The source is not a function of the demo's kind."""


def function_of(source: str, name: str) -> Callable[..., Any]:
    """The function `name` that `source` defines by `def` or a lambda. Raises NotUnderstood."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotUnderstood("no Python") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _call(node.args, node.body)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and _names(node) == [name]:
            return _call(node.value.args, [ast.Return(node.value.body)])
    raise NotUnderstood(f"no function {name}")


def value_of(source: str) -> Any:
    """The value of an expression without names. Raises NotUnderstood."""
    try:
        return _value(ast.parse(source, mode="eval").body, {})
    except SyntaxError:
        raise NotUnderstood("no Python") from None


def _call(arguments: ast.arguments, body: list[ast.stmt]) -> Callable[..., Any]:
    parameters = [argument.arg for argument in arguments.args]

    def call(*values: Any) -> Any:
        if len(values) != len(parameters):
            raise NotUnderstood("other parameters")
        names = dict(zip(parameters, values, strict=True))
        for statement in body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                return _value(statement.value, names)
            if not isinstance(statement, ast.Assign) or len(_names(statement)) != 1:
                raise NotUnderstood("other statements")
            names[_names(statement)[0]] = _value(statement.value, names)
        raise NotUnderstood("no return")

    return call


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    result: Any
    match node:
        case ast.Constant(value=int() | str() | bool() as value):
            result = value
        case ast.Name(id=name) if name in names:
            result = names[name]
        case ast.List(elts=elements):
            result = [_value(element, names) for element in elements]
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            if type(op) not in _OPERATORS:
                raise NotUnderstood("other operators")
            result = _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Subscript(value=items, slice=ast.Slice(lower=None, upper=ast.expr() as upper, step=None)):
            result = _value(items, names)[: _value(upper, names)]
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in _FUNCTIONS:
            result = _FUNCTIONS[function](*(_value(argument, names) for argument in arguments))
        case _:
            raise NotUnderstood("other expressions")
    if (isinstance(result, int) and abs(result) > _LIMIT) or (isinstance(result, str | list) and len(result) > _LIMIT):
        raise NotUnderstood("too large")
    return result
