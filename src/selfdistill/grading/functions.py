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
    """A program: `prompt`, which ends with the head of the function `name`, and after it the function that the answer
    presents. None if there is none.

    The last complete definition in the answer decides: after a draft the final version, in whichever block it stands. A
    head without a body is not a definition. One that may be cut off (its body continues with something that does not
    parse, or it reaches the end of a block whose fence is never closed) counts only if there is no complete one.
    Without any definition, the answer is read as the function's body, which follows the prompt; then the last block
    with a `return` decides.

    The program also holds the imports, helpers and constants that the function needs, from every block. Of several
    helpers with one name, the function's own block's counts, else the last. Examples are left out.
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
    """The imports and functions of `prompt` that `tests` use, apart from the function `name` itself. All of the prompt
    would do too, but takes longer to run than most tests."""
    try:
        statements = parse(f"{prompt.rstrip()}\n    pass\n").body
        return ast.unparse(ast.Module(_needed(statements, name, _loaded(parse(tests)) - {name}), []))
    except (SyntaxError, ValueError, RecursionError):
        return f"{prompt.rstrip()}\n    pass\n"


@dataclass(frozen=True)
class _Segment:
    """A stretch of Python in an answer. `cut`: its last statement may lack its end."""

    tree: ast.Module
    cut: bool


def _segments(text: str, tries: _Tries) -> list[_Segment]:
    """The stretches of Python in an answer, in order. They are searched from its end, so that the bound on tries costs
    drafts only."""
    found = list[_Segment]()
    for piece in reversed(_pieces(text)):
        found = [*tries.segments(piece.text, piece.unclosed), *found]
    return found


@dataclass(frozen=True)
class _Piece:
    """A part of an answer: what stands in a fenced block, or what stands before, between and after the blocks."""

    text: str
    fenced: bool = False
    unclosed: bool = False


def _pieces(text: str) -> list[_Piece]:
    """The blocks of an answer and the text around them, in order. The last fence of a line closes a block if it is
    no deeper than the opening one, or stands behind code; any other belongs to a docstring."""
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
    """The function whose body the answer is: from the last block that returns something, else from the last block."""
    blocks = [piece.text for piece in _pieces(text) if piece.fenced]
    found = [tree for source in (*blocks[::-1], text) if (tree := _continued(prompt, name, source, tries))]
    best = next((tree for tree in found if _returns(tree, name)), found[0] if found else None)
    return _needed(best.body, name) if best else None


def _returns(tree: ast.Module, name: str) -> bool:
    wanted = (ast.Return, ast.Yield, ast.YieldFrom, ast.Raise)
    functions = [node for node in tree.body if isinstance(node, _FUNCTION) and node.name == name]
    return any(isinstance(inner, wanted) for node in functions for inner in ast.walk(node))


def _continued(prompt: str, name: str, text: str, tries: _Tries) -> ast.Module | None:
    """The prompt and a text that goes on where it ends. The text's first line, or all, may have lost their indentation,
    and prose may stand before it: the reading with the most lines of the function counts."""
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
    """The statements that give a value to one of `names` (by default `name`), or change it, or, in turn, a name that
    they use; without the heads of the function `name` that have no body, and without anything that runs only as a
    script, as calls that use the function do."""
    wanted, kept = {"*", *({name} if names is None else names)}, set[int]()
    usable = [
        node
        for node in statements
        if not (isinstance(node, _FUNCTION) and node.name == name and all(map(_says_nothing, node.body)))
        and not (isinstance(node, ast.If) and "__name__" in _loaded(node.test))
        and not (isinstance(node, ast.Expr) and {name, "sys"} & _loaded(node))  # `sys.exit()` would end all
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
    """The names whose value a statement changes: a part of it is set, or one of its methods called. A definition
    changes nothing; with `inside`, what a call of it would change."""
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
    """The function that a statement calls and does nothing else, or ""."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""


def _loaded(statement: ast.AST) -> set[str]:
    """The names that a statement uses, but for a function's own."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    if isinstance(statement, _FUNCTION):
        inside = ast.walk(statement)
        used -= {node.arg for node in inside if isinstance(node, ast.arg)}
        used -= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return used
