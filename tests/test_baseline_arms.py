"""The baseline arm of each arm, and the headline about arms that are not all evaluated."""

from typing import Any

import pytest

from selfdistill import make_recipe
from selfdistill.pipeline.context import make_context
from selfdistill.reports.findings import Findings
from selfdistill.reports.sentences import headline

SEED = {"seed": {"data": "none"}}
PAIR = {**SEED, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}}
OFF = {"path": "demo", "reasoning": "off"}
MASK = {"mask_above": 0.9}
DFT = {"extra": {"loss_type": "dft"}}


@pytest.mark.parametrize(
    ("changes", "arm", "baseline", "equal"),
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
        ({"arms": {**PAIR, "slow": {"data": "rewrites", "train": {"lr": 1e-6}}}}, "slow", "vanilla", False),
        ({"arms": {**PAIR, "slow": {"data": "original", "train": {"lr": 1e-6}}}}, "slow", None, False),
        ({"model": OFF, "arms": {**PAIR, "sdft": {"data": "rewrites", "reasoning": "off"}}}, "sdft", "vanilla", True),
        ({"model": OFF, "train": MASK}, "sdft", "vanilla", True),
        ({"model": OFF, "arms": {**PAIR, "masked": {"data": "original", "train": MASK}}}, "masked", "vanilla", False),
        ({"arms": {**PAIR, "long": {"data": "rewrites", "train": {"epochs": 9}}}}, "long", None, False),
    ],
)
def test_the_baseline_of_an_arm(changes: dict[str, Any], arm: str, baseline: str | None, equal: bool) -> None:
    values = {"model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 8}, "arms": PAIR, **changes}
    context = make_context(make_recipe(values))
    assert context.baseline_arm(arm) == baseline
    assert (baseline is not None and context.baselines[arm].equal) == equal


def change(task: str, arm: str, word: str, difference: float) -> dict[str, Any]:
    return {"task": task, "arm": arm, "against": "seed", "word": word, "difference": difference, "runs": 1}


def test_the_headline_compares_arms_only_on_the_tasks_of_both() -> None:
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
    said = headline(Findings.of(verdict | {"baseline_arms": {"sdft": {"against": "vanilla", "equal": True}}}))
    assert said.startswith("In this training run, vanilla forgot 1 of 1 other task so far")
    assert "-1.0 points on average" in said.replace("−", "-")


def test_the_headline_is_about_an_arm_that_differs_in_its_data_alone() -> None:
    tasks = [{"task": "maths", "role": "target"}, {"task": "code", "role": "other"}]
    arms = ("vanilla", "masked", "sdft")
    rows = [change(task["task"], arm, "kept", 0.0) for task in tasks for arm in arms]
    rows += [{**change("code", arm, "kept", 0.0), "against": "vanilla"} for arm in ("masked", "sdft")]
    baselines = {"masked": {"against": "vanilla", "equal": False}, "sdft": {"against": "vanilla", "equal": True}}
    verdict = {
        "arms": ["seed", *arms],
        "seed_arm": "seed",
        "tasks": tasks,
        "comparisons": rows,
        "baseline_arms": baselines,
    }
    said = headline(Findings.of(verdict))
    assert "sdft" in said
    assert "masked" not in said
