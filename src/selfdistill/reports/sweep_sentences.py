"""A sentence for each series of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from .findings import Findings, JsonRow
from .text import during, points


def curve_sentences(findings: Findings, sweeps: Sequence[JsonRow]) -> list[str]:
    """A sentence for each series of a sweep: at each value the mean change on the targets and on the other tasks."""

    def mean(role: str, arm: str) -> str:
        tasks = [task for task in findings.tasks if task["role"] == role]
        changes = [row["difference"] for task in tasks if (row := findings.change(task, arm))]
        return points(fmean(changes)) if changes and len(changes) == len(tasks) else "–"

    lines: dict[str, list[str]] = {}
    for point in sweeps:
        same = point["parameter"] == point["series"]
        line = point["parameter"] if same else f"{point['parameter']}, {point['series']}"
        said = f"{mean('target', point['arm'])} / {mean('other', point['arm'])}"
        if said != "– / –":
            lines.setdefault(line, []).append(f"{said} at {point['value']}")
    return [
        f"Sweep of {line}: change against the seed in points (target / mean of the other tasks), "
        f"{during(findings.runs)} per value: {', '.join(said)}."
        for line, said in lines.items()
    ]
