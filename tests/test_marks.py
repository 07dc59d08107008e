"""Rows that were marked by hand: what is trained, what is counted, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import read_rows, write_rows
from support.tiny import tiny_model

from selfdistill.store.marks import HandMark, append_mark, read_marks

Command = Callable[..., Done]
EDIT = "Nine and nine make eighteen.\n#### 18"


def recipe_of(folder: Path, **arms: Any) -> Path:
    """Twelve questions; the fake backend's answer to a rewriting prompt passes the grader of the first eight."""
    rows = [{"question": f"Say {n} plus {n}.", "answer": f"{n} + {n} = {2 * n}.\n#### {2 * n}"} for n in range(12)]
    recipe = {
        "model": {"path": str(tiny_model(folder / "model")), "dtype": "float32"},
        "data": {"path": str(write_rows(folder / "rows.jsonl", rows))},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
        "arms": {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}, **arms},
        "evaluate": {"backend": "fake", "tasks": []},
        "gap": False,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def rows_of(where: Path, arm: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(where / "arms" / arm / "data.jsonl")}


def test_x(tmp_path: Path, command: Command) -> None:
    recipe, where = recipe_of(tmp_path), tmp_path / "run"
    done = command("rewrite", recipe, "--dir", where)
    print(done)
    rows = read_rows(where / "rewrite" / "rewrites.jsonl")
    print(json.dumps(rows[0], indent=1), [row["source"] for row in rows], [row["grade"]["reason"] for row in rows])
    append_mark(where, rows[0]["id"], HandMark("edit", EDIT))
    append_mark(where, rows[1]["id"], HandMark("original"))
    done = command("run", recipe, "--dir", where)
    print(done.out, done.err)
    print(rows_of(where, "sdft"))
    print((where / "log.txt").read_text())
    append_mark(where, rows[1]["id"], HandMark("none"))
    done = command("run", recipe, "--dir", where)
    print(done.out, done.err)

