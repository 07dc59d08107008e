"""verdict.json put in the order in which it is told: targets first, each arm against the seed, then arm against arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from ..measure.comparisons import during, scope
from .text import percent, points

Row = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """`tasks` and `comparisons` are rows of verdict.json; `margin` is the smallest drop that matters."""

    arms: list[str]
    seed_arm: str
    tasks: list[Row]
    comparisons: list[Row]
    twins: dict[str, Row]
    margin: float = 0.05

    @classmethod
    def of(cls, verdict: Row) -> Findings:
        tasks = sorted(verdict.get("tasks", []), key=lambda task: task["role"] != "target")  # stable
        seed = verdict.get("seed_arm", "seed")
        comparisons, twins = list(verdict.get("comparisons", [])), dict(verdict.get("baseline_arms", {}))
        margin = verdict.get("margin", cls.margin)
        return cls(list(verdict.get("arms", [])), seed, tasks, comparisons, twins, margin)

    @property
    def runs(self) -> int:
        """How many training runs of each arm the comparisons are about."""
        return min((int(row.get("runs", 1)) for row in self.comparisons), default=1)

    @property
    def scope(self) -> str:
        return scope(self.runs)

    def change(self, task: Row, arm: str) -> Row | None:
        """The comparison of an arm with the seed on a task."""
        found = (row for row in self.comparisons if (row["task"], row["arm"]) == (task["task"], arm))
        return next((row for row in found if row["against"] == self.seed_arm), None)

    def pairs(self) -> list[Row]:
        """Each trained arm that is compared with another: its rows, targets first, and how often each word was said."""
        order = {task["task"]: place for place, task in enumerate(self.tasks)}
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.comparisons:
            if row["against"] != self.seed_arm:
                groups.setdefault((row["arm"], row["against"]), []).append(row)
        return [
            {
                "arm": arm,
                "against": against,
                "equal": self.twins.get(arm, {}).get("equal", True),
                "rows": sorted(rows, key=lambda row: order.get(row["task"], len(order))),
                "words": dict(Counter(row["word"] for row in rows).most_common()),
            }
            for (arm, against), rows in groups.items()
        ]

    def by_seed(self) -> list[Row]:
        """Of each arm that was trained with several seeds its value a run, their mean and standard deviation."""
        rows = []
        for task in self.tasks:
            for arm, runs in task.get("runs", {}).items():
                known = [value for value in runs.values() if value is not None]
                mean = fmean(known) if known else None
                spread = stdev(known) if len(known) > 1 else None
                values = list(runs.values())
                rows.append({"task": task["task"], "arm": arm, "runs": values, "mean": mean, "spread": spread})
        return rows

    def glance(self, shared_by: Sequence[str] = ()) -> list[Row]:
        """Of each compared arm its change on the targets, and what became of the other tasks: word → task names. Of
        arms that are told together, `shared_by`, only the tasks that all of them are evaluated on."""
        rows = []
        tasks = [task for task in self.tasks if all(self.change(task, arm) for arm in shared_by)]
        for arm in shared_by or self.arms:
            changes = [(task, row) for task in tasks if (row := self.change(task, arm))]
            others: dict[str, list[str]] = {}
            for word in ("forgot", "can't tell", "kept", "gained"):
                names = [task["task"] for task, row in changes if task["role"] != "target" and row["word"] == word]
                others |= {word: names} if names else {}
            targets = [row for task, row in changes if task["role"] == "target"]
            if changes:
                moves = [row["difference"] for task, row in changes if task["role"] != "target"]
                mean = sum(moves) / len(moves) if moves else None
                rows.append({"arm": arm, "targets": targets, "others": others, "total": len(moves), "mean": mean})
        return rows

    def headline(self) -> str:
        """The verdict in a sentence or two: of the first arm on rewrites and its twin on the originals, equal but for
        the data, or of the first two arms where there are no such twins."""
        compared = [row["arm"] for row in self.glance()]
        equal = ((pair["against"], pair["arm"]) for pair in self.pairs() if pair["equal"])
        arms = [arm for arm in next(equal, tuple(compared)[:2]) if arm in compared]
        told = self.glance(arms)
        if not told:
            return ""
        targets = dict.fromkeys(change["task"] for row in told for change in row["targets"])
        runs = during(self.runs)
        sentences = [f"{_on_target(told, task, self.margin)} {runs}." for task in targets]
        if total := max(row["total"] for row in told):
            said = " and ".join(f"{row['arm']} forgot {_forgotten(row)}" for row in told)
            others = "task" if total == 1 else "tasks"
            sentences.insert(0, f"Of {total} other {others}{' so far' if self._partly(arms) else ''}, {said} {runs}.")
        return " ".join(sentences)

    def _partly(self, arms: Sequence[str]) -> bool:
        """Whether a task that one of the arms is evaluated on is still missing in another."""
        found = [sum(self.change(task, arm) is not None for arm in arms) for task in self.tasks]
        return any(0 < count < len(arms) for count in found)


def _forgotten(row: Row) -> str:
    """How many other tasks an arm forgot, and what it cost: a small loss and a collapse are both a loss."""
    count, unclear = len(row["others"].get("forgot", [])), len(row["others"].get("can't tell", []))
    notes = [f"{unclear} can't tell"] if unclear else []
    if row["mean"] is not None:
        notes.append(f"{points(row['mean'])} points on average")
    return str(count or "none") + (f" ({', '.join(notes)})" if notes else "")


def _on_target(told: list[Row], task: str, margin: float) -> str:
    changes = [(row["arm"], change) for row in told for change in row["targets"] if change["task"] == task]
    return f"On {task}, {' and '.join(f'{arm} {_moved(change, margin)}' for arm, change in changes)}"


def _moved(change: Row, margin: float) -> str:
    size = points(change["difference"])
    return {
        "gained": f"gained {size[1:]} points",
        "forgot": f"lost {size[1:]} points",
        "kept": f"did not lose {percent(margin).removesuffix('.0')} points or more ({size})",
    }.get(change["word"], f"moved by {size} (can't tell)")
