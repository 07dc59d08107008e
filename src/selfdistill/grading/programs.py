"""Programs: Python blocks that parse, or that pass the asserts of the reference."""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings

from ..sandbox import Run
from ..types import Verdict

_FENCE = re.compile(r"^[ \t]{0,12}```[ \t]*+(?P<language>[\w+#.-]*+)[^\n`]*+$", re.MULTILINE)
_PYTHON = {"python", "python3", "py", "py3"}
_MOST_CHARACTERS = 50_000
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def python_code(reference: str, text: str) -> Verdict:
    """Whether `text` holds a fenced Python block, and each that it holds parses. The reference's code is not compared,
    but a reference that has no such block itself is unjudged.

    The paper's code asks for the mark of such a block alone (eval/eval_magicoder.py).
    """
    if _trouble(reference):
        return Verdict("unjudged", "no python code in the reference")
    trouble = _trouble(text)
    return Verdict("fail", trouble) if trouble else Verdict("pass", "python code")


def python_asserts(reference: str, text: str, *, run: Run) -> Verdict:
    """Where the reference's code holds asserts, whether the code in `text` runs and passes them; else `python_code`.

    Of the reference's blocks everything but its functions and classes is run after the code in `text`, and its test
    functions. A reference that fails its own asserts (it may need a package) is unjudged.
    """
    verdict = python_code(reference, text)
    asserts = _asserts(reference) if verdict.outcome != "unjudged" else None
    if asserts is None or not verdict.passed:
        return verdict
    for code, what in ((reference, "the reference"), (text, "the code")):
        ran = run(f"{_joined(code)}\n{asserts}\n")
        if not ran.started:
            return Verdict("unjudged", ran.reason, found=ran.output[-200:])
        if not ran.ok and code is reference:
            return Verdict("unjudged", f"{what} fails its own asserts: {ran.reason}", found=ran.output.strip()[-200:])
        if not ran.ok:
            return Verdict("fail", ran.reason, found=ran.output.strip()[-200:] or None)
    return Verdict("pass", "passes the reference's asserts")


def _joined(text: str) -> str:
    return "\n\n".join(map(textwrap.dedent, python_blocks(text) or []))


def _asserts(reference: str) -> str | None:
    """The part of the reference's code that tests the rest, None where it asserts nothing."""
    try:
        statements = parse(_joined(reference)).body
    except SyntaxError:  # blocks that parse alone but not together
        return None
    tests = list[ast.stmt]()
    for node in statements:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            tests += node.body
        elif isinstance(node, _FUNCTION):
            tests += [node, *parse(f"{node.name}()").body] if _is_test(node) else []
        elif not isinstance(node, ast.ClassDef):
            tests.append(node)
    if not any(isinstance(inner, ast.Assert) for node in tests for inner in ast.walk(node)):
        return None
    return ast.unparse(ast.Module(tests, []))


def _is_test(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A function such as pytest collects, without fixtures."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not arguments


def python_blocks(text: str) -> list[str] | None:
    """The contents of the blocks fenced as Python, None where the last fence is not closed."""
    fences = list(_FENCE.finditer(text))
    blocks, place = [], 0
    while place < len(fences):
        opening = fences[place]
        closing = next((i for i in range(place + 1, len(fences)) if not fences[i]["language"]), None)
        if closing is None:
            return None
        if opening["language"].lower() in _PYTHON:
            blocks.append(text[opening.end() + 1 : fences[closing].start()])
        place = closing + 1
    return blocks


def _trouble(text: str) -> str | None:
    blocks = python_blocks(text)
    if blocks is None:
        return "code block not closed"
    if not blocks:
        return "no python block found"
    if not all(block.strip() for block in blocks):
        return "empty code block"
    return None if all(map(_parses, blocks)) else "code does not parse"


def _parses(source: str) -> bool:
    if len(source) > _MOST_CHARACTERS:
        return False
    try:
        parse(textwrap.dedent(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


_PARSING = threading.Lock()  # the filter of warnings is the whole process's, and graders run in threads


def parse(source: str) -> ast.Module:
    """`ast.parse` without warnings of invalid escapes and the like in what a model wrote."""
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
