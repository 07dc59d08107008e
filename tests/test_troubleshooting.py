"""docs/troubleshooting.md: every message that it quotes is a message of the source."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [row.strip("… ") for row in re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)]


def text(node: ast.AST) -> str:
    """A string of the source as the page quotes it, with `…` for each value."""
    match node:
        case ast.Constant(value=str(value)):
            return value.replace("%s", "…")  # a warning
        case ast.JoinedStr(values=values):
            return "".join(text(value) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text(left) + text(right)
    return "…"


@cache
def strings() -> str:
    files = (ROOT / "src" / "selfdistill").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return "\n".join(text(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp))


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_occurs_in_the_source(message: str) -> None:
    assert message in strings(), f"docs/troubleshooting.md quotes {message!r}, which no message of the source holds"


def test_the_page_quotes_enough_of_each_message_to_find_it() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| message")]
    assert len(rows) == len(MESSAGES) == len(set(MESSAGES))
    assert all(len(message.replace("…", "")) > 9 for message in MESSAGES)
