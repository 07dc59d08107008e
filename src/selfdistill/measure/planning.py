"""What a study needs to show a change, before it is measured: training runs, and the change that its items can show."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, inf, sqrt
from statistics import median

from .comparisons import POWER, Comparison
from .stats import LEVEL, PRIOR_FREEDOM, Estimate, RunSpread, mcnemar, pooled_freedom, quantile

# The assumed run-to-run spread to compute how many runs are needed; with a single training run it is unknown.
ASSUMED_SPREAD = 0.02
MOST_RUNS = 10
# The assumed share of items whose right or wrong changes although an arm is as good as the seed.
ASSUMED_DISAGREEMENT = 0.2
_RUN_NOISE = 1 / 3  # the assumed part of a run's disagreement with the seed that differs between runs


def runs_needed(rows: Sequence[Comparison], drop: float) -> int | None:
    """The number of training runs per arm that finds a `drop` in one task in 80 % of cases, estimated from single runs
    and the run-to-run spread `ASSUMED_SPREAD`; None if `MOST_RUNS` runs are too few.

    `rows` are single-run comparisons with the seed. Without a drop a share a of the items changes (the median over the
    comparisons); with a drop d, a share of about √(a² + d²) changes, as in the simulations of
    benchmarks/calibration.py. A part of these changes averages out over the runs.
    """
    n, tasks, disagreement = _measured(rows)
    for runs in range(2, MOST_RUNS + 1):
        if _chance_to_find(drop, n, tasks, runs, disagreement) >= POWER:
            return runs
    return None


def smallest_drop(rows: Sequence[Comparison]) -> float | None:
    """The smallest drop in one task that `MOST_RUNS` runs find in 80 % of cases, by the rows of `runs_needed`; None if
    they find none."""
    n, tasks, disagreement = _measured(rows)
    return smallest_change(n, tasks, MOST_RUNS, disagreement)


def _measured(rows: Sequence[Comparison]) -> tuple[int, int, float]:
    """The items of a task, the tasks, and the share of items that changes without a drop."""
    n, tasks = int(median(row.n for row in rows)), len({row.task for row in rows})
    return n, tasks, median(_disagreement(row) for row in rows)


def smallest_change(n: int, tasks: int, runs: int = 1, disagreement: float = ASSUMED_DISAGREEMENT) -> float | None:
    """The smallest difference from the seed on one of `tasks` tasks that `n` items show in 80 % of cases, at the
    strictest level of Holm's correction; None if not even the greatest difference is found.

    Assumes that right becomes wrong, or wrong right, in a share `disagreement` of the items even without a
    difference, and with several `runs` of an arm a run-to-run spread of `ASSUMED_SPREAD`.
    """
    low, high = 0.0, 1.0
    if runs == 1 and mcnemar(0, n) >= LEVEL / tasks:  # not even if all items change in one direction
        return None
    if _chance_to_find(high, n, tasks, runs, disagreement) < POWER:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        found = _chance_to_find(middle, n, tasks, runs, disagreement) >= POWER
        low, high = (low, middle) if found else (middle, high)
    return high


def _chance_to_find(drop: float, n: int, tasks: int, runs: int, disagreement: float) -> float:
    """The probability that a `drop` on one of `tasks` tasks with `n` items is found by `runs` runs of an arm."""
    from scipy.special import ndtr

    changed = min(1.0, hypot(disagreement, drop))
    noise = _RUN_NOISE if runs > 1 else 0.0
    items = max(0.0, changed - drop**2) * (1 - noise + noise / runs) / n
    freedom = pooled_freedom(tasks * (runs - 1), tasks) + PRIOR_FREEDOM
    trained = ((RunSpread(ASSUMED_SPREAD**2, ASSUMED_SPREAD**2, freedom), runs),) if runs > 1 else ()
    estimate = Estimate(-drop, items, n, trained, exact=runs == 1)
    critical = quantile(1 - LEVEL / 2 / tasks, estimate.freedom)
    step = 0.5 / n if estimate.exact else 0.0  # the exact test counts whole items
    distance = drop - step
    return float(ndtr(distance / estimate.error - critical)) if estimate.error else float(distance > 0)


def _disagreement(row: Comparison) -> float:
    """The mean square of the changes (for right or wrong: the share of changed items) without the part of a drop."""
    error = (row.high - row.low) / 2 / quantile(1 - LEVEL / 2, inf)
    changed = row.n * error**2 + row.difference**2
    return sqrt(max(0.0, changed**2 - row.difference**2))
