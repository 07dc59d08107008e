"""How far a run is, read from the experiment's files: its stages, the time left, and the losses of each training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ..pipeline.context import Context
from ..pipeline.whole import expected_seconds, planned_stages
from ..store.stage import Stage
from ..training.log import read_log

State = Literal["finished", "running", "begun", "waiting"]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class StageLine:
    """A stage of a run: `share` of it is done, None if that is unknown; `said` is the share in words."""

    name: str
    state: State
    seconds: float | None = None
    share: float | None = None
    said: str = ""


@dataclass(frozen=True)
class Progressed:
    """All stages of a run in order. `left` are the seconds to the end, None if nothing is known of them."""

    lines: list[StageLine]
    left: float | None

    @property
    def finished(self) -> int:
        return sum(line.state == "finished" for line in self.lines)

    @property
    def is_finished(self) -> bool:
        return bool(self.lines) and self.finished == len(self.lines)


def progressed(directory: Path, context: Context, manifest: Mapping[str, Any], running: bool) -> Progressed:
    """The stages as the files have them. A stage counts as finished if it was finished with its present settings; the
    files' checksums are not compared."""
    planned, records = planned_stages(context), manifest["stages"]
    lines = [_line(directory, context, stage, records, running) for stage in planned.values()]
    after = [line.name for line in lines if line.state == "waiting"]
    left = expected_seconds(manifest, after) if running else None
    for line in lines:
        if left is not None and line.state == "running":
            left = None if line.share is None or line.seconds is None else left + _rest(line.seconds, line.share)
    return Progressed(lines, left)


def _rest(seconds: float, share: float) -> float:
    return seconds * (1 - share) / share if share > 0.02 else 0.0


def _line(directory: Path, context: Context, stage: Stage, records: Mapping[str, Any], running: bool) -> StageLine:
    record = records.get(stage.name)
    if record is None or record["fingerprint"] != stage.fingerprint:
        return StageLine(stage.name, "waiting")
    if "finished" in record:
        return StageLine(stage.name, "finished", record.get("seconds"))
    done, total, unit = _amount(directory, context, stage, records)
    share = min(done / total, 1.0) if total else None
    said = f"{done:,} of {total:,} {unit}" if total else ""
    return StageLine(stage.name, "running" if running else "begun", _since(record["started"]), share, said)


def _since(started: str) -> float:
    return max((datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds(), 0.0)


def _amount(directory: Path, context: Context, stage: Stage, records: Mapping[str, Any]) -> tuple[int, int, str]:
    """How much of a running stage is done, of how much; the whole is 0 if it is unknown."""
    kind, _, rest = stage.name.partition("/")
    if kind == "rewrite":
        return _lines_of(directory / stage.output), _count(records, "data", "train"), "rows"
    if kind == "answer":
        return _lines_of(directory / stage.output), _count(records, f"items/{rest.partition('/')[2]}", "items"), "items"
    if kind == "train" and rest in context.runs:
        rows, settings = read_log(directory / "arms" / rest / "train.jsonl"), context.runs[rest].train
        if rows and rows[-1]["epoch"] > 0:
            step = rows[-1]["step"]
            total = settings.max_steps or round(step * settings.epochs / rows[-1]["epoch"])
            return step, max(total, step), "steps"
    return 0, 0, ""


def _count(records: Mapping[str, Any], stage: str, name: str) -> int:
    return int(records.get(stage, {}).get("counts", {}).get(name) or 0)


def _lines_of(path: Path) -> int:
    count = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                count += block.count(b"\n")
    except OSError:
        return 0
    return count


def losses(directory: Path, runs: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    """Steps and losses of each of the runs whose training has begun."""
    found = {}
    for run in runs:
        rows = read_log(directory / "arms" / run / "train.jsonl")
        if points := {row["step"]: row["loss"] for row in rows if isfinite(row["loss"])}:
            found[run] = sorted(points.items())
    return found


def log_tail(directory: Path, lines: int = 12) -> list[str]:
    """The last lines of log.txt."""
    try:
        with (directory / "log.txt").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 8_000, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def headline_of(directory: Path) -> dict[str, Any]:
    """verdict.json, empty if there is none or it is being written."""
    try:
        verdict = json.loads((directory / "verdict.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return verdict if isinstance(verdict, dict) else {}


def runs_with_weights(directory: Path, context: Context) -> Iterator[str]:
    """The runs that can be asked: the seed, checkpoints, and trained runs whose weights are complete."""
    for name, run in context.runs.items():
        if run.is_seed or run.is_given or (directory / "arms" / name / "model").is_dir():
            yield name
