"""Intervals and tests against published or independently computed figures."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from selfdistill.evaluate import IN_ALL_RUNS, summarise
from selfdistill.stats import (
    Comparison,
    Values,
    compare,
    corrected,
    mcnemar,
    mean_interval,
    pass_at_k,
    wilson,
    word,
)
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


def test_mcnemar_exact() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(0.021484375)  # 2 · (1 + 10) / 2**10
    assert mcnemar(9, 1) == mcnemar(1, 9)


def runs(outcomes: list[bool]) -> list[Values]:
    return [{n: float(outcome) for n, outcome in enumerate(outcomes)}]


def compared(pairs: list[tuple[bool, bool]]) -> Comparison:
    row = compare("maths", "vanilla", "seed", runs([mine for mine, _ in pairs]), runs([other for _, other in pairs]))
    assert row is not None
    return row


def test_compare_counts_pairs_and_names_by_interval() -> None:
    row = compared([(True, False)] * 5 + [(False, True)] * 45 + [(True, True)] * 50)
    assert (row.n, row.gained, row.lost, row.difference, row.test) == (100, 5, 45, -0.4, "mcnemar")
    # Bonett and Price: −40/102 ± 1.96 · √((52/102 − (40/102)²) / 102).
    assert (row.low, row.high) == pytest.approx((-0.50795, -0.27636), abs=1e-5)
    assert row.word == "forgot"


def test_compare_takes_the_items_that_all_runs_have() -> None:
    assert compare("maths", "vanilla", "seed", [{}], [{1: 1.0}]) is None
    row = compare("maths", "vanilla", "seed", [{1: 1.0, 2: 0.0}, {1: 1.0, 3: 0.0}], [{1: 0.0, 2: 1.0, 3: 1.0}])
    assert row is not None
    assert (row.n, row.difference) == (1, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_comparisons_are_symmetric(pairs: list[tuple[bool, bool]]) -> None:
    there, back = compared(pairs), compared([(other, mine) for mine, other in pairs])
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low <= there.difference <= there.high
    assert there.p_value == pytest.approx(back.p_value)


def test_graded_values_are_compared_by_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(1)
    other = rng.random(300)
    mine = np.clip(other - 0.1 + 0.05 * rng.standard_normal(300), 0, 1)
    row = compare("judged", "vanilla", "seed", [dict(enumerate(mine))], [dict(enumerate(other))])
    assert row is not None
    changes = np.append(mine - other, [1, -1])  # with the two items that are made up
    interval = bootstrap((changes,), np.mean, n_resamples=9999, method="percentile", rng=2).confidence_interval
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=0.0005)
    assert row.difference == pytest.approx(float(np.mean(mine - other)))
    assert (row.test, row.word) == ("paired bootstrap", "forgot")
    assert row.p_value == pytest.approx(2 / 10_000)  # the least that so many resamples can say


def test_a_few_items_that_agree_tell_little() -> None:
    row = compare("judged", "vanilla", "seed", [dict.fromkeys(range(3), 0.5)], [dict.fromkeys(range(3), 0.5)])
    assert row is not None
    assert row.word == "can't tell"
    low, high, _ = mean_interval([dict.fromkeys(range(3), 0.5)])
    assert high - low > 0.3


def test_the_spread_of_training_seeds_widens_the_interval() -> None:
    seed: Values = dict.fromkeys(range(200), 1.0)
    alike = [{n: float(n % 10 != run) for n in range(200)} for run in range(3)]  # each run loses 10 %
    apart = [{n: float(n % 10 >= lost) for n in range(200)} for lost in (0, 1, 2)]  # 0, 10 and 20 %
    narrow, wide = (compare("t", "vanilla", "seed", arms, [seed]) for arms in (alike, apart))
    assert narrow is not None
    assert wide is not None
    assert narrow.difference == pytest.approx(wide.difference) == pytest.approx(-0.1)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_holm_as_in_rs_p_adjust() -> None:
    row = compared([(True, True)])
    rows = [replace(row, p_value=p) for p in (0.03, 0.01, 0.04, 0.02)]
    assert [row.p_holm for row in corrected(rows)] == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_forbids_the_word() -> None:
    # 2 lost of 40 tells nothing; 8 lost of 40 does alone (p = 0.008), and among ten such tasks no more.
    rows = [compared([(False, True)] * lost + [(True, True)] * (40 - lost)) for lost in (2, 8, 3, 1, 0, 9, 4, 2, 2, 1)]
    adjusted = corrected(rows)
    assert rows[1].word == "forgot"
    assert adjusted[1].word == "can't tell"
    assert adjusted[5].word == "forgot"
    assert adjusted[5].needed is None


def test_corrected_keeps_families_apart() -> None:
    one = compared([(False, True)] * 8 + [(True, True)] * 32)
    rows = [replace(one, against=against) for against in ("seed", "seed", "vanilla")]
    assert [row.p_holm / one.p_value for row in corrected(rows)] == pytest.approx([2, 2, 1])


@given(st.integers(0, 30), st.integers(0, 30), st.integers(30, 200))  # of a handful of items nothing can be foretold
def test_so_many_items_would_tell(gained: int, lost: int, same: int) -> None:
    row = corrected([compared([(True, False)] * gained + [(False, True)] * lost + [(True, True)] * (same + 1))])[0]
    assert (row.needed is not None) == (row.word == "can't tell")
    if row.needed is not None:
        # The same shares of changed items among about so many: now it can be told.
        times = 1.2 * row.needed / row.n + 1
        more = [round(times * part) for part in (gained, lost, same + 1)]
        again = compared([(True, False)] * more[0] + [(False, True)] * more[1] + [(True, True)] * more[2])
        assert again.word != "can't tell"


def test_pass_at_k() -> None:
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
    assert how == ("wilson" if set(values) <= {0, 1} else "bootstrap")


def test_words() -> None:
    assert word(-0.2, -0.01, 0.01) == "forgot"
    assert word(0.01, 0.2, 0.01) == "gained"
    assert word(-0.04, 0.03, 0.5) == "kept"
    assert word(-0.06, 0.03, 0.5) == "can't tell"
    assert word(-0.2, -0.01, 0.06) == "can't tell"
    assert word(-0.03, -0.01, 0.06) == "kept"


def test_a_large_gain_that_is_not_significant_is_not_called_unchanged() -> None:
    """Ten items of which five got better: no loss, and no "no change" either."""
    before = {(str(n), 0): 0.0 for n in range(10)}
    after = {key: float(int(key[0]) < 5) for key in before}
    gain, none = (compare("t", "a", "b", [mine], [before]) for mine in (after, before))
    large = {(str(n), 0): 0.0 for n in range(2000)}
    same = compare("t", "a", "b", [large], [large])
    assert gain is not None
    assert none is not None
    assert same is not None
    assert (gain.word, gain.unchanged) == ("kept", False)
    assert not none.unchanged  # ten items rule out little
    assert (same.word, same.unchanged) == ("kept", True)


def test_of_several_runs_the_share_of_items_in_all_of_them_is_told() -> None:
    """Each run of ten can't judge two items of its own."""

    def row(item: int, judged: bool) -> dict[str, object]:
        bucket = "passed" if judged else "unjudged"
        return {"id": str(item), "bucket": bucket, "verdict": {"reason": "x", "value": None}}

    runs = [[row(n, n not in (2 * run, 2 * run + 1)) for n in range(10)] for run in range(3)]
    score = summarise(get_task("humaneval"), runs)
    assert (score.n, score.unjudged) == (30, 6)
    assert score.details[IN_ALL_RUNS] == 0.4
    assert IN_ALL_RUNS not in summarise(get_task("humaneval"), runs[:1]).details
