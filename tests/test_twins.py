"""Which arm on the originals an arm is compared with, and what the page says of arms that aren't all evaluated."""

from typing import Any

import pytest

from selfdistill import make_recipe
from selfdistill.pipeline.context import make_context
from selfdistill.reports.findings import Findings

SEED = {"seed": {"data": "none"}}
PAIR = {**SEED, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}}
MASK = {"mask_above": 0.9}
DFT = {"extra": {"loss_type": "dft"}}


@pytest.mark.parametrize(
    ("changes", "arm", "twin", "equal"),
    [
        ({}, "sdft", "vanilla", True),
        ({}, "vanilla", None, False),
        ({"train": MASK}, "sdft", "vanilla", True),
        ({"train": DFT}, "sdft", "vanilla", True),
        ({"arms": {**PAIR, "masked": {"data": "original", "train": MASK}}}, "masked", "vanilla", False),
        ({"arms": {**PAIR, "dft": {"data": "rewrites", "train": DFT}}}, "dft", "vanilla", False),
        ({"sweep": {"train.mask_above": [0.9]}}, "sdft.train.mask_above=0.9", "vanilla.train.mask_above=0.9", True),
        ({"sweep": {"train.mask_above": [0.9]}}, "vanilla.train.mask_above=0.9", "vanilla", False),
        ({"sweep": {"n": [4]}}, "sdft.n=4", "vanilla.n=4", True),
        ({"arms": {**PAIR, "sdft": {"data": "rewrites", "train": {"micro_batch_size": 1}}}}, "sdft", "vanilla", True),
        ({"arms": {**PAIR, "sdft": {"data": "rewrites", "n": 8}}}, "sdft", "vanilla", True),
        ({"arms": {**SEED, "none": {"data": 0}, "all": {"data": 1}}}, "all", "none", True),
        ({"arms": {**PAIR, "slow": {"data": "rewrites", "train": {"lr": 1e-6}}}}, "slow", None, False),
    ],
)
def test_each_arm_is_compared_with_its_baseline(
    changes: dict[str, Any], arm: str, twin: str | None, equal: bool
) -> None:
    values = {"model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 8}, "arms": PAIR, **changes}
    plan = make_context(make_recipe(values))
    assert plan.baseline_arm(arm) == twin
    assert (plan.equal_twin(arm) is not None) == equal


def change(task: str, arm: str, word: str, difference: float) -> dict[str, Any]:
    return {"task": task, "arm": arm, "against": "seed", "word": word, "difference": difference}


def test_arms_are_told_together_only_of_the_tasks_that_both_have() -> None:
    tasks = [
        {"task": "maths", "role": "target"},
        *({"task": name, "role": "other"} for name in ("code", "safe", "tool")),
    ]
    rows = [change("maths", arm, "kept", 0.0) for arm in ("vanilla", "sdft")]
    rows += [change(name, "vanilla", "forgot", -0.8) for name in ("code", "safe", "tool")]
    rows += [change("code", "sdft", "kept", -0.01)]
    rows += [{**row, "arm": "sdft", "against": "vanilla", "word": "gained"} for row in rows if row["task"] == "code"][
        :1
    ]
    verdict = {"arms": ["seed", "vanilla", "sdft"], "seed_arm": "seed", "tasks": tasks, "comparisons": rows}
    said = Findings.of(verdict).headline()
    assert said.startswith("Of 1 other task so far, vanilla forgot 1")
    assert "-1.0 points on average" in said.replace("−", "-")


def test_the_headline_is_of_an_arm_that_differs_in_its_data_alone() -> None:
    tasks = [{"task": "maths", "role": "target"}, {"task": "code", "role": "other"}]
    arms = ("vanilla", "masked", "sdft")
    rows = [change(task["task"], arm, "kept", 0.0) for task in tasks for arm in arms]
    rows += [{**change("code", arm, "kept", 0.0), "against": "vanilla"} for arm in ("masked", "sdft")]
    twins = {"masked": {"against": "vanilla", "equal": False}, "sdft": {"against": "vanilla", "equal": True}}
    verdict = {"arms": ["seed", *arms], "seed_arm": "seed", "tasks": tasks, "comparisons": rows, "twins": twins}
    said = Findings.of(verdict).headline()
    assert "sdft" in said
    assert "masked" not in said
