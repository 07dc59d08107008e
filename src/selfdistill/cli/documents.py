"""`--json`: one JSON document on stdout, everything else on stderr. docs/json.md lists the keys."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..pipeline.check import Checked

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and all other lines to stderr.")]


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Inside the block stdout is stderr if `wanted`, for libraries and child processes too."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(value: dict[str, Any]) -> None:
    """Print the document, in ASCII, so that no encoding of a terminal or pipe can break it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def checked_document(name: str, found: Checked) -> dict[str, Any]:
    """What `check` found about a recipe, or about one experiment of a file with several."""
    return {
        "name": name,
        "plan": found.plan,
        "prompts": [{"kind": kind, "text": text} for kind, text in found.prompts],
        "graded": [{"example": example.to_json(), "grade": grade.to_json()} for example, grade in found.graded],
        "warnings": found.warnings,
        "missing": found.missing,
        "unseen": found.unseen,
    }
