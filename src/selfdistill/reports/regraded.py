"""What grading the saved answers again has changed."""

from __future__ import annotations

from ..types.wording import counted
from .findings import JsonRow
from .text import percent


def regraded_sentence(before: JsonRow, after: JsonRow) -> str:
    """How many answers were graded again, and which scores changed. `before` is empty if there was no verdict."""
    old, new = _scores(before), _scores(after)
    graded = sum(score["n"] for score in new.values())
    changed = [
        f"{arm} on {task} {percent(old[task, arm]['value'])} → {percent(score['value'])}"
        for (task, arm), score in new.items()
        if (task, arm) in old and any(old[task, arm][key] != score[key] for key in ("value", "passed", "failed"))
    ]
    added = [f"{arm} on {task} is new" for task, arm in new.keys() - old.keys()]
    return f"Graded {counted(graded, 'answer')} again: {'; '.join([*changed, *sorted(added)]) or 'no score changed'}."


def _scores(verdict: JsonRow) -> dict[tuple[str, str], JsonRow]:
    return {(task["task"], arm): score for task in verdict.get("tasks", []) for arm, score in task["scores"].items()}
