"""The shift of the runs in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def shift_table(shift: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each run, a column for each metric that some run has: means; their intervals are in shift/RUN.json.
    `weights` is the relative norm of their change."""
    table = Table(title="Distribution shift from the seed", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    metrics = list(dict.fromkeys(name for row in shift.values() for name in row["metrics"]))
    for name in (*metrics, "weights"):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for run, row in shift.items():
        means = [row["metrics"].get(name, {}).get("mean") for name in metrics]
        parameters = row["parameters"] or {}
        table.add_row(run, *map(_figure, [*means, parameters.get("relative")]))
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value == 0 or value >= 0.01 else f"{value:.2g}"


__all__ = ["shift_table"]
