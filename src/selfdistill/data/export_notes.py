"""What a user of exported training data has to know about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..store.manifest import ManifestFile
from ..types.wording import counted
from . import data_notes


def left_out(directory: Path, thinks: bool) -> Iterator[str]:
    """Rows and turns of the source that no arm trains on, and the reasoning of rows unless the exported rows have think
    blocks (`thinks`)."""
    counts = ManifestFile(directory).read().get("stages", {}).get("data", {}).get("counts", {})
    told = ("bad", "contaminated", "untrained", *(() if thinks else ("reasoning",)))
    left_out: dict[str, Any] = {name: counts.get(name) for name in told}
    if dropped := counts.get("dropped", 0):
        left_out |= {name: counts[name] for name in ("near_duplicates", "near_pair", "dropped")}
    yield from data_notes(left_out, str(directory / "data" / "bad_rows.jsonl"))
    apart = counts.get("heldout", 0) + counts.get("contaminated", 0) + dropped
    if undrawn := counts.get("rows", 0) - counts.get("train", 0) - apart:
        yield f"Not drawn (data.n), and not exported: {counted(undrawn, 'row')}."
    if held := counts.get("heldout"):
        yield f"Held out, and not exported: {counted(held, 'row')}, in {directory / 'data' / 'heldout.jsonl'}."
