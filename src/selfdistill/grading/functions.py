"""The function that an answer gives, cut out of the prose, fences and examples around it. Nothing is run."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence

from .programs import parse

_BLOCK = re.compile(r"```[^\n`]*+\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE_START = re.compile(r"[ \t]*(?:async def |def |class |import |from |@|try:|if |[A-Za-z_]\w*[^=\n]{0,80}=[^=])")
_BLOCK_START = re.compile(r"[ \t]*(?:async |def |class |for |while |if |with |try:|@)")
_MOST_CHARACTERS = 50_000
_MOST_TRIES, _MOST_PARSED = 200, 1_000_000
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def complete_function(prompt: str, name: str, answer: str) -> str | None:
    """A program: `prompt`, which ends with the head of the function `name`, and over it the function as `answer` has
    it. None where it has none.

    The answer may give the whole function or only its body, fenced or not, closed or cut off, in several blocks, with
    prose and examples around it. Of several versions the first block's counts, and a head without a body does not. Kept
    are the imports, helpers and constants that the function needs; examples are left out.
    """
    text = answer[:_MOST_CHARACTERS].replace("\0", "").replace("\r\n", "\n")
    blocks = _BLOCK.findall(text)
    tries = _Tries()
    found = None
    for sources in (blocks, [text]):
        found = found or _whole([tree for source in sources for tree in tries.segments(source)], name)
    for source in (*blocks, text):
        found = found or _from_body(prompt, name, source, tries)
    if found is None:
        return None
    try:
        future = [node for node in found if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        head, code = (
            ast.unparse(ast.Module([*nodes], [])) for nodes in (future, [n for n in found if n not in future])
        )
    except RecursionError:
        return None
    return f"{head}\n{prompt.rstrip()}\n    pass\n\n{code}\n"


class _Tries:
    """Parses the longest beginning of lines that is Python; no more than `_MOST_TRIES` times an answer, nor more than
    `_MOST_PARSED` characters in all."""

    def __init__(self) -> None:
        self.left, self._characters = _MOST_TRIES, _MOST_PARSED

    def longest(self, lines: Sequence[str]) -> tuple[ast.Module | None, int]:
        """The tree and how many lines it took. An error's line says where to cut."""
        end = len(lines)
        while end > 0 and self.left > 0:
            source = "\n".join(lines[:end])
            self.left, self._characters = self.left - 1, self._characters - len(source)
            if self._characters < 0:
                self.left = 0
            try:
                return parse(source), end
            except SyntaxError as error:
                end = min(end, error.lineno or end) - 1
            except (ValueError, RecursionError, MemoryError):
                break
        return None, 0

    def segments(self, text: str) -> Iterator[ast.Module]:
        """The stretches of Python in a text, in order."""
        lines = text.split("\n")
        place = 0
        while place < len(lines) and self.left > 0:
            indent = len(lines[place]) - len(lines[place].lstrip())
            used = 0
            if _CODE_START.match(lines[place]):
                rest = [line[min(indent, len(line) - len(line.lstrip())) :] for line in lines[place:]]
                tree, used = self.longest(rest)
                if tree is not None:
                    yield tree
            place += used or 1


def _whole(segments: Sequence[ast.Module], name: str) -> list[ast.stmt] | None:
    """The first segment with the whole function, and what it needs of it and of the others."""
    main = next((tree for tree in segments if _body_lines(tree, name)), None)
    if main is None:
        return None
    own = {found for node in main.body for found in _bound(node)}
    others = [node for tree in segments if tree is not main for node in tree.body if not _bound(node) & own]
    return _needed([*others, *main.body], name)


def _from_body(prompt: str, name: str, text: str, tries: _Tries) -> list[ast.stmt] | None:
    """The answer goes on where the prompt ends. Its first line, or all, may have lost their indentation, and prose may
    stand before it: the reading counts that gives the function most lines."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("```")]
    while lines and not lines[0].strip():
        lines.pop(0)
    if not lines:
        return None
    first_indented = next((place for place, line in enumerate(lines) if re.match(r"[ \t]+\S", line)), len(lines))
    readings = []
    if not any(map(_BLOCK_START.match, lines[:first_indented])):  # else it is the inside of something else
        readings.append(lines[first_indented:])
    if first_indented:
        readings += [["    " + lines[0], *lines[1:]], textwrap.indent("\n".join(lines), "    ").split("\n")]
    head = prompt.rstrip().split("\n")
    trees = [tries.longest([*head, *reading])[0] for reading in readings]
    best = max((tree for tree in trees if tree), key=lambda tree: _body_lines(tree, name), default=None)
    return _needed(best.body, name) if best and _body_lines(best, name) else None


def _body_lines(tree: ast.Module, name: str) -> int:
    """How many lines the function `name` has, 0 where there is none, or its head alone."""
    for node in reversed(tree.body):
        if isinstance(node, _FUNCTION) and node.name == name:
            if not all(map(_says_nothing, node.body)):
                return (node.end_lineno or node.lineno) - node.lineno + 1
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and name in _bound(node):
            return 1
    return 0


def _says_nothing(node: ast.stmt) -> bool:
    """A docstring, `pass` and the like, and what only defines something."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant | ast.Name)
    return isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom, ast.ClassDef, *_FUNCTION))


def _needed(statements: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """Those that bind `name` or, in turn, what they use; not a head without a body, nor what runs only as a script."""
    wanted, kept = {name, "*"}, set[int]()
    usable = [
        node
        for node in statements
        if not (isinstance(node, _FUNCTION) and node.name == name and all(map(_says_nothing, node.body)))
        and not (isinstance(node, ast.If) and "__name__" in _loaded(node.test))
    ]
    while more := [place for place, node in enumerate(usable) if place not in kept and _bound(node) & wanted]:
        for place in more:
            kept.add(place)
            wanted |= _loaded(usable[place])
    return [usable[place] for place in sorted(kept)]


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of the top level gives a value, or changes."""
    if isinstance(statement, (*_FUNCTION, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
        return {"*"}
    found = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, (*_FUNCTION, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    return found


def _loaded(statement: ast.AST) -> set[str]:
    """The names that a statement uses, but for a function's own."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    if isinstance(statement, _FUNCTION):
        inside = ast.walk(statement)
        used -= {node.arg for node in inside if isinstance(node, ast.arg)}
        used -= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return used
