"""The table of what each arm forgot: a row for each forgotten task and arm, with the example of verdict.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from .findings import Findings, JsonRow

Answered = Mapping[str, Sequence[str]]
"""The runs with answers on file, by task."""


def forgotten_rows(findings: Findings, verdict: JsonRow, answered: Answered) -> list[dict[str, Any]]:
    """A row for each task that an arm forgot, targets first: the change against the seed, the number of items lost, the
    example (None if the verdict has none), and the selection of answers.html that shows these items."""
    found = (verdict.get("items_changed") or {}).get("examples", [])
    examples = {(each["task"], each["arm"]): each for each in found}
    return [
        {
            "task": task["task"],
            "arm": arm,
            "change": change,
            "lost": change["lost"],
            "example": examples.get((task["task"], arm)),
            "answers": lost_items(task["task"], arm, answered),
        }
        for task in findings.tasks
        for arm in findings.arms
        if (change := findings.change(task, arm)) and change["word"] == "forgot"
    ]


def lost_items(task: str, arm: str, answered: Answered) -> str:
    """The address, after the #, of the items that the arm's first run lost in answers.html; empty without answers."""
    run = run_with_answers(task, arm, answered)
    return urlencode({"task": task, "filter": f"lost:{run}"}) if run else ""


def run_with_answers(task: str, arm: str, answered: Answered) -> str | None:
    """The first run of the arm with answers to the task. An arm with several training seeds has the runs arm@seed."""
    return next((run for run in answered.get(task, ()) if run == arm or run.startswith(f"{arm}@")), None)
