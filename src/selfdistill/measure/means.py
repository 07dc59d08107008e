"""The mean of an arm's changes over several tasks. It rests on the items of all tasks, so it shows smaller changes than
a single task can, and it answers whether one arm forgot less than another.

Each task counts the same. The tasks' items are different, so the variances of the items add up. The runs of an arm are
the same on all tasks, so the spread between runs is that of a run's mean over the tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .comparisons import Pair, Word, applied_spreads, families, lent, word
from .stats import (
    PRIOR_SPREAD,
    SHARED,
    Estimate,
    RunSpread,
    difference_estimate,
    noise_of_means,
    sampled_runs,
    with_prior,
)

if TYPE_CHECKING:
    from .stats import Table


@dataclass(frozen=True, slots=True)
class TaskMean:
    """The estimate of the mean change over tasks, with the mean of the differences as they are (the estimate's centre
    has the made-up items of `difference_estimate`). `ns` are the items of each task."""

    estimate: Estimate
    difference: float
    ns: Sequence[int]

    def least(self, margin: float) -> float:
        """The smallest possible variance of the items if each task drops by the margin: nothing is gained there."""
        return sum(margin * (1 - margin) / n for n in self.ns) / len(self.ns) ** 2

    def interval(self) -> tuple[float, float]:
        """The 95 % interval, which includes the difference."""
        low, high = self.estimate.interval(-1.0, 1.0)
        return min(low, self.difference), max(high, self.difference)


def task_mean(pairs: Sequence[Pair]) -> TaskMean:
    """The mean change of an arm over the tasks of `pairs`, of which each has an item that was judged in all its runs.
    The arms have the same runs on each task."""
    tables = [pair.tables for pair in pairs]
    estimates = [difference_estimate(mine, other) for mine, other in tables]
    runs, both = _runs(pairs[0]), pairs[0].both_trained
    own, others = lent(_spread([mine for mine, _ in tables]), _spread([other for _, other in tables]), both)
    trained = sampled_runs(applied_spreads(own, others, *runs, both), runs)
    estimate = Estimate(
        centre=sum(each.centre for each in estimates) / len(estimates),
        items=sum(each.items for each in estimates) / len(estimates) ** 2,
        n=min(each.n for each in estimates),
        trained=trained,
        exact=not trained,
    )
    difference = sum(float(mine.mean() - other.mean()) for mine, other in tables) / len(tables)
    return TaskMean(estimate, difference, [each.n for each in estimates])


def _spread(tables: Sequence[Table]) -> RunSpread | None:
    """The spread of a run's mean over the tasks; None after a single run. The prior is that of `run_spread` for a mean
    of tasks that share part of a run's effect."""
    runs, tasks = len(tables[0]), len(tables)
    if runs == 1:
        return None
    means = sum(table.mean(axis=1) for table in tables) / tasks
    noise = sum(map(noise_of_means, tables)) / tasks**2
    prior = PRIOR_SPREAD**2 * (1 + (tasks - 1) * SHARED) / tasks
    return with_prior(float(means.var(ddof=1)), noise, runs - 1, prior)


@dataclass(frozen=True, slots=True)
class MeanComparison:
    """The mean change of an arm over `tasks` tasks, with its 95 % interval and the word that it supports. `p_kept` is
    for a mean drop by the margin or more. `runs` is as in `Comparison`."""

    arm: str
    against: str
    tasks: int
    difference: float
    low: float
    high: float
    p_value: float
    p_kept: float
    word: Word
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def compare_means(pairs: Sequence[Pair], margin: float) -> list[MeanComparison]:
    """The mean change of each pair of arms over its tasks. Left out are pairs with a single task, and those of which a
    run lacks a task: it is not evaluated to the end."""
    found = (list(family.values()) for family in families(pairs))
    return [_compared(own, margin) for own in found if len(own) > 1 and len(set(map(_runs, own))) == 1]


def _runs(pair: Pair) -> tuple[int, int]:
    return len(pair.mine), len(pair.other)


def _compared(pairs: Sequence[Pair], margin: float) -> MeanComparison:
    mean, first = task_mean(pairs), pairs[0]
    low, high = mean.interval()
    p_value, p_kept = mean.estimate.p_zero(), mean.estimate.p_below(-margin, mean.least(margin))
    return MeanComparison(
        arm=first.arm,
        against=first.against,
        tasks=len(pairs),
        difference=mean.difference,
        low=low,
        high=high,
        p_value=p_value,
        p_kept=p_kept,
        word=word(low, high, p_value, p_kept),
        runs=first.runs,
    )
