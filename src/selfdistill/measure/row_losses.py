"""The loss per token of arms on the same rows: means with intervals, and paired comparisons.

A mean is over tokens: Σ tokens · loss / Σ tokens, so a row counts by its length. The rows are the sample. The variance
of such a ratio is HC3 (MacKinnon and White 1985), close to the jackknife's: each row's residual is divided by 1 − the
row's share of the tokens, so that the interval also holds for few rows of unequal lengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from .comparisons import applied_spreads, run_spreads
from .gap import GapRow
from .stats import LEVEL, Estimate, RunSpread, holm, run_spread

if TYPE_CHECKING:
    from .stats import Table

# Nats: the prior of the run-to-run spread. The smallest of 0.01, 0.02, 0.03 and 0.04 with which about 5 % of simulated
# families at most hold a false word, for true spreads of 0 to 0.03 nats and few or many rows (docs/calibration.md).
PRIOR_SPREAD = 0.03

Losses = Mapping[str, GapRow]
"""One run's rows by id: `nll` (nats per token, None if not scored, then with `error`) and `tokens`."""


@dataclass(frozen=True, slots=True)
class LossPair:
    """The runs of two arms. `both_trained` is False if `against` is the seed. `given`: the arm is a checkpoint."""

    arm: str
    against: str
    mine: Sequence[Losses]
    other: Sequence[Losses]
    both_trained: bool
    given: bool = False


def mean_loss(runs: Sequence[Losses]) -> dict[str, Any]:
    """An arm's mean over the `n` rows that were scored in all its runs, with its 95 % interval (None for fewer than two
    rows), and how many rows were not scored, by reason. `runs` has each run's mean if there are several. A row may be
    missing from some runs."""
    keys = _scored(runs)
    reasons = ((run[key].get("error") for run in runs if key in run and run[key]["nll"] is None) for key in runs[0])
    unscored = Counter(first or "not scored" for each in reasons for first in list(each)[:1])
    row: dict[str, Any] = {"n": len(keys), "tokens": 0, "unscored": dict(unscored)}
    row |= dict.fromkeys(("value", "low", "high"))
    if not keys:
        return row
    table, weights = _tables(runs, keys)
    spread = run_spread([table], PRIOR_SPREAD)
    estimate = _estimate(table.mean(axis=0), weights, [(spread, len(runs))])
    row |= {"tokens": _tokens(runs, keys), "value": estimate.centre}
    row |= {"runs": table.mean(axis=1).tolist()} if len(runs) > 1 else {}
    if len(keys) > 1:
        row["low"], row["high"] = estimate.interval(0.0, inf)
    return row


def compare_losses(pairs: Iterable[LossPair]) -> list[dict[str, Any]]:
    """Compare each pair on the rows that were scored in all runs of both arms; pairs with fewer than two such rows are
    left out. `difference` is arm − against in nats per token, with its 95 % interval.

    p-values are corrected (Holm) over the arms that are compared with the seed, and over those compared with a baseline
    arm. The word is "lower" or "higher" if the corrected p-value is below 0.05, else "can't tell". With several runs
    the spread between runs is estimated as for scores, with the prior `PRIOR_SPREAD`.
    """
    rows = [_compared(pair, keys) for pair in pairs if len(keys := _scored([*pair.mine, *pair.other])) > 1]
    for both_trained in (False, True):
        family = [row for row, trained in rows if trained == both_trained]
        for row, p in zip(family, holm([row["p_value"] for row in family]), strict=True):
            side = "lower" if row["high"] < 0 else "higher" if row["low"] > 0 else None
            row |= {"p_holm": p, "word": side if side and p < LEVEL else "can't tell"}
    return [row for row, _ in rows]


def _compared(pair: LossPair, keys: Sequence[str]) -> tuple[dict[str, Any], bool]:
    mine, weights = _tables(pair.mine, keys)
    other, _ = _tables(pair.other, keys)
    spreads = run_spreads([mine], [other], pair.both_trained, PRIOR_SPREAD)
    spreads = applied_spreads(*spreads, len(mine), len(other), pair.both_trained)
    changes = mine.mean(axis=0) - other.mean(axis=0)
    estimate = _estimate(changes, weights, list(zip(spreads, (len(mine), len(other)), strict=True)))
    low, high = estimate.interval(-inf, inf)
    row = {
        "arm": pair.arm,
        "against": pair.against,
        "n": len(keys),
        "tokens": _tokens(pair.mine, keys),
        "difference": estimate.centre,
        "low": low,
        "high": high,
        "p_value": estimate.p_zero(),
        "test": "t over rows and runs" if estimate.trained else "t over rows",
        "runs": 0 if pair.given else min(len(mine), len(other)) if pair.both_trained else len(mine),
    }
    return row, pair.both_trained


def _scored(runs: Sequence[Losses]) -> list[str]:
    """The rows that were scored in every run, in the order of the first run."""
    return [key for key in runs[0] if all(run.get(key, {}).get("nll") is not None for run in runs)]


def _tokens(runs: Sequence[Losses], keys: Sequence[str]) -> int:
    return sum(runs[0][key]["tokens"] for key in keys)


def _tables(runs: Sequence[Losses], keys: Sequence[str]) -> tuple[Table, Any]:
    """Each row's loss times its weight, shape (runs, rows), so that the mean over rows is the mean over tokens; and the
    weights, each row's tokens as a multiple of their mean."""
    import numpy as np

    tokens = np.array([runs[0][key]["tokens"] for key in keys], dtype=float)
    weights = tokens / tokens.mean()
    return np.array([[run[key]["nll"] for key in keys] for run in runs]) * weights, weights


def _estimate(values: Any, weights: Any, spreads: Sequence[tuple[RunSpread | None, int]]) -> Estimate:
    """The mean of weighted `values`, one per row."""
    n, centre = len(values), float(values.mean())
    trained = tuple((spread, runs) for spread, runs in spreads if spread)
    if n < 2:
        return Estimate(centre, 0.0, n, trained)
    residuals = (values - centre * weights) / (1 - weights / n)
    return Estimate(centre, float((residuals**2).sum()) / n**2, n, trained)
