"""The gate's statistics: bounds against published ones, decisions against known truths, flips against hand counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from gate_calibration import CHANGED, EQUAL, Design, simulate
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.flips import Trait, flips, in_common
from selfdistill.measure.looks import adjusted, bounds, spent
from selfdistill.measure.noninferiority import (
    FORGOT,
    LOOKS,
    NOT_RUN,
    PASSED,
    UNDECIDED,
    Decision,
    decide,
    information,
)


def pair(skill: str, gained: int, lost: int, both: int, neither: int) -> Pair:
    mine = [1.0] * gained + [0.0] * lost + [1.0] * both + [0.0] * neither
    other = [0.0] * gained + [1.0] * lost + [1.0] * both + [0.0] * neither
    return Pair(skill, "candidate", "seed", [dict(enumerate(mine))], [dict(enumerate(other))], given=True)


def skills(count: int, *counts: int) -> list[Pair]:
    return [pair(f"skill {number}", *counts) for number in range(count)]


def gate(pairs: list[Pair], margin: float, looks: Any = (), strict: bool = False) -> tuple[list[Comparison], Decision]:
    """The comparisons of the skills, and the decision, as a gate makes them."""
    rows = compare(pairs, margin, looks)
    return rows, decide(pairs, rows, margin, looks, strict)


def test_bounds_are_the_published_ones() -> None:
    """Those of the R package gsDesign, sfLDOF, one-sided 0.025."""
    assert bounds(0.025, (0.25, 0.5, 1.0)) == pytest.approx([4.3326, 2.9631, 1.9686], abs=1e-3)
    assert bounds(0.025, (0.2, 0.4, 0.6, 0.8, 1.0)) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=1e-3)
    assert bounds(0.05, (1.0,)) == pytest.approx([1.6449], abs=1e-4)


def test_bounds_hold_the_level_in_a_simulation() -> None:
    rng = np.random.default_rng(1)
    sums = rng.standard_normal((200_000, 4)).cumsum(axis=1)[:, [0, 1, 3]]  # after a quarter, half, all
    crossed = (sums / np.sqrt([1, 2, 4]) > bounds(0.05, LOOKS)).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.002)


@given(st.floats(1e-12, 1.0), st.floats(1e-12, 1.0), st.sampled_from([LOOKS[:1], LOOKS[:2], LOOKS, (0.5, 1.0)]))
def test_an_adjusted_p_value_rises_with_the_p_value_and_is_never_smaller(p: float, q: float, looks: Any) -> None:
    assert (adjusted(p, looks) <= adjusted(q, looks)) == (p <= q) or adjusted(p, looks) == adjusted(q, looks)
    assert adjusted(p, looks) >= p * 0.999
    assert adjusted(p, (1.0,)) == p


def test_an_adjusted_p_value_is_the_level_of_its_bound() -> None:
    from scipy.special import ndtr

    for level in (0.0005, 0.004, 0.025):
        for looks in (LOOKS[:2], LOOKS):
            p = float(ndtr(-bounds(level, looks)[-1]))
            assert adjusted(p, looks) == pytest.approx(level, rel=0.01)
    assert all(one < other for one, other in pairwise(spent(0.025, share) for share in (0.1, 0.3, 0.6, 1.0)))
    assert spent(0.025, 1.0) == pytest.approx(0.025)


def test_equal_models_pass_and_a_single_loss_or_a_common_one_does_not() -> None:
    rows, passed = gate(skills(12, 20, 20, 300, 260), 0.05)
    assert (passed.code, passed.lost) == (PASSED, [])
    assert passed.mean
    assert passed.mean.within
    assert {row.runs for row in rows} == {0}
    one = [*skills(11, 20, 20, 300, 260), pair("code", 10, 90, 250, 250)]
    assert (gate(one, 0.05)[1].code, gate(one, 0.05)[1].lost) == (FORGOT, ["code"])
    common = gate(skills(12, 20, 36, 60, 84), 0.05)[1]  # 8 points lower in each, not shown for any of them
    assert (common.code, common.lost) == (FORGOT, [])
    assert common.mean
    assert common.mean.beyond


def test_a_skill_that_nobody_was_judged_on_keeps_the_gate_from_passing() -> None:
    equal = skills(12, 20, 20, 300, 260)
    rows, found = gate([*equal, pair("judged by nobody", 0, 0, 0, 0)], 0.05)
    assert (found.code, found.absent) == (NOT_RUN, ["judged by nobody"])
    assert decide(equal, rows, 0.05, unjudged=True).code == PASSED


def test_strict_does_not_pass_with_items_left_out() -> None:
    equal = skills(3, 0, 0, 3000, 3000)
    rows, found = gate(equal, 0.05, strict=True)
    assert found.code == PASSED
    assert decide(equal, rows, 0.05, strict=True, unjudged=True).code == UNDECIDED


def test_few_items_are_undecided_and_the_needed_number_decides() -> None:
    few = gate(skills(3, 6, 7, 20, 17), 0.05)[1]
    assert few.code == UNDECIDED
    assert few.mean
    assert few.mean.needed
    times = -(-few.mean.needed // 50)
    assert gate(skills(3, 6 * times, 7 * times, 20 * times, 17 * times), 0.05)[1].code == PASSED


def test_strict_asks_for_every_skill() -> None:
    pairs = [*skills(11, 1, 1, 300, 298), pair("code", 40, 48, 30, 32)]
    assert gate(pairs, 0.05)[1].code == PASSED
    strict = gate(pairs, 0.05, strict=True)[1]
    assert (strict.code, strict.undecided) == (UNDECIDED, ["code"])


def test_skills_at_the_floor_or_ceiling_do_not_count_but_a_loss_there_does() -> None:
    scores = [0.0] * 200, [1.0] * 200, [1.0] * 60 + [0.0] * 40
    assert [*map(information, scores)] == ["floor", "ceiling", "informative"]
    low, high = pair("low", 0, 0, 2, 198), pair("high", 0, 0, 199, 1)
    decision = gate([low, high], 0.05)[1]
    assert (decision.code, decision.mean) == (NOT_RUN, None)
    assert decision.uninformative == {"low": "floor", "high": "ceiling"}
    assert gate([low, pair("high", 0, 60, 139, 1)], 0.05)[1].code == FORGOT
    assert gate([*skills(2, 3, 3, 300, 290), low], 0.05)[1].mean.skills == 2  # type: ignore[union-attr]


def test_an_early_look_needs_a_clearer_answer() -> None:
    pairs = [*skills(3, 3, 3, 70, 74), pair("code", 10, 34, 60, 46)]
    assert gate(pairs, 0.05, LOOKS)[1].code == FORGOT
    assert gate(pairs, 0.05, LOOKS[:1])[1].code == UNDECIDED
    assert gate(skills(4, 2, 62, 38, 48), 0.05, LOOKS[:1])[1].clear


def test_decisions_computed_at_once_are_those_of_the_gate_and_false_alarms_are_rare() -> None:
    """`simulate` itself compares the first decisions."""
    shares = [simulate(replace(design, n=150), 100) for design in (*EQUAL.values(), *CHANGED.values())]
    assert max(share.forgot for share in shares[:3]) <= 0.05
    assert simulate(Design(300, drop=0.25), 30).found > 0.9


# ---- flips


def test_flips_are_counted_and_guessing_is_subtracted() -> None:
    found = flips(*values(10, 20, 30, 40))
    assert found
    assert (found.lost, found.gained, found.chance, found.guessed) == (0.2, 0.1, 0.0, None)
    four = flips(*values(10, 20, 30, 40), dict.fromkeys(range(100), 4))
    assert four
    assert four.chance == pytest.approx(0.5 * 0.6 / 3)
    assert four.to_json()["right_to_wrong_adjusted"] == pytest.approx(0.1)
    assert four.to_json()["wrong_to_right_adjusted"] == pytest.approx(0.0)
    assert flips({}, {}) is None


def values(gained: int, lost: int, both: int, neither: int) -> tuple[dict[Any, float], dict[Any, float]]:
    it = pair("", gained, lost, both, neither)
    return dict(it.other[0]), dict(it.mine[0])


def test_two_models_that_only_guess_have_no_adjusted_flips() -> None:
    rng = np.random.default_rng(0)
    before, after = (dict(enumerate((rng.random(40_000) < 0.25).astype(float))) for _ in range(2))
    found = flips(before, after, dict.fromkeys(before, 4))
    assert found
    assert found.lost == pytest.approx(3 / 16, abs=0.01)
    assert found.to_json()["right_to_wrong_adjusted"] < 0.01


def test_what_forgotten_items_have_in_common_is_named_only_if_a_test_shows_it() -> None:
    rng = np.random.default_rng(2)
    before = dict.fromkeys(range(400), 1.0)
    language = {key: ("German", "English", "French")[key % 3] for key in before}
    after = {key: float(rng.random() > (0.4 if language[key] == "German" else 0.05)) for key in before}
    length = {key: float(rng.random()) for key in before}
    found = in_common([Trait("t", "language", language), Trait("t", "length", length)], {"t": before}, {"t": after})
    assert (found[0]["trait"], found[0]["value"]) == ("language", "German")
    assert found[0]["forgotten"] > found[0]["kept"]
    assert {row["trait"] for row in found} == {"language"}


def test_traits_of_random_losses_are_rarely_named() -> None:
    rng, named = np.random.default_rng(3), 0
    for _ in range(60):
        before = dict.fromkeys(range(120), 1.0)
        after = {key: float(rng.random() > 0.2) for key in before}
        kind = {key: "abcd"[int(rng.integers(4))] for key in before}
        size = {key: float(rng.random()) for key in before}
        named += bool(in_common([Trait("t", "kind", kind), Trait("t", "size", size)], {"t": before}, {"t": after}))
    assert named <= 7
