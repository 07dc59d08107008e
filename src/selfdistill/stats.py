"""Intervals, tests, and what they allow to say. Two arms are compared on the same items, never by two separate figures.

Right or wrong in a single run: Wilson interval, exact McNemar test, Bonett–Price interval of the difference. Graded
values, or arms that were trained several times: bootstrap over items and over runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil, sqrt
from typing import Any, Literal

Word = Literal["gained", "kept", "forgot", "can't tell"]
Values = Mapping[Any, float]
"""Of one run of an arm, each judged item's value in [0, 1]."""

Z95 = 1.959963984540054
LEVEL = 0.05
# A drop that is smaller than this with 97.5 % confidence is called kept.
KEPT_MARGIN = 0.05
RESAMPLES = 9_999
_CELLS = 4_000_000  # of one piece of the resampling, so that memory stays bounded


def wilson(passed: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927), good at small n and near 0 and 1.

    Raises ValueError at n = 0.
    """
    if n <= 0 or not 0 <= passed <= n:
        raise ValueError(f"no proportion: {passed} of {n}")
    p, z2 = passed / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the interval touches them; rounding must not push it past.
    return (0.0 if passed == 0 else centre - half), (1.0 if passed == n else centre + half)


def mean_interval(runs: Sequence[Values]) -> tuple[float, float, str]:
    """The 95 % interval of an arm's mean, and how it was made: Wilson's for one run of right and wrong, else a
    bootstrap. Raises ValueError where nothing was judged."""
    values = [value for run in runs for value in run.values()]
    if len(runs) == 1 and _binary(values):
        return *wilson(round(sum(values)), len(values)), "wilson"
    draws = _bootstrap(runs)
    low, high = _percentiles(draws)
    return low, high, "bootstrap"


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that items change both ways equally often (McNemar 1947, binomial form)."""
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def pass_at_k(n: int, passed: int, k: int) -> float:
    """The unbiased estimate that one of k samples passes, where `passed` of n did (Chen et al. 2021, eq. 1).

    Raises ValueError where there are fewer than k samples.
    """
    if not 0 <= passed <= n or not 0 < k <= n:
        raise ValueError(f"no pass@{k} from {passed} of {n} samples")
    missed = 1.0
    for i in range(n - passed + 1, n + 1):  # the product form: binomials of hundreds of samples overflow
        missed *= 1 - k / i
    return 1 - missed


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against another on the same `n` items: `gained` are better in the arm, `lost` in the other. `difference`
    of the means, with its 95 % interval. `p_holm` is the p-value corrected for all tasks of this pair of arms (Holm
    1979); `needed` is about how many items it would take to tell, where these can't and each arm is one run."""

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
    test: Literal["mcnemar", "paired bootstrap"]
    word: Word
    p_holm: float
    needed: int | None = None
    runs: int = 1

    @property
    def unchanged(self) -> bool:
        """Whether a gain as large as the loss that `kept` excludes is excluded too."""
        return self.word == "kept" and self.high < KEPT_MARGIN

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def compare(task: str, arm: str, against: str, mine: Sequence[Values], other: Sequence[Values]) -> Comparison | None:
    """Compares the runs of two arms on the items that could be judged in all of them; None where there are none.

    The interval for right and wrong is Bonett and Price's adjusted Wald interval for paired proportions (2012,
    https://doi.org/10.3102/1076998611411915); else percentiles of a paired bootstrap that draws items, the same for
    both arms, and runs (Efron and Tibshirani 1993, chapter 8).
    """
    shared = [key for key in mine[0] if all(key in run for run in (*mine, *other))]
    n = len(shared)
    if n == 0:
        return None
    mine, other = ([{key: run[key] for key in shared} for run in runs] for runs in (mine, other))
    changes = [_mean(run[key] for run in mine) - _mean(run[key] for run in other) for key in shared]
    gained, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    exact = len(mine) == len(other) == 1 and _binary([*mine[0].values(), *other[0].values()])
    if exact:
        difference = (gained - lost) / n
        low, high = _bonett_price(gained, lost, n)
        p_value = mcnemar(gained, lost)
    else:
        difference = _mean(changes)
        draws = _bootstrap(mine, other)
        low, high = _percentiles(draws)
        beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        p_value = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    return Comparison(
        task=task,
        arm=arm,
        against=against,
        n=n,
        gained=gained,
        lost=lost,
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p_value=p_value,
        test="mcnemar" if exact else "paired bootstrap",
        word=word(low, high, p_value),
        p_holm=p_value,
        runs=max(len(mine), len(other)),
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with Holm's correction over the tasks of each pair of arms, the word that it allows, and
    how many items would be needed where that is "can't tell"."""
    found: dict[int, Comparison] = {}
    order = sorted(range(len(comparisons)), key=lambda i: (comparisons[i].arm, comparisons[i].against))
    for _, group in groupby(order, key=lambda i: (comparisons[i].arm, comparisons[i].against)):
        ranked = sorted(group, key=lambda i: comparisons[i].p_value)
        p_holm = 0.0
        for rank, i in enumerate(ranked):
            row = comparisons[i]
            p_holm = min(1.0, max(p_holm, (len(ranked) - rank) * row.p_value))
            said = word(row.low, row.high, p_holm)
            # The spread of training seeds does not shrink with more items.
            countable = said == "can't tell" and row.runs == 1
            needed = _needed(row, len(ranked)) if countable else None
            found[i] = replace(row, p_holm=p_holm, word=said, needed=needed)
    return [found[i] for i in range(len(comparisons))]


def word(low: float, high: float, p_value: float) -> Word:
    """What a difference's interval and (corrected) p-value allow to say."""
    if p_value < LEVEL and (high < 0 or low > 0):
        return "forgot" if high < 0 else "gained"
    return "kept" if low > -KEPT_MARGIN else "can't tell"


def _needed(row: Comparison, tasks: int) -> int:
    """Items at which the interval, about as wide as 1/√n, would exclude 0 (at the strictest level of Holm's correction)
    or a drop by the margin, if the difference and the disagreement stay as they are."""
    from scipy.stats import norm

    half = (row.high - row.low) / 2
    stricter = float(norm.isf(LEVEL / 2 / tasks)) / Z95
    ways = [half / (row.difference + KEPT_MARGIN)] if row.difference > -KEPT_MARGIN else []
    ways += [stricter * half / abs(row.difference)] if row.difference else []
    return max(row.n + 1, ceil(row.n * min(ways) ** 2))


def _bonett_price(gained: int, lost: int, n: int) -> tuple[float, float]:
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(up - down - half, -1.0), min(up - down + half, 1.0)


def _bootstrap(mine: Sequence[Values], other: Sequence[Values] = ()) -> Any:
    """`RESAMPLES` means of `mine`, less those of `other`, over items and runs drawn with replacement. The items are
    those of the first run, and every run has them. Seeded: the same values give the same interval.

    Two items are made up, one at each end of the range, as in Agresti and Coull's and Bonett and Price's intervals:
    without them a few items that agree would have an interval of no width.
    """
    import numpy as np

    keys = sorted(mine[0], key=str)
    if not keys:
        raise ValueError("nothing was judged")
    ends = ([0.0, 1.0], [1.0, 0.0])
    tables = [
        np.array([[run[key] for key in keys] + end for run in runs])
        for runs, end in zip((mine, other), ends, strict=True)
        if runs
    ]
    n = len(keys) + 2
    rng, piece = np.random.default_rng(0), max(1, _CELLS // n)
    draws = []
    for start in range(0, RESAMPLES, piece):
        size = min(piece, RESAMPLES - start)
        items = rng.multinomial(n, np.full(n, 1 / n), size=size) / n
        means = [
            (items @ table.T * rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=size)).sum(1)
            / len(table)
            for table in tables
        ]
        draws.append(means[0] - means[1] if len(means) == 2 else means[0])
    return np.concatenate(draws)


def _percentiles(draws: Any) -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(draws, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return float(low), float(high)


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _mean(values: Any) -> float:
    values = list(values)
    return float(sum(values)) / len(values)
