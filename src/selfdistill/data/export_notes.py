"""What a user of exported training data has to know about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..store.manifest import ManifestFile
from . import data_notes


def left_out(directory: Path) -> Iterator[str]:
    """Rows and turns of the source that no arm trains on."""
    counts = ManifestFile(directory).read().get("stages", {}).get("data", {}).get("counts", {})
    told = ("bad", "contaminated", "untrained", "reasoning")
    left_out: dict[str, Any] = {name: counts.get(name) for name in told}
    if dropped := counts.get("dropped", 0):
        left_out |= {name: counts[name] for name in ("near_duplicates", "near_pair", "dropped")}
    yield from data_notes(left_out, str(directory / "data" / "bad_rows.jsonl"))
    apart = counts.get("heldout", 0) + counts.get("contaminated", 0) + dropped
    if undrawn := counts.get("rows", 0) - counts.get("train", 0) - apart:
        yield f"{undrawn:,} rows were not drawn (data.n), and are not exported."
    if held := counts.get("heldout"):
        yield f"{held:,} rows are held out and not exported; they are in {directory / 'data' / 'heldout.jsonl'}."


def masked_note(rows: int) -> str:
    return (
        f"{rows:,} rows have a think block that is not trained on here. Other stacks can't mask it: many templates "
        "write an empty block before such an answer and train on it. Leave these rows out, or check the labels there."
    )
