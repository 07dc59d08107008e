"""The function that an answer presents, cut out of the prose, fences and examples around it. Nothing is run."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from .programs import parse

_OPENING = re.compile(r"(?<!`)(`{3,}+)[^\n`]*+\n")
_CODE_START = re.compile(r"[ \t]*(?:async def |def |class |import |from |@|try:|if |[A-Za-z_]\w*[^=\n]{0,80}=[^=])")
_BLOCK_START = re.compile(r"[ \t]*(?:async |def |class |for |while |if |with |try:|@)")
_MOST_CHARACTERS = 50_000
_MOST_TRIES, _MOST_PARSED = 200, 1_000_000
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def complete_function(prompt: str, name: str, answer: str) -> str | None:
    """A program: `prompt`, which ends with the head of the function `name`, followed by the function that the answer
    presents. None if the answer presents no function.

    The last complete definition in the answer decides, so a final version replaces a draft, in any block. A head
    without a body is not a definition. A definition that may be cut off (its body continues with text that does not
    parse, or it reaches the end of a block whose fence is never closed) counts only if there is no complete definition.
    Without any definition, the answer is read as the function's body, which follows the prompt; then the last block
    with a `return` decides.

    The program also contains the imports, helpers and constants that the function needs, from every block. If several
    helpers share a name, the helper in the function's own block counts, else the last one. Examples are left out.
    """
    text = answer[:_MOST_CHARACTERS].replace("\0", "").replace("\r\n", "\n")
    tries = _Tries()
    found = (
        _whole(_segments(text, tries), name)
        or _whole(list(tries.segments(text, unclosed=False)), name)  # a docstring may hold what looks like a fence
        or _from_body(prompt, name, text, tries)
    )
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


def helpers(prompt: str, name: str, tests: str) -> str:
    """The imports and functions of `prompt` that `tests` use, except the function `name` itself. The whole prompt would
    work too, but takes longer to run than most tests."""
    try:
        statements = parse(f"{prompt.rstrip()}\n    pass\n").body
        return ast.unparse(ast.Module(_needed(statements, name, _loaded(parse(tests)) - {name}), []))
    except (SyntaxError, ValueError, RecursionError):
        return f"{prompt.rstrip()}\n    pass\n"


@dataclass(frozen=True)
class _Segment:
    """A stretch of Python in an answer. `cut`: the last statement may be incomplete."""

    tree: ast.Module
    cut: bool


def _segments(text: str, tries: _Tries) -> list[_Segment]:
    """The stretches of Python in an answer, in order. The search starts at the end of the answer, so that the limit on
    tries can only lose drafts."""
    found = list[_Segment]()
    for piece in reversed(_pieces(text)):
        found = [*tries.segments(piece.text, piece.unclosed), *found]
    return found


@dataclass(frozen=True)
class _Piece:
    """A part of an answer: the content of a fenced block, or the text before, between or after the blocks."""

    text: str
    fenced: bool = False
    unclosed: bool = False


def _pieces(text: str) -> list[_Piece]:
    """The blocks of an answer and the text around them, in order. The last fence on a line closes a block if it is not
    indented more than the opening fence, or if it follows code; any other fence belongs to a docstring."""
    pieces, place = list[_Piece](), 0
    while opening := _OPENING.search(text, place):
        column = opening.start() - (text.rfind("\n", 0, opening.start()) + 1)
        before = rf"^(?:[ \t]{{0,{column}}}|[ \t]*[^`\s][^`\n]*)"
        closing = re.compile(f"({before}){opening[1]}`*+(?![^\n]*```)", re.MULTILINE).search(text, opening.end())
        end = closing.end(1) if closing else len(text)
        pieces += [_Piece(text[place : opening.start()]), _Piece(text[opening.end() : end], True, closing is None)]
        place = closing.end() if closing else end
    return [*pieces, _Piece(text[place:])]


class _Tries:
    """Finds the longest prefix of some lines that parses as Python, with at most `_MOST_TRIES` tries and `_MOST_PARSED`
    characters per answer."""

    def __init__(self) -> None:
        self.left, self._characters = _MOST_TRIES, _MOST_PARSED

    def longest(self, lines: Sequence[str]) -> tuple[ast.Module | None, int]:
        """The tree of the prefix and its number of lines. The line of a syntax error is where the next try ends."""
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

    def segments(self, text: str, unclosed: bool) -> Iterator[_Segment]:
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
                    left = next((line for line in rest[used:] if line.strip()), None)
                    cut = unclosed if left is None else left[0].isspace()
                    if cut and len(tree.body) > 1:
                        yield _Segment(ast.Module(tree.body[:-1], []), cut=False)
                    yield _Segment(ast.Module(tree.body[-1:], []) if cut else tree, cut)
            place += used or 1


def _whole(segments: Sequence[_Segment], name: str) -> list[ast.stmt] | None:
    """The segment with the last complete definition, and the code of all segments that it needs."""
    holding = [segment for segment in segments if _body_lines(segment.tree, name)]
    if not holding:
        return None
    main = ([segment for segment in holding if not segment.cut] or holding)[-1].tree
    own = {found for node in main.body for found in _given(node)}
    others = [n for s in segments if s.tree is not main for n in s.tree.body if not (_given(n) | _changed(n)) & own]
    return _needed([*others, *main.body], name)


def _from_body(prompt: str, name: str, text: str, tries: _Tries) -> list[ast.stmt] | None:
    """The function, if the answer is only its body: from the last block that returns something, else the last block."""
    blocks = [piece.text for piece in _pieces(text) if piece.fenced]
    found = [tree for source in (*blocks[::-1], text) if (tree := _continued(prompt, name, source, tries))]
    best = next((tree for tree in found if _returns(tree, name)), found[0] if found else None)
    return _needed(best.body, name) if best else None


def _returns(tree: ast.Module, name: str) -> bool:
    wanted = (ast.Return, ast.Yield, ast.YieldFrom, ast.Raise)
    functions = [node for node in tree.body if isinstance(node, _FUNCTION) and node.name == name]
    return any(isinstance(inner, wanted) for node in functions for inner in ast.walk(node))


def _continued(prompt: str, name: str, text: str, tries: _Tries) -> ast.Module | None:
    """The prompt, continued by a text. The first line of the text, or all lines, may have lost their indentation, and
    prose may precede the code: the reading with the most lines in the function counts."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("```")]
    while lines and not lines[0].strip():
        lines.pop(0)
    if not lines:
        return None
    first_indented = next((place for place, line in enumerate(lines) if re.match(r"[ \t]+\S", line)), len(lines))
    readings = []
    if not any(map(_BLOCK_START.match, lines[:first_indented])):  # else the indented lines belong to another block
        readings.append(lines[first_indented:])
    if first_indented:
        readings += [["    " + lines[0], *lines[1:]], textwrap.indent("\n".join(lines), "    ").split("\n")]
    head = prompt.rstrip().split("\n")
    trees = [tries.longest([*head, *reading])[0] for reading in readings]
    best = max((tree for tree in trees if tree), key=lambda tree: _body_lines(tree, name), default=None)
    return best if best and _body_lines(best, name) else None


def _body_lines(tree: ast.Module, name: str) -> int:
    """How many lines the function `name` has, 0 if there is none, or only its head."""
    known = {n for s in tree.body if isinstance(s, (*_FUNCTION, ast.Import, ast.ImportFrom)) for n in _given(s)}
    inside = [ast.iter_child_nodes(s) if isinstance(s, ast.If | ast.Try) else [s] for s in tree.body]
    for node in reversed([node for nodes in inside for node in nodes]):
        if isinstance(node, _FUNCTION) and node.name == name:
            if not all(map(_says_nothing, node.body)):
                return (node.end_lineno or node.lineno) - node.lineno + 1
        elif isinstance(node, ast.Assign) and name in _given(node):
            another = isinstance(node.value, ast.Name | ast.Attribute) and _loaded(node.value) <= known - {name}
            if another or isinstance(node.value, ast.Lambda):
                return 1
    return 0


def _says_nothing(node: ast.stmt) -> bool:
    """A docstring, `pass`, `return ...`, `raise NotImplementedError`, or a statement that only defines something."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant | ast.Name)
    if isinstance(node, ast.Return):
        return isinstance(node.value, ast.Constant) and node.value.value is ...
    if isinstance(node, ast.Raise):
        return node.exc is not None and "NotImplementedError" in _loaded(node.exc)
    return isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom, ast.ClassDef, *_FUNCTION))


def _needed(statements: Sequence[ast.stmt], name: str, names: Set[str] | None = None) -> list[ast.stmt]:
    """The statements that assign or change one of `names` (by default `name`), and recursively the statements that
    assign or change a name that they use. Left out are heads of the function `name` without a body, and code that only
    runs as a script, such as calls of the function."""
    wanted, kept = {"*", *({name} if names is None else names)}, set[int]()
    usable = [
        node
        for node in statements
        if not (isinstance(node, _FUNCTION) and node.name == name and all(map(_says_nothing, node.body)))
        and not (isinstance(node, ast.If) and "__name__" in _loaded(node.test))
        and not (isinstance(node, ast.Expr) and {name, "sys"} & _loaded(node))  # `sys.exit()` would end the tests
    ]
    by_call = {f.name: _changed(f, inside=True) for f in usable if isinstance(f, _FUNCTION) and name not in _loaded(f)}
    bound = [_given(node) | _changed(node) | by_call.get(_called(node), set()) for node in usable]
    while more := [place for place, names in enumerate(bound) if place not in kept and names & wanted]:
        for place in more:
            kept.add(place)
            wanted |= _loaded(usable[place])
    return [usable[place] for place in sorted(kept)]


def _given(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement assigns."""
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
    return found


def _changed(statement: ast.stmt, *, inside: bool = False) -> set[str]:
    """The names whose value a statement changes, by setting a part of the value or calling one of its methods. A
    definition changes nothing; with `inside`, returns the names that a call of the function would change."""
    if isinstance(statement, (*_FUNCTION, ast.ClassDef)) and not inside:
        return set()
    found = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.Global):
            found |= set(node.names)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found |= _loaded(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            method = node.value.func
            found |= _loaded(method.value) if isinstance(method, ast.Attribute) else set()
    return found


def _called(statement: ast.stmt) -> str:
    """The name of the function if the statement is only a call of a function, else ""."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""


def _loaded(statement: ast.AST) -> set[str]:
    """The names that a statement uses, except a function's own arguments and variables."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    if isinstance(statement, _FUNCTION):
        inside = ast.walk(statement)
        used -= {node.arg for node in inside if isinstance(node, ast.arg)}
        used -= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return used
