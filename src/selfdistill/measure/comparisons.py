"""Comparisons of arms on the same items, corrected over the tasks, and the word that each comparison supports.

A family is a pair of arms on all their tasks. "forgot" and "gained" are wrong in at most 5 % of families (Holm over
two-sided p-values), "kept" in at most 2.5 % (Holm over one-sided p-values against a drop by the margin).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from .looks import adjusted
from .stats import (
    LEVEL,
    PRIOR_SPREAD,
    Estimate,
    RunSpread,
    Values,
    difference_estimate,
    holm,
    mcnemar,
    quantile,
    run_spread,
    shared_items,
    table_of,
)

if TYPE_CHECKING:
    from .stats import Table

Word = Literal["gained", "kept", "forgot", "can't tell"]
POWER = 0.8
MOST_ITEMS = 10_000_000


@dataclass(frozen=True, slots=True)
class Pair:
    """The values of two arms on one task, for each of their runs. `both_trained` is False if `against` is the seed: its
    single run is then not a sample of training runs. `given`: the arm is a checkpoint, and its training is not known.
    """

    task: str
    arm: str
    against: str
    mine: Sequence[Values]
    other: Sequence[Values]
    both_trained: bool = False
    given: bool = False

    @property
    def runs(self) -> int:
        """The smaller number of training runs; 0 for a checkpoint."""
        if self.given:
            return 0
        return min(len(self.mine), len(self.other)) if self.both_trained else len(self.mine)

    @property
    def items(self) -> list[Any]:
        """The items that were judged in all runs of both arms."""
        return shared_items([*self.mine, *self.other])

    @property
    def tables(self) -> tuple[Table, Table]:
        """The values of these items, shape (runs, items), of either arm."""
        keys = self.items
        return table_of(self.mine, keys), table_of(self.other, keys)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against another on the same `n` items: `gained` items are better in the arm, `lost` items in the other.

    `difference` is the difference of the means, from `low` to `high` its 95 % interval. `p_value` is for "no
    difference", `p_holm` is corrected over the tasks, `p_kept` is the corrected p-value for "a drop by the margin or
    more". `runs` is the smaller number of training runs; with one run all claims are about that training run, and
    with 0 about a checkpoint.
    `unchanged` means that a gain by the margin is ruled out too and that the interval includes 0. `needed` is about how
    many items decide in 80 % of cases, if difference and disagreement stay; None if the comparison is decided, or if
    more items alone can't decide it.
    """

    task: str
    arm: str
    against: str
    n: int
    gained: int
    lost: int
    difference: float
    low: float
    high: float
    p_value: float
    test: Literal["mcnemar", "t over items", "t over items and runs"]
    word: Word = "can't tell"
    p_holm: float = 1.0
    p_kept: float = 1.0
    unchanged: bool = False
    needed: int | None = None
    runs: int = 1

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def compare(pairs: Sequence[Pair], margin: float, looks: tuple[float, ...] = ()) -> list[Comparison]:
    """Compare each pair on the items that were judged in all runs of both arms; a pair without such items is left out.
    `margin` is the smallest drop that matters, in [0, 1]. `looks` are the shares of the planned items at this look and
    the earlier ones: corrected p-values are then adjusted for all looks (see `measure.looks`)."""
    found: dict[int, Comparison] = {}
    for family in families(pairs):
        found |= zip(family, _family(list(family.values()), margin, looks), strict=True)
    return [found[place] for place in sorted(found)]


def families(pairs: Sequence[Pair]) -> list[dict[int, Pair]]:
    """The pairs of the same two arms, by their places in `pairs`, without pairs that have no item to compare."""
    found: dict[tuple[str, str], dict[int, Pair]] = {}
    for place, pair in enumerate(pairs):
        if pair.items:
            found.setdefault((pair.arm, pair.against), {})[place] = pair
    return list(found.values())


def _family(pairs: Sequence[Pair], margin: float, looks: tuple[float, ...]) -> list[Comparison]:
    """The comparisons of one pair of arms, with the spread between runs pooled over the tasks."""
    tables = [pair.tables for pair in pairs]
    own, others = run_spreads([mine for mine, _ in tables], [other for _, other in tables], pairs[0].both_trained)
    estimates = [
        difference_estimate(mine, other, applied_spreads(own, others, len(mine), len(other), pair.both_trained))
        for pair, (mine, other) in zip(pairs, tables, strict=True)
    ]
    rows = [_row(*each) for each in zip(pairs, tables, estimates, strict=True)]
    changed = holm([adjusted(row.p_value, looks, two_sided=True) for row in rows])
    rows = [replace(row, p_holm=p) for row, p in zip(rows, changed, strict=True)]
    drops = holm([adjusted(_p_drop(estimate, margin), looks) for estimate in estimates])
    mirrored = [replace(estimate, centre=-estimate.centre) for estimate in estimates]
    gains = holm([adjusted(_p_drop(estimate, margin), looks) for estimate in mirrored])
    rows = [_worded(*each) for each in zip(rows, drops, gains, strict=True)]
    undecided = max(1, sum(row.p_holm >= LEVEL for row in rows)), sum(row.p_kept >= LEVEL / 2 for row in rows)
    return [
        replace(row, needed=_needed(row.difference, estimate, margin, *undecided)) if row.word == "can't tell" else row
        for row, estimate in zip(rows, estimates, strict=True)
    ]


def run_spreads(
    mine: Sequence[Table], other: Sequence[Table], both_trained: bool, prior: float = PRIOR_SPREAD
) -> tuple[RunSpread | None, RunSpread | None]:
    """The spread between the runs of each of two arms, pooled over the tasks, as `lent`."""
    return lent(run_spread(mine, prior), run_spread(other, prior), both_trained)


def lent(
    own: RunSpread | None, others: RunSpread | None, both_trained: bool
) -> tuple[RunSpread | None, RunSpread | None]:
    """The spreads of two arms. If both are trained, an arm with a single run uses the other's."""
    return (own or others, others or own) if both_trained else (own, others)


def applied_spreads(
    own: RunSpread | None, others: RunSpread | None, mine: int, other: int, both_trained: bool
) -> tuple[RunSpread | None, RunSpread | None]:
    """The spreads that apply to a task: None for an untrained arm, and for both arms if each has a single run."""
    if max(mine, other) == 1:
        return None, None
    return own, others if both_trained or other > 1 else None


def _row(pair: Pair, tables: tuple[Any, Any], estimate: Estimate) -> Comparison:
    mine, other = tables
    changes = mine.mean(axis=0) - other.mean(axis=0)
    gained, lost, difference = int((changes > 0).sum()), int((changes < 0).sum()), float(changes.mean())
    low, high = estimate.interval(-1.0, 1.0)
    return Comparison(
        task=pair.task,
        arm=pair.arm,
        against=pair.against,
        n=len(changes),
        gained=gained,
        lost=lost,
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p_value=mcnemar(gained, lost) if estimate.exact else estimate.p_zero(),
        test="mcnemar" if estimate.exact else "t over items and runs" if estimate.trained else "t over items",
        runs=pair.runs,
    )


def _p_drop(estimate: Estimate, margin: float) -> float:
    """The p-value of a drop by the margin or more (a test of non-inferiority).

    If a share `margin` of the items is lost and no item is gained, a single item's change has the variance
    margin · (1 − margin), the smallest possible for right or wrong at this drop. It is used as the lower limit of the
    variance, because a sample with few changes by chance has less. The limit replaces the restricted estimate in
    Tango's score test (1998).
    """
    return estimate.p_below(-margin, margin * (1 - margin) / estimate.n)


def _worded(row: Comparison, kept: float, not_gained: float) -> Comparison:
    supported = word(row.low, row.high, row.p_holm, kept)
    unchanged = supported == "kept" and row.low <= 0 <= row.high and not_gained < LEVEL / 2
    return replace(row, word=supported, p_kept=kept, unchanged=unchanged)


def word(low: float, high: float, p_holm: float, p_kept: float) -> Word:
    """The word that a difference's interval and its two corrected p-values support."""
    if p_holm < LEVEL and (high < 0 or low > 0):
        return "forgot" if high < 0 else "gained"
    return "kept" if p_kept < LEVEL / 2 else "can't tell"


def _needed(difference: float, estimate: Estimate, margin: float, undecided: int, unkept: int) -> int | None:
    """The number of items that decides the comparison in 80 % of samples, if difference, disagreement and runs stay.
    `undecided` and `unkept` are the numbers of tasks that share the level in Holm's correction."""
    square, made_up = _mean_square(estimate)

    def decided(n: int) -> float:
        items = ((square * n + made_up) / (n + 2) - (difference * n / (n + 2)) ** 2) / (n + 2)
        larger = replace(estimate, centre=difference, items=items, n=n)
        return _chance(larger, margin, LEVEL / 2 / undecided, LEVEL / 2 / unkept)

    low = estimate.n
    high = low + 1
    while decided(high) < POWER:
        low, high = high, 2 * high
        if high > MOST_ITEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) >= POWER else (middle, high)
    return high


def _mean_square(estimate: Estimate) -> tuple[float, float]:
    """The mean square of the items' changes without the made-up items, and the made-up items' sum of squares."""
    made_up = 2 / max((runs for _, runs in estimate.trained), default=1)
    total = (estimate.items * (estimate.n + 2) + estimate.centre**2) * (estimate.n + 2)
    return (total - made_up) / estimate.n, made_up


def _chance(estimate: Estimate, margin: float, level: float, kept_level: float) -> float:
    """The probability that a new sample like `estimate` is decided: its mean is outside two bounds around 0, or far
    enough above −margin. The exact test counts whole items, which moves its bounds by half an item on average."""
    from scipy.special import ndtr

    critical, freedom = quantile(1 - level, estimate.freedom), estimate.freedom
    step = 0.5 / estimate.n if estimate.exact else 0.0
    lower, upper = -critical * estimate.error - step, critical * estimate.error + step
    error = sqrt(max(estimate.items, margin * (1 - margin) / estimate.n) + estimate.run_variance)
    upper = min(upper, quantile(1 - kept_level, freedom) * error - margin)
    if upper <= lower:
        return 1.0
    return 1 - float(
        ndtr((upper - estimate.centre) / estimate.error) - ndtr((lower - estimate.centre) / estimate.error)
    )
