"""Programs: Python blocks that parse, or that pass the asserts of the reference."""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings

from ..sandbox import Ran, Runner
from ..types import Grade

_FENCE = re.compile(r"^[ \t]{0,12}```[ \t]*+(?P<language>[\w+#.-]*+)[^\n`]*+$", re.MULTILINE)
_PYTHON = {"python", "python3", "py", "py3"}
_MOST_CHARACTERS = 50_000
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def python_code(reference: str, text: str) -> Grade:
    """Whether `text` has a fenced Python block, and all its Python blocks parse. The code is not compared with the
    reference, but a reference without a Python block that parses is unjudged.

    The paper's code only looks for the mark of such a block (eval/eval_magicoder.py).
    """
    if _trouble(reference):
        return Grade("unjudged", "no python code in the reference")
    trouble = _trouble(text)
    return Grade("fail", trouble) if trouble else Grade("pass", "python code")


def python_asserts(reference: str, text: str, *, run: Runner) -> Grade:
    """Whether the code in `text` runs and passes the asserts of the reference's code; `python_code` without asserts.

    The test consists of the reference's test functions, and of all its other code except functions and classes. The
    test runs in a separate process and calls the program's functions with plain data. If the reference itself does not
    pass in this way (its asserts look at objects of its classes, or pass functions), the test runs in the program's own
    process, where a program could fool it, and the reason of the grade reports this. A reference that passes in neither
    way (it may need a package) is unjudged. All blocks of `text` run in order, so the last definition of a function
    counts.
    """
    grade = python_code(reference, text)
    try:
        asserts = _asserts(reference) if grade.outcome != "unjudged" else None
    except RecursionError:  # a sum of hundreds of terms is a tree of as many levels
        return Grade("unjudged", "the reference's code is nested too deeply")
    if asserts is None or not grade.passed:
        return grade
    calls = "".join(f"{name} = function_of_the_program({name!r})\n" for name in _functions(reference))

    def passes(code: str, apart: bool) -> Ran:
        return run(_joined(code), f"{calls}{asserts}\n") if apart else run(f"{_joined(code)}\n{asserts}\n")

    apart = True
    own = passes(reference, apart)
    if own.started and not own.ok:
        apart = False
        own = passes(reference, apart)
    if not own.ok:
        why = f"the reference fails its own asserts: {own.reason}" if own.started else own.reason
        return Grade("unjudged", why, found=own.output.strip()[-200:])
    ran = passes(text, apart)
    if not ran.ok:
        return Grade("fail" if ran.started else "unjudged", ran.reason, found=ran.output.strip()[-200:] or None)
    where = "" if apart else ", run in its own process"
    return Grade("pass", f"passes the reference's asserts{where}")


def tested(name: str, function: str | None, tests: str, run: Runner) -> Grade:
    """Whether the program of a `function` called `name`, None if an answer presents none, passes `tests`, which run in
    a separate process. Unjudged if the sandbox fails."""
    if function is None:
        return Grade("fail", "no function found", expected=name)
    ran = run(function, tests)
    if not ran.started:
        return Grade("unjudged", ran.reason, found=ran.output[-200:])
    if ran.ok:
        return Grade("pass", "passes the tests")
    return Grade("fail", ran.reason, found=ran.output.strip()[-200:] or None)


def _joined(text: str) -> str:
    return "\n\n".join(map(textwrap.dedent, python_blocks(text) or []))


def _asserts(reference: str) -> str | None:
    """The test code of the reference, or None if it has no assert."""
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


def _functions(reference: str) -> list[str]:
    """The names of the functions that the reference defines, apart from its tests."""
    statements = parse(_joined(reference)).body
    return [node.name for node in statements if isinstance(node, _FUNCTION) and not _is_test(node)]


def _is_test(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether pytest would collect the function, and it has no fixtures."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not arguments


def python_blocks(text: str) -> list[str] | None:
    """The contents of the blocks fenced as Python, or None if a fence is not closed."""
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


_PARSING = threading.Lock()  # the warnings filter is global to the process, and graders run in threads


def parse(source: str) -> ast.Module:
    """`ast.parse` without warnings, such as warnings about invalid escapes in a model's code."""
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
