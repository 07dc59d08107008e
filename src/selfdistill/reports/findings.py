"""The numbers of verdict.json in the order of the report: targets first, each arm against the seed, then arm against
arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, stdev
from typing import Any

from ..measure.scores import IN_ALL_RUNS
from .text import scope

JsonRow = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """`tasks`, `comparisons`, `mean_changes` and `losses` (held-out loss) are rows of verdict.json; `margin` is the
    smallest drop that matters."""

    arms: list[str]
    seed_arm: str
    tasks: list[JsonRow]
    comparisons: list[JsonRow]
    baseline_arms: dict[str, JsonRow]
    margin: float
    losses: list[JsonRow]
    mean_changes: list[JsonRow]
    ended_at: str = ""
    """The look of a gate that ended early, such as "look 1 of 3"."""

    @classmethod
    def of(cls, verdict: JsonRow) -> Findings:
        """Reads a verdict; one that is not written yet is an empty dict."""
        gate = verdict.get("gate") or {}
        return cls(
            arms=list(verdict.get("arms", [])),
            seed_arm=verdict.get("seed_arm", "seed"),
            tasks=sorted(verdict.get("tasks", []), key=lambda task: task["role"] != "target"),  # stable
            comparisons=list(verdict.get("comparisons", [])),
            baseline_arms=dict(verdict.get("baseline_arms", {})),
            margin=verdict.get("margin", 0.05),
            losses=list(verdict.get("heldout_loss", [])),
            mean_changes=list(verdict.get("mean_changes", [])),
            ended_at=f"look {len(gate['looks'])} of {len(gate['looks_planned'])}" if gate.get("ended_early") else "",
        )

    @property
    def runs(self) -> int:
        """The number of training runs of each arm that the comparisons cover; 0 if all arms are checkpoints."""
        losses = (row for each in self.losses for row in each["comparisons"])
        runs = [row["runs"] for row in chain(self.comparisons, losses)]
        return min((count for count in runs if count), default=0 if runs else 1)

    @property
    def scope(self) -> str:
        return scope(self.runs)

    def change(self, task: JsonRow, arm: str) -> JsonRow | None:
        """The comparison of an arm with the seed on a task."""
        wanted = (task["task"], arm, self.seed_arm)
        found = (row for row in self.comparisons if (row["task"], row["arm"], row["against"]) == wanted)
        return next(found, None)

    def mean_change(self, arm: str, against: str) -> JsonRow | None:
        """The mean change of an arm against another over the other tasks."""
        return next((row for row in self.mean_changes if (row["arm"], row["against"]) == (arm, against)), None)

    def score_items(self, task: JsonRow, arm: str) -> int | None:
        """The items of an arm's score; None if all scores and changes against the seed on the task are over equally
        many items."""
        sizes = {name: judged_items(score, task["runs"].get(name, ())) for name, score in task["scores"].items()}
        wanted = (task["task"], self.seed_arm)
        compared = {row["n"] for row in self.comparisons if (row["task"], row["against"]) == wanted}
        return sizes.get(arm) if compared and len(compared | {*sizes.values()}) > 1 else None

    def loss_change(self, arm: str) -> JsonRow | None:
        """The comparison of an arm's held-out loss with the seed's."""
        found = (row for each in self.losses for row in each["comparisons"])
        return next((row for row in found if (row["arm"], row["against"]) == (arm, self.seed_arm)), None)

    def pairs(self) -> list[JsonRow]:
        """Each arm that is compared with its baseline arm: the rows, targets first, and how often each word occurs."""
        order = {task["task"]: place for place, task in enumerate(self.tasks)}
        groups: dict[tuple[str, str], list[JsonRow]] = {}
        for row in self.comparisons:
            if row["against"] != self.seed_arm:
                groups.setdefault((row["arm"], row["against"]), []).append(row)
        return [
            {
                "arm": arm,
                "against": against,
                "equal": self.baseline_arms[arm]["equal"],
                "rows": sorted(rows, key=lambda row: order.get(row["task"], len(order))),
                "words": dict(Counter(row["word"] for row in rows).most_common()),
            }
            for (arm, against), rows in groups.items()
        ]

    def headline_arms(self) -> list[str]:
        """The first arm that differs from its baseline arm only in its data, and in own think traces if the model
        thinks, after that baseline arm; if there is no such pair, the first two arms that were compared with the
        seed."""
        compared = [arm for arm in self.arms if self.loss_change(arm) or self.glance([arm])]
        equal = (
            (pair["against"], pair["arm"])
            for pair in self.pairs()
            if pair["equal"] or self.baseline_arms[pair["arm"]].get("own_traces")
        )
        return [arm for arm in next(equal, tuple(compared)[:2]) if arm in compared]

    def by_seed(self) -> list[JsonRow]:
        """For each task and each arm that was trained with several seeds: the score of each run, their mean and
        standard deviation."""
        rows = []
        for task in self.tasks:
            for arm, runs in task["runs"].items():
                known = [value for value in runs.values() if value is not None]
                mean = fmean(known) if known else None
                spread = stdev(known) if len(known) > 1 else None
                rows.append({"task": task["task"], "arm": arm, "runs": runs.values(), "mean": mean, "spread": spread})
        return rows

    def glance(self, shared_by: Sequence[str] = ()) -> list[JsonRow]:
        """For each compared arm: its changes on the targets, and the other tasks by word (word → task names). With
        `shared_by`, only these arms on the tasks that all of them are evaluated on."""
        rows = []
        tasks = [task for task in self.tasks if all(self.change(task, arm) for arm in shared_by)]
        for arm in shared_by or self.arms:
            changes = [(task, row) for task in tasks if (row := self.change(task, arm))]
            rest = [row for task, row in changes if task["role"] != "target"]
            named = {
                word: [row["task"] for row in rest if row["word"] == word]
                for word in ("forgot", "can't tell", "not decided", "kept", "gained")
            }
            if changes:
                targets = [row for task, row in changes if task["role"] == "target"]
                others = {word: names for word, names in named.items() if names}
                mean = fmean(row["difference"] for row in rest) if rest else None
                found = self.mean_change(arm, self.seed_arm)
                span = [found["low"], found["high"]] if found and found["tasks"] == len(rest) else None
                rows.append(
                    {"arm": arm, "targets": targets, "others": others, "total": len(rest), "mean": mean, "span": span}
                )
        return rows

    def is_partial(self, arms: Sequence[str]) -> bool:
        """Whether some task is evaluated for one of the arms but not yet for another."""
        found = [sum(self.change(task, arm) is not None for arm in arms) for task in self.tasks]
        return any(0 < count < len(arms) for count in found)


def judged_items(score: JsonRow, runs: Sequence[str] | JsonRow = ()) -> int:
    """The items that a score is the mean of; with several runs those that were judged in all of them."""
    share = float(score.get("details", {}).get(IN_ALL_RUNS, 0))
    if share:
        return round(share * int(score["n"]) / max(1, len(runs)))
    left_out = score.get("unjudged", 0) + score.get("errors", 0)
    return int(score["n"]) - int(left_out)
