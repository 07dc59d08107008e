"""Comparisons of arms against published or independently computed figures, and against simulated truths."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from calibration import Design, decided_at_needed, draw, simulate
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from support.comparisons import MARGIN, pair

from selfdistill.measure.comparisons import Comparison, Pair, compare, word
from selfdistill.measure.planning import ASSUMED_DISAGREEMENT, runs_needed, smallest_change, smallest_drop
from selfdistill.measure.stats import LEVEL, Values, mcnemar


def one(gained: int, lost: int, same: int) -> Comparison:
    (row,) = compare([pair("maths", gained, lost, same)], MARGIN)
    return row


def against_seed(runs: Sequence[Values], seed: Values, margin: float = MARGIN) -> Comparison:
    (row,) = compare([Pair("maths", "vanilla", "seed", runs, [seed])], margin)
    return row


def test_pairs_are_counted_and_the_interval_is_bonett_and_prices() -> None:
    row = one(5, 45, 50)
    assert (row.n, row.gained, row.lost, row.difference, row.test) == (100, 5, 45, -0.4, "mcnemar")
    # −40/102 ± 1.96 · √((52/102 − (40/102)²) / 102)
    assert (row.low, row.high) == pytest.approx((-0.50795, -0.27636), abs=1e-5)
    assert (row.word, row.runs, row.needed) == ("forgot", 1, None)


def test_only_items_that_all_runs_have_are_compared() -> None:
    assert compare([Pair("maths", "vanilla", "seed", [{}], [{1: 1.0}])], MARGIN) == []
    row = against_seed([{1: 1.0, 2: 0.0}, {1: 1.0, 3: 0.0}], {1: 0.0, 2: 1.0, 3: 1.0})
    assert (row.n, row.difference) == (1, 1.0)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 100))
def test_comparisons_are_symmetric(gained: int, lost: int, same: int) -> None:
    there, back = one(gained, lost, same), one(lost, gained, same)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low <= there.difference <= there.high
    assert there.p_value == pytest.approx(back.p_value)


def test_graded_values_in_one_run_are_compared_by_a_t_test() -> None:
    rng = np.random.default_rng(1)
    other = rng.random(300)
    mine = np.clip(other - 0.02 + 0.15 * rng.standard_normal(300), 0, 1)
    row = against_seed([dict(enumerate(mine))], dict(enumerate(other)))
    known = ttest_1samp(np.append(mine - other, [1, -1]), 0)  # with the two made-up items
    interval = known.confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=2e-4)
    assert row.p_value == pytest.approx(known.pvalue, rel=0.05)
    assert row.test == "t over items"


def test_a_few_items_that_agree_tell_little() -> None:
    assert against_seed([dict.fromkeys(range(3), 0.5)], dict.fromkeys(range(3), 0.5)).word == "can't tell"


def test_the_spread_of_the_runs_widens_the_interval() -> None:
    seed: Values = dict.fromkeys(range(200), 1.0)
    alike = [{n: float(n % 10 != run) for n in range(200)} for run in range(3)]  # each run loses 10 %
    apart = [{n: float(n % 10 >= lost) for n in range(200)} for lost in (0, 1, 2)]  # 0, 10 and 20 %
    narrow, wide = against_seed(alike, seed), against_seed(apart, seed)
    assert narrow.difference == pytest.approx(wide.difference) == pytest.approx(-0.1)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert (narrow.runs, narrow.test) == (3, "t over items and runs")
    assert (narrow.word, wide.word) == ("forgot", "can't tell")
    assert wide.needed is None  # more items do not shrink the spread of the runs


def test_an_arm_with_one_run_borrows_the_spread_of_the_other_arm() -> None:
    three = [{n: float(n % 10 >= lost) for n in range(200)} for lost in (0, 1, 2)]
    both, seed = (
        compare([Pair("maths", "a", "b", three, three[1:2], both_trained=trained)], MARGIN)[0]
        for trained in (True, False)
    )
    assert both.high - both.low > 1.5 * (seed.high - seed.low)
    assert (both.runs, seed.runs) == (1, 3)


def test_holm_correction_can_take_back_a_word() -> None:
    # 8 lost of 40 tells alone (p = 0.008), and among ten such tasks no more.
    rows = compare([pair(str(lost), 0, lost, 40 - lost) for lost in (2, 8, 3, 1, 0, 11, 4, 2, 2, 1)], MARGIN)
    assert one(0, 8, 32).word == "forgot"
    assert (rows[1].word, rows[5].word) == ("can't tell", "forgot")
    assert rows[5].needed is None


def test_families_are_kept_apart() -> None:
    one_family = [pair("maths", 0, 8, 32), pair("code", 0, 8, 32)]
    rows = compare([*one_family, Pair("maths", "sdft", "seed", one_family[0].mine, one_family[0].other)], MARGIN)
    assert [row.p_holm / row.p_value for row in rows] == pytest.approx([2, 2, 1])


def test_kept_is_corrected_over_the_tasks() -> None:
    alone = one(11, 12, 577)
    family = compare([pair(str(task), 11, 12, 577) for task in range(7)] + [pair("large", 30, 60, 510)], MARGIN)
    assert (alone.word, alone.unchanged) == ("kept", True)
    assert family[-1].p_kept == pytest.approx(one(30, 60, 510).p_kept)  # the last step of Holm
    assert family[0].p_kept == pytest.approx(8 * alone.p_kept)


def test_a_share_of_items_lost_at_the_margin_is_not_kept_for_few_losses() -> None:
    """3 lost of 200 are no rare sight if 5 % are lost in truth (p = 0.009), whatever the sample's own variance."""
    assert one(0, 3, 197).p_kept > 0.009


def test_no_change_is_not_said_of_an_interval_without_zero() -> None:
    pairs = [pair(str(task), 30, 30, 1259) for task in range(7)] + [pair("it", 21, 43, 1255)]
    row = compare(pairs, MARGIN)[-1]
    assert row.difference == pytest.approx(-0.017, abs=5e-4)
    assert row.high < 0
    assert (row.word, row.unchanged) == ("kept", False)
    assert one(30, 30, 1259).unchanged


def test_each_word_follows_from_interval_and_margin() -> None:
    assert word(-0.2, -0.01, 0.01, 1.0) == "forgot"
    assert word(0.01, 0.2, 0.01, 0.0) == "gained"
    assert word(-0.04, 0.03, 0.5, 0.02) == "kept"
    assert word(-0.06, 0.03, 0.5, 0.03) == "can't tell"
    assert word(-0.2, -0.01, 0.06, 0.5) == "can't tell"


def test_a_large_gain_that_is_not_significant_is_not_called_unchanged() -> None:
    gain, none, same = one(5, 0, 40), one(0, 0, 10), one(0, 0, 2000)
    assert (gain.word, gain.unchanged) == ("kept", False)
    assert not none.unchanged  # ten items rule out little
    assert (same.word, same.unchanged) == ("kept", True)


def test_the_margin_is_the_users() -> None:
    rows = [compare([pair("maths", 11, 12, 577)], margin)[0] for margin in (0.01, 0.05)]
    assert [row.word for row in rows] == ["can't tell", "kept"]


# ---- simulated truths: few families here, more in benchmarks/calibration.py; the tolerances are three standard errors


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_runs_that_differ_are_seldom_taken_for_a_change(runs: int) -> None:
    alarms = [simulate(Design(runs, spread), 150, seed=runs).false_alarm for spread in (0.0, 0.02, 0.04)]
    assert max(alarms) <= 0.05 + 0.053
    assert np.mean(alarms) <= 0.05


def test_one_run_is_right_about_itself_and_not_about_the_arm() -> None:
    assert simulate(Design(1, 0.0), 150).false_alarm <= 0.05 + 0.053
    assert simulate(Design(1, 0.04), 50).false_alarm > 0.4


def test_a_drop_of_ten_points_is_found_with_three_runs() -> None:
    assert simulate(Design(3, 0.02, drop=0.1), 200).found >= 0.8 - 0.085


@pytest.mark.parametrize("design", [Design(1, n=1000), Design(1, baseline=0.99), Design(3, 0.02, n=600)])
def test_kept_is_seldom_said_of_a_drop_by_the_margin(design: Design) -> None:
    assert simulate(replace(design, drop=MARGIN, all_drop=True), 150).wrongly_kept <= 0.05 + 0.053


@pytest.mark.parametrize(("gained", "lost", "n", "tasks"), [(6, 14, 200, 1), (6, 14, 200, 8), (10, 12, 200, 8)])
def test_so_many_items_decide_in_four_of_five_cases(gained: int, lost: int, n: int, tasks: int) -> None:
    needed, share = decided_at_needed(gained, lost, n, tasks, 300)
    assert needed is not None
    assert needed > n
    assert 0.75 - 0.03 <= share <= 0.85 + 0.03


def test_the_runs_that_would_be_needed_are_those_of_the_simulations() -> None:
    """With 200 items per task 3 runs find a drop of 10 points and 2 do not; with 500 items 2 are enough."""
    rng = np.random.default_rng(2)
    single = {n: compare(draw(rng, Design(1, 0.02, n=n)), MARGIN) for n in (50, 200, 500)}
    assert [runs_needed(rows, 0.1) for rows in single.values()] == [None, 3, 2]
    drops = [smallest_drop(rows) or 1.0 for rows in single.values()]
    assert drops[0] > 0.1 > drops[1] > drops[2]


@pytest.mark.parametrize(("n", "tasks"), [(100, 1), (200, 9), (500, 4)])
def test_the_smallest_change_is_found_in_four_of_five_cases(n: int, tasks: int) -> None:
    drop = smallest_change(n, tasks)
    assert drop is not None
    changed = np.hypot(ASSUMED_DISAGREEMENT, drop)
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, [(changed - drop) / 2, (changed + drop) / 2, 1 - changed], size=2000)
    found = np.mean([mcnemar(int(gained), int(lost)) < LEVEL / tasks for gained, lost, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.04)


def test_the_smallest_change_shrinks_with_items_and_grows_with_tasks() -> None:
    changes = [smallest_change(n, 1) for n in (50, 200, 1000)]
    assert sorted(filter(None, changes), reverse=True) == changes
    assert (smallest_change(200, 9) or 0) > (smallest_change(200, 1) or 1)
    assert smallest_change(3, 1) is None
