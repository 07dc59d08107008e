"""The mean change over tasks: against hand counts, the gate's mean and a recipe with two arms on the originals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfdistill import make_recipe, run
from selfdistill.measure.comparisons import Pair, compare
from selfdistill.measure.means import compare_means, task_mean
from selfdistill.measure.noninferiority import mean_change
from selfdistill.measure.stats import Values


def values(*answers: float) -> Values:
    return dict(enumerate(answers))


def drawn(task: str, runs: list[float], seed: int, trained: bool = False) -> Pair:
    """An arm whose runs have these true scores, and one with a score of one half and as many runs, if it is trained."""
    rng = np.random.default_rng(seed)
    mine = [values(*(rng.random(400) < rate).astype(float)) for rate in runs]
    other = [values(*(rng.random(400) < 0.5).astype(float)) for _ in (runs if trained else runs[:1])]
    return Pair(task, "arm", "other", mine, other, both_trained=trained)


def test_each_task_counts_the_same_and_the_variances_add_up() -> None:
    few = Pair("few", "arm", "seed", [values(1, 1, 0, 0)], [values(0, 0, 0, 0)])
    many = Pair("many", "arm", "seed", [values(*[1.0] * 40)], [values(*[1.0] * 40)])
    (row,) = compare_means([few, many], 0.05)
    assert (row.tasks, row.difference) == (2, 0.25)
    # By hand: with a made-up gain and loss, changes of 3 gained and 1 lost of 6 items, and of 1 and 1 of 42.
    parts = [(4 / 6 - (2 / 6) ** 2) / 6, 2 / 42 / 42]
    assert task_mean([few, many]).estimate.items == pytest.approx(sum(parts) / 4)


def test_a_mean_finds_what_no_single_task_shows() -> None:
    pairs = [drawn(f"task {number}", [0.43], number) for number in range(12)]
    assert {row.word for row in compare(pairs, 0.05)} & {"can't tell", "kept"}
    (mean,) = compare_means(pairs, 0.05)
    assert mean.word == "forgot"
    assert mean.high < max(row.high for row in compare(pairs, 0.05))
    found = mean_change(pairs, 0.05)
    assert found
    assert (found.difference, found.low, found.high) == (mean.difference, mean.low, mean.high)


@pytest.mark.parametrize("trained", [False, True])
def test_runs_that_differ_on_all_tasks_alike_widen_the_interval(trained: bool) -> None:
    alike = [drawn(f"task {number}", [0.5, 0.5, 0.5], number, trained) for number in range(8)]
    apart = [drawn(f"task {number}", [0.4, 0.5, 0.6], number, trained) for number in range(8)]
    (narrow,), (wide,) = compare_means(alike, 0.05), compare_means(apart, 0.05)
    assert narrow.runs == wide.runs == 3
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_run_that_is_not_evaluated_to_the_end_has_no_mean() -> None:
    whole, part = drawn("whole", [0.5, 0.5], 1), drawn("part", [0.5], 2)
    assert compare_means([whole, part], 0.05) == []
    assert compare_means([whole], 0.05) == []
    assert compare_means([], 0.05) == []


def test_a_run_compares_an_arm_with_every_arm_on_the_originals(tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "model": "demo",
            "task": "demo-maths",
            "data": {"n": 8},
            "rewrite": {"min_accepted": 0},
            "train": {"max_steps": 1},
            "arms": {
                "seed": {"data": "none"},
                "vanilla": {"data": "original"},
                "sdft": {"data": "rewrites"},
                "low-lr": {"data": "original", "train": {"lr": 1e-6}},
            },
            "evaluate": {"tasks": [{"task": name, "n": 8} for name in ("demo-maths", "demo-lists", "demo-code")]},
            "shift": {"kl_prompts": 0},
            "gap": False,
        }
    )
    run(recipe, tmp_path)
    verdict = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    found = {(row["arm"], row["against"]): row for row in verdict["mean_changes"]}
    assert found.keys() == {
        *((arm, "seed") for arm in ("vanilla", "sdft", "low-lr")),
        ("sdft", "vanilla"),
        ("sdft", "low-lr"),
    }
    assert {row["tasks"] for row in found.values()} == {2}  # the target is not among them
    by_task = [row for row in verdict["comparisons"] if (row["arm"], row["against"]) == ("sdft", "seed")]
    others = [row["difference"] for row in by_task if row["task"] != "demo-maths"]
    assert found["sdft", "seed"]["difference"] == pytest.approx(sum(others) / 2)
    assert any(text.startswith("On average over 2 other tasks, sdft is ") for text in verdict["summary"])
