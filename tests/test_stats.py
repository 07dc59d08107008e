"""Intervals and tests against published or independently computed figures."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from selfdistill.measure.scores import IN_ALL_RUNS, summarise
from selfdistill.measure.stats import holm, mcnemar, mean_interval, pass_at_k, run_spread, table_of, wilson
from selfdistill.tasks import get_task


@pytest.mark.parametrize(("passed", "n"), [(0, 10), (10, 10), (1, 1), (37, 112), (180, 180), (519, 520)])
def test_wilson_equals_scipys(passed: int, n: int) -> None:
    interval = binomtest(passed, n).proportion_ci(0.95, method="wilson")
    assert wilson(passed, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_figure_and_stays_in_range(case: tuple[int, int]) -> None:
    passed, n = case
    low, high = wilson(passed, n)
    assert 0 <= low <= passed / n <= high <= 1


def test_wilson_refuses_what_is_no_proportion() -> None:
    for passed, n in [(0, 0), (3, 2), (-1, 5)]:
        with pytest.raises(ValueError, match="no proportion"):
            wilson(passed, n)


def test_mcnemar_is_the_exact_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(0.021484375)  # 2 · (1 + 10) / 2**10
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(31, 12) == pytest.approx(binomtest(12, 43).pvalue)


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(10, 3, 5) == pytest.approx(1 - comb(7, 5) / comb(10, 5))
    assert pass_at_k(5, 5, 5) == 1
    assert pass_at_k(2000, 1, 1000) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no pass@3"):
        pass_at_k(2, 1, 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_mean_lies_in_its_interval(values: list[float]) -> None:
    low, high, how = mean_interval([dict(enumerate(values))])
    assert low - 1e-9 <= sum(values) / len(values) <= high + 1e-9
    assert how == ("wilson" if set(values) <= {0, 1} else "t over items")


def test_a_few_items_that_agree_tell_little() -> None:
    low, high, _ = mean_interval([dict.fromkeys(range(3), 0.5)])
    assert high - low > 0.3


def test_nothing_judged_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no item was judged"):
        mean_interval([{}])


def test_the_spread_of_the_runs_widens_an_arms_interval() -> None:
    alike = [{n: float(n % 10 != run) for n in range(200)} for run in range(3)]  # 90 % each
    apart = [{n: float(n % 10 >= wrong) for n in range(200)} for wrong in (0, 1, 2)]  # 100, 90 and 80 %
    narrow, wide = mean_interval(alike), mean_interval(apart)
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert narrow[2] == "t over items and runs"
    pooled = run_spread([table_of(alike, list(alike[0]))])  # known to be small from other tasks
    low, high, _ = mean_interval(apart, pooled)
    assert high - low < wide[1] - wide[0]


def test_the_interval_over_runs_covers_the_arms_true_score() -> None:
    """300 arms with three runs on 400 items; the true scores of runs spread by 4 points around 0.7."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(300):
        tables = []
        for _task in range(4):
            easy = rng.standard_normal(400)
            rates = 0.7 + 0.04 * rng.standard_normal(3)
            latent = 0.97 * easy + np.sqrt(1 - 0.97**2) * rng.standard_normal((3, 400))
            tables.append((latent < norm.ppf(rates)[:, None]).astype(float))
        low, high, _ = mean_interval([dict(enumerate(run)) for run in tables[0]], run_spread(tables))
        covered.append(low <= 0.7 <= high)
    assert np.mean(covered) > 0.92


def test_the_spread_is_found_beyond_the_noise_of_single_answers() -> None:
    rng = np.random.default_rng(5)

    def table(spread: float) -> np.ndarray:
        rates = np.clip(0.6 + spread * rng.standard_normal(5), 0, 1)
        return (rng.random((5, 1000)) < rates[:, None]).astype(float)

    none, wide = (run_spread([table(spread) for _ in range(40)]) for spread in (0.0, 0.05))
    assert none is not None
    assert wide is not None
    assert none.variance**0.5 < 0.012
    assert wide.variance**0.5 == pytest.approx(0.05, abs=0.008)
    assert run_spread([np.ones((1, 20))]) is None


def test_holm_as_in_rs_p_adjust() -> None:
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_of_several_runs_the_share_of_items_in_all_of_them_is_told() -> None:
    """Each run of ten can't judge two items of its own."""

    def row(item: int, judged: bool) -> dict[str, object]:
        bucket = "passed" if judged else "unjudged"
        return {"id": str(item), "bucket": bucket, "grade": {"reason": "x", "value": None}}

    runs = [[row(n, n not in (2 * run, 2 * run + 1)) for n in range(10)] for run in range(3)]
    score = summarise(get_task("humaneval"), runs)
    assert (score.n, score.unjudged) == (30, 6)
    assert score.details[IN_ALL_RUNS] == 0.4
    assert IN_ALL_RUNS not in summarise(get_task("humaneval"), runs[:1]).details
