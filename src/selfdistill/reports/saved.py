"""Reads the files of an experiment's directory for the report. Any of them may be missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from ..recipe.plain_yaml import parse_yaml, plain
from ..store.marks import REWRITES
from ..store.rows import parse_line
from .text import visible, visible_json

GAP = Path("rewrite", "gap.jsonl")


@dataclass(frozen=True)
class Saved:
    """The small files of an experiment. Every string is already `visible`.

    `training` maps each trained run to the rows of its train.jsonl by step. `gap` lists (mean negative log-likelihood
    per token, tokens) of the responses before and after rewriting. `shift` holds shift/RUN.json by run.
    """

    name: str
    recipe_text: str | None
    recipe: dict[str, Any]
    manifest: dict[str, Any]
    verdict: dict[str, Any]
    training: dict[str, list[dict[str, Any]]]
    gap: dict[str, list[tuple[float, int]]]
    shift: dict[str, dict[str, Any]]


def read_experiment(directory: Path) -> Saved:
    """Reads `directory`. Raises ExperimentError if it holds no experiment or a damaged file."""
    found = [directory / name for name in ("recipe.yaml", "manifest.json", "verdict.json", REWRITES)]
    if not any(path.is_file() for path in found):
        raise ExperimentError(f"{directory} holds no experiment; name the directory that `selfdistill run` wrote.")
    recipe_path = directory / "recipe.yaml"
    recipe_text = recipe_path.read_text(encoding="utf-8", errors="replace") if recipe_path.is_file() else None
    try:
        recipe = plain(parse_yaml(recipe_text or "")) or {}
    except ValueError:
        recipe = {}  # the page shows the text without a table of settings
    verdict = _read_json(directory / "verdict.json")
    shift = {visible(path.stem): _read_json(path) for path in sorted(directory.glob("shift/*.json"))}
    return Saved(
        name=visible(directory.resolve().name),
        recipe_text=None if recipe_text is None else visible(recipe_text),
        recipe=visible_json(recipe) if isinstance(recipe, dict) else {},
        manifest=_read_json(directory / "manifest.json"),
        verdict=verdict,
        training={visible(path.parent.name): _read_log(path) for path in sorted(directory.glob("arms/*/train.jsonl"))},
        gap=_read_gap(directory / GAP),
        # A file that the verdict does not list belongs to an arm that the recipe no longer has.
        shift={run: shift.get(run, row) for run, row in verdict.get("shift", shift).items()},
    )


def read_verdict(directory: Path) -> dict[str, Any]:
    """verdict.json as it is on file, empty if there is none. Raises ExperimentError if it is damaged."""
    return _load_json(directory / "verdict.json")


def read_lines(path: Path) -> Iterator[tuple[int, int, int, dict[str, Any] | None]]:
    """Streams a JSONL file as (line number from 1, byte offset, bytes, row). The row of a damaged line is None; the
    last line may be damaged after a kill."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = parse_line(line)
            except ValueError:
                row = None
            yield number, offset, len(line), row if isinstance(row, dict) else None
            offset += len(line)


def _read_json(path: Path) -> dict[str, Any]:
    shown: dict[str, Any] = visible_json(_load_json(path))
    return shown


def _load_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ExperimentError(f"{path} is damaged ({error}); write it again with `selfdistill run`.") from None
    if not isinstance(value, dict):
        raise ExperimentError(f"{path} is damaged (it holds no JSON object); write it again with `selfdistill run`.")
    return value


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The last row of each step with a finite loss. A resumed run writes the steps since its checkpoint a second
    time."""
    rows = {
        row["step"]: row
        for *_, row in read_lines(path)
        if row and isinstance(row.get("loss"), int | float) and math.isfinite(row["loss"]) and "step" in row
    }
    return [rows[step] for step in sorted(rows)]


def _read_gap(path: Path) -> dict[str, list[tuple[float, int]]]:
    """The scores of the originals and of the responses that SDFT trains on, without damaged rows."""
    found: dict[str, list[tuple[float, int]]] = {"original": [], "rewritten": []}
    for *_, row in read_lines(path) if path.is_file() else ():
        sides = row or {}
        for name, side in (("original", "original"), ("rewritten", sides.get("chosen"))):
            score = sides.get(side) if isinstance(side, str) else None
            nll = score.get("nll") if isinstance(score, dict) else None
            if isinstance(score, dict) and isinstance(nll, int | float) and math.isfinite(nll):
                found[name].append((float(nll), int(score.get("tokens") or 0)))
    return found
