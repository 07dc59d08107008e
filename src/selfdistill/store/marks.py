"""rewrite/marks.jsonl: what a person decided about single rewrites. The file is only appended to, by the workbench or
by hand; the last line about a row holds. docs/workbench.md describes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ExperimentError
from ..types import content_id
from ..types.wording import counted
from .manifest import read_manifest

MARKS = "rewrite/marks.jsonl"
REWRITES = "rewrite/rewrites.jsonl"
MARKED = "rewrite/marked-rewrites.jsonl"
Choice = Literal["good", "original", "edit", "none"]


@dataclass(frozen=True)
class HandMark:
    """A decision about one row: `good` accepts its rewrite, `original` trains on the original, `edit` on `text`."""

    choice: Choice
    text: str = ""


def read_marks(directory: Path) -> dict[str, HandMark]:
    """The marks of an experiment by row id, without those that were taken back; empty without a file. Raises
    ExperimentError that names a line which is not a mark."""
    path, found = directory / MARKS, dict[str, HandMark]()
    try:
        text = path.read_text(encoding="utf-8", errors="surrogatepass")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} can't be read ({error}); fix it and run the command again.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row_id, mark = _parse(line)
            except ValueError as error:
                raise ExperimentError(
                    f"{path} line {number} is not a mark: {error}. Fix or delete the line, and run the command again."
                ) from None
            found[row_id] = mark
    return {row_id: mark for row_id, mark in found.items() if mark.choice != "none"}


@dataclass(frozen=True)
class MarkedRewrites:
    """The rewrites of an experiment as a run decided them. `path`: their file, with the marks applied if any were used.
    `counts`: the rows that were decided by hand, by decision. `outdated`: whether marks were given or taken back
    since."""

    path: Path
    counts: Mapping[str, int] = field(default_factory=dict)
    outdated: bool = False


def marked_rewrites(directory: Path) -> MarkedRewrites:
    """The rewrites with the marks that the arms were trained with, or will be if none is trained. Raises
    ExperimentError if the marks can't be read."""
    marks = read_marks(directory)
    if not marks and not (directory / MARKED).is_file():
        return MarkedRewrites(directory / REWRITES)
    stages = (read_manifest(directory / "manifest.json") or {}).get("stages", {})
    record = stages.get("choose/marked-rewrites", {})
    latest = marks_id(marks) if marks else None
    written = record["settings"].get("marks") if "finished" in record and (directory / MARKED).is_file() else None
    trained = {own["settings"].get("marks") for name, own in stages.items() if name.startswith("train/")}
    if written is None or written not in {latest, *trained}:
        return MarkedRewrites(directory / REWRITES, outdated=latest is not None)
    return MarkedRewrites(directory / MARKED, record["counts"].get("by_hand", {}), written != latest)


def _parse(line: str) -> tuple[str, HandMark]:
    """The row id and the mark of a line. Raises ValueError."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not (isinstance(row, dict) and isinstance(row.get("id"), str)):
        raise ValueError('it needs the key "id", the id of a row in rewrites.jsonl')  # noqa: TRY004
    choice: Any = row.get("mark")
    text = row.get("text", "")
    if choice not in get_args(Choice):
        raise ValueError(f'"mark" must be one of {", ".join(get_args(Choice))}')
    if choice == "edit" and not (isinstance(text, str) and text.strip()):
        raise ValueError('an edit needs the key "text", the response to train on')
    return row["id"], HandMark(choice, text if choice == "edit" else "")


def append_mark(directory: Path, row_id: str, mark: HandMark) -> None:
    """Appends a mark as one write, so that two processes don't mix their lines."""
    path = directory / MARKS
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"id": row_id, "mark": mark.choice, **({"text": mark.text} if mark.choice == "edit" else {})}
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        file.write(line if file.read(1) in (b"", b"\n") else b"\n" + line)
        os.fsync(file.fileno())


def marks_id(marks: Mapping[str, HandMark]) -> str:
    """A short text that changes when a mark does."""
    return content_id(sorted([row_id, mark.choice, mark.text] for row_id, mark in marks.items()))


def marks_counts(choices: Mapping[str, int]) -> str:
    """For example "3 rows by hand: 2 originals, 1 edit"."""
    words = {"original": "original", "edit": "edit", "good": "rewrite"}
    parts = [counted(choices[name], word) for name, word in words.items() if choices.get(name)]
    return f"{counted(sum(choices.get(name, 0) for name in words), 'row')} by hand: {', '.join(parts)}"
