"""Several looks at growing data, so that a clear answer stops early and looking costs no error.

The level is spent as O'Brien and Fleming's bounds do, by the spending function of Lan and DeMets (1983,
https://doi.org/10.1093/biomet/70.3.659): up to the share t of the items, a one-sided test at the level γ has spent
2 − 2 Φ(z / √t), where z is the quantile of 1 − γ/2. Little is spent early, so the last look costs nearly no power.

`adjusted` turns the p-value of a look into the smallest level at which the test would have stopped there. Holm's
correction of adjusted p-values is the group sequential Holm procedure (Maurer and Bretz 2013,
https://doi.org/10.1080/19466315.2013.807748). Its condition holds for this spending function: the bound of a smaller
level is never easier to cross.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID = 401  # points of the density of a statistic that has not crossed its bound
_LOW, _HIGH = -6.0, 9.0  # standard deviations at which a density ends
_LEVELS = 100  # levels between which an adjusted p-value is interpolated


def adjusted(p: float, looks: tuple[float, ...], two_sided: bool = False) -> float:
    """The p-value of the last of `looks`, the shares of the planned items at each look so far, adjusted for all looks.
    With a single look at all items it is `p` itself."""
    if looks in ((), (1.0,)):
        return p
    if two_sided:
        return min(1.0, 2 * adjusted(p / 2, looks))
    import numpy as np

    levels, nominal = _table(looks)
    if p <= 0.0:
        return 0.0
    if p >= nominal[-1]:
        return 1.0
    return max(p, float(np.exp(np.interp(np.log(p), np.log(nominal), np.log(levels)))))


def spent(level: float, share: float) -> float:
    """The part of a one-sided `level` that is spent up to a share of the items."""
    from scipy.special import ndtr, ndtri

    return 2 * float(ndtr(ndtri(level / 2) / sqrt(share)))


@lru_cache(maxsize=64)
def _table(looks: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Levels, and for each the p-value from which the last look stops: its bound on the p-value's scale. Both rise."""
    import numpy as np
    from scipy.special import ndtr

    levels = np.logspace(-14, np.log10(0.999), _LEVELS)
    nominal = np.array([float(ndtr(-bounds(float(level), looks)[-1])) for level in levels])
    known = nominal > 0  # at the smallest levels an early look can't stop at all
    return levels[known], np.maximum.accumulate(nominal[known])


def bounds(level: float, looks: tuple[float, ...]) -> list[float]:
    """The bound of the standard normal statistic at each look: beyond it the one-sided test of a `level` stops. The
    statistic of a look and the earlier ones are those of sums of independent items (Armitage, McPherson and Rowe 1969).
    Infinite if nothing is spent at a look."""
    import numpy as np

    found: list[float] = []
    before, paid = 0.0, 0.0
    points = density = np.array([])  # of the sum of the items so far, if no bound was crossed; with its weights
    for share in looks:
        due, step = spent(level, share) - paid, share - before
        paid += due
        bound = _solve(points, density, share, step, due)
        found.append(bound)
        if len(found) == len(looks):
            break  # what comes after the last look is not asked
        ends = np.linspace(_LOW * sqrt(share), min(bound, _HIGH) * sqrt(share), _GRID)
        weights = np.full(_GRID, ends[1] - ends[0])
        weights[[0, -1]] /= 2  # the trapezoidal rule
        points, density, before = ends, _next(points, density, ends, step) * weights, share
    return found


def _solve(points: Any, density: Any, share: float, step: float, due: float) -> float:
    """The bound that is crossed at a look with the probability `due`."""
    from scipy.special import ndtr

    def crossing(bound: float) -> float:
        distance = bound * sqrt(share)
        if not density.size:
            return float(ndtr(-distance / sqrt(step)))
        return float((density * ndtr((points - distance) / sqrt(step))).sum())

    low, high = _LOW, 40.0
    if due <= 0 or crossing(high) >= due:
        return inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle) > due else (low, middle)
    return high


def _next(points: Any, density: Any, ends: Any, step: float) -> Any:
    """The density of the sum at `ends` after a further `step`."""
    import numpy as np

    from_there = np.zeros(1) if not density.size else points
    kernel = np.exp(-((ends[:, None] - from_there[None, :]) ** 2) / 2 / step) / sqrt(2 * np.pi * step)
    return kernel @ (density if density.size else np.ones(1))
