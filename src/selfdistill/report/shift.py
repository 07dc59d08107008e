"""The shift of the runs in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def shift_table(shift: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each metric that some run has, a column for each run: the mean with its interval or standard error."""
    table = Table(title="Distribution shift from the seed", title_justify="left")
    table.add_column("metric")
    for run in shift:
        table.add_column(run, justify="right")
    for name in dict.fromkeys(name for row in shift.values() for name in row["metrics"]):
        table.add_row(name, *(_figure(row["metrics"].get(name)) for row in shift.values()))
    for name in ("norm", "relative"):
        cells = [row["parameters"] and row["parameters"][name] for row in shift.values()]
        table.add_row(f"parameters: {name}", *("–" if cell is None else f"{cell:.4g}" for cell in cells))
    return table


def _figure(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "–"
    if metric.get("standard_error") is not None:
        return f"{metric['mean']:.4f} ± {metric['standard_error']:.4f}"
    low, high = metric.get("low"), metric.get("high")
    return f"{metric['mean']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")


__all__ = ["shift_table"]
