"""Intervals and tests for scores and for differences between scores.

Right or wrong in a single run: Wilson's interval and McNemar's exact test. All other scores are means over items, and
over training runs if there are several. Their variance has one part for the items and one for the runs: see `Estimate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Table = NDArray[Any]
    """Values in [0, 1], one row per training run and one column per item."""

Values = Mapping[Any, float]
"""The value in [0, 1] of each judged item, for one run of an arm."""

Z95 = 1.959963984540054
LEVEL = 0.05
# The prior of the run-to-run variance is a spread of 3 points with one degree of freedom. Without it, two runs that
# agree by chance would look like runs that always agree. benchmarks/calibration.py measures its effect.
PRIOR_SPREAD = 0.03
PRIOR_FREEDOM = 1.0
# Assumed correlation of a run's effects on two tasks: a bad run is often worse on several tasks.
SHARED = 0.5


def wilson(passed: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927), good at small n and near 0 and 1.

    Raises ValueError at n = 0.
    """
    if n <= 0 or not 0 <= passed <= n:
        raise ValueError(f"no proportion: {passed} of {n}")
    p, z2 = passed / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At 0 and 1 the interval ends exactly there; rounding must not exceed it.
    return (0.0 if passed == 0 else centre - half), (1.0 if passed == n else centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value of "as many items are gained as lost" (McNemar 1947, binomial form)."""
    from scipy.special import bdtr

    changed = gained + lost
    return min(1.0, 2 * float(bdtr(min(gained, lost), changed, 0.5))) if changed else 1.0


def pass_at_k(n: int, passed: int, k: int) -> float:
    """The unbiased estimate of the probability that one of k samples passes, if `passed` of n did (Chen et al. 2021,
    eq. 1). Raises ValueError if there are fewer than k samples."""
    if not 0 <= passed <= n or not 0 < k <= n:
        raise ValueError(f"no pass@{k} from {passed} of {n} samples")
    missed = 1.0
    for i in range(n - passed + 1, n + 1):  # the product form: binomials of hundreds of samples overflow
        missed *= 1 - k / i
    return 1 - missed


@dataclass(frozen=True, slots=True)
class RunSpread:
    """How much the true score of an arm varies between training runs, pooled over tasks.

    `variance` is σ̂² of the true score. `mean_square` is the mean square from which it is estimated, including item
    noise, and `freedom` its degrees of freedom; both describe how uncertain σ̂² is.
    """

    variance: float
    mean_square: float
    freedom: float


def run_spread(tables: Sequence[Table], prior_spread: float = PRIOR_SPREAD) -> RunSpread | None:
    """The spread between the runs of an arm, pooled over its tasks (one table each); None if no task has two runs.

    In a two-way table without replication (runs × items), the variance of the run means estimates σ² + σₑ²/n, and the
    residual mean square estimates σₑ² (Searle, Casella and McCulloch 1992, chapter 4). Both are averaged over the tasks
    with weights R − 1, and σ̂² = max(0, difference). The prior (`prior_spread`, `PRIOR_FREEDOM`) is averaged in with
    its degrees of freedom.
    """
    parts = [(len(table) - 1, *_mean_squares(table)) for table in tables if len(table) > 1 and table.shape[1]]
    if not parts:
        return None
    weight = sum(runs for runs, _, _ in parts)
    between = sum(runs * square for runs, square, _ in parts) / weight
    noise = sum(runs * square for runs, _, square in parts) / weight
    return with_prior(between, noise, pooled_freedom(weight, len(parts)), prior_spread**2)


def with_prior(between: float, noise: float, own: float, prior: float) -> RunSpread:
    """The spread from the variance `between` run means with `own` degrees of freedom, of which the answers' noise
    explains `noise`, and from a prior variance."""
    freedom, added = own + PRIOR_FREEDOM, PRIOR_FREEDOM * prior
    return RunSpread((own * max(0.0, between - noise) + added) / freedom, (own * between + added) / freedom, freedom)


def pooled_freedom(freedom: float, tasks: int) -> float:
    """The degrees of freedom of T = `tasks` pooled mean squares. The tasks share part of each run's effect, so they
    count as T / (1 + (T − 1) ρ²) independent tasks with ρ = `SHARED`, since their variances have the correlation ρ²."""
    return freedom / (1 + (tasks - 1) * SHARED**2)


def _mean_squares(table: Table) -> tuple[float, float]:
    """The variance of the run means, and the part of it that the noise of single answers explains."""
    return float(table.mean(axis=1).var(ddof=1)), noise_of_means(table)


def noise_of_means(table: Table) -> float:
    """The variance of a run's mean that the noise of single answers explains: σ̂ₑ²/n, from the residuals of several
    runs."""
    runs, n = table.shape
    residuals = table - table.mean(axis=0) - table.mean(axis=1)[:, None] + table.mean()
    return float((residuals**2).sum()) / ((runs - 1) * (n - 1)) / n if n > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` items and over training runs, with the parts of its variance.

    For R runs with item means ȳᵢ, where both runs and items are samples: Var(mean) = S²(ȳᵢ)/n + σ²/R. The first part,
    `items`, includes the noise of single answers. `trained` has the σ² and R of each arm that was trained several
    times. With a single run it is empty, and the interval covers only the sampling of the items.
    """

    centre: float
    items: float
    n: int
    trained: tuple[tuple[RunSpread, int], ...] = ()
    exact: bool = False
    """True for right or wrong in a single run: then quantiles are normal, as in the published intervals."""

    @property
    def run_variance(self) -> float:
        return sum(spread.variance / runs for spread, runs in self.trained)

    @property
    def error(self) -> float:
        """The standard error."""
        return sqrt(self.items + self.run_variance)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of a sum of mean squares (1946)."""
        if self.exact:
            return inf
        if self.error == 0:
            return max(1, self.n - 1)
        parts = [(spread.mean_square / runs) ** 2 / spread.freedom for spread, runs in self.trained]
        return self.error**4 / (self.items**2 / max(1, self.n - 1) + sum(parts))

    def interval(self, lowest: float, highest: float) -> tuple[float, float]:
        """The 95 % interval by Student's t, limited to the possible range of the mean."""
        half = quantile(1 - LEVEL / 2, self.freedom) * self.error
        return max(self.centre - half, lowest), min(self.centre + half, highest)

    def p_below(self, bound: float, items: float = 0.0) -> float:
        """One-sided p-value of "the mean is `bound` or less". `items` is a lower limit of the variance's part for the
        items."""
        from scipy.special import ndtr, stdtr

        distance = (bound - self.centre) / sqrt(max(self.items, items) + self.run_variance)
        return float(ndtr(distance) if self.freedom == inf else stdtr(self.freedom, distance))

    def p_zero(self) -> float:
        """Two-sided p-value of "the mean is 0"; 1 if all values are 0."""
        if self.error == 0:
            return 0.0 if self.centre else 1.0
        return min(1.0, 2 * min(self.p_below(0.0), replace(self, centre=-self.centre).p_below(0.0)))


def quantile(share: float, freedom: float) -> float:
    """The quantile of Student's t, or of the normal distribution at infinite degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(share) if freedom == inf else stdtrit(freedom, share))


def table_of(runs: Sequence[Values], keys: Sequence[Any]) -> Table:
    """The values of `keys`, shape (runs, items)."""
    import numpy as np

    return np.array([[*map(run.__getitem__, keys)] for run in runs], dtype=float).reshape(len(runs), len(keys))


def shared_items(runs: Sequence[Values]) -> list[Any]:
    """The items that were judged in every run, in the order of the first run."""
    if not runs:
        return []
    everywhere = set(runs[0]).intersection(*runs[1:])
    return [key for key in runs[0] if key in everywhere]


def score_estimate(table: Table, spread: RunSpread | None) -> Estimate:
    """The mean score of an arm. Two made-up items, one right and one wrong, are added as in Agresti and Coull (1998);
    without them, the interval of a few items that agree would have no width. `spread` is pooled over the arm's tasks;
    None estimates it from this table alone."""
    means, n = table.mean(axis=0), table.shape[1] + 2
    centre = (float(means.sum()) + 1) / n
    items = ((float((means**2).sum()) + 1) / n - centre**2) / n
    spread = spread or run_spread([table])
    return Estimate(centre, items, n - 2, ((spread, len(table)),) if spread and len(table) > 1 else ())


def mean_interval(runs: Sequence[Values], spread: RunSpread | None = None) -> tuple[float, float, str]:
    """The 95 % interval of an arm's mean over the items that were judged in all runs, and the interval's name: Wilson's
    for right or wrong in one run, else Student's t. Raises ValueError if no item was judged."""
    keys = shared_items(runs)
    if not keys:
        raise ValueError("no item was judged")
    table = table_of(runs, keys)
    if len(runs) == 1 and binary(table):
        return *wilson(round(float(table.sum())), len(keys)), "wilson"
    estimate = score_estimate(table, spread)
    return *estimate.interval(0.0, 1.0), "t over items and runs" if estimate.trained else "t over items"


def difference_estimate(
    mine: Table, other: Table, spreads: tuple[RunSpread | None, RunSpread | None] = (None, None)
) -> Estimate:
    """The mean difference of two arms on the same items. `spreads` has the spread of each arm, or None for an arm whose
    runs are not a sample (the seed, or a single training).

    Bonett and Price (2012, https://doi.org/10.3102/1076998611411915) add one made-up gained item and one made-up lost
    item; for right or wrong in single runs the interval is theirs. With R runs each run has its own two made-up items,
    which together add 2/R to the sum of squares of the item means.
    """
    changes, n = mine.mean(axis=0) - other.mean(axis=0), mine.shape[1] + 2
    centre = float(changes.sum()) / n
    made_up = 2 / max(len(mine), len(other))
    items = ((float((changes**2).sum()) + made_up) / n - centre**2) / n
    trained = sampled_runs(spreads, (len(mine), len(other)))
    exact = len(mine) == len(other) == 1 and binary(mine) and binary(other)
    return Estimate(centre, items, n - 2, trained, exact)


def sampled_runs(
    spreads: tuple[RunSpread | None, RunSpread | None], runs: tuple[int, int]
) -> tuple[tuple[RunSpread, int], ...]:
    """`Estimate.trained` of two arms: the spread and the number of runs of each arm whose runs are a sample."""
    return tuple((spread, count) for spread, count in zip(spreads, runs, strict=True) if spread)


def binary(table: Table) -> bool:
    return bool(((table == 0) | (table == 1)).all())


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for multiple tests (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = min(1.0, max(highest, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
