"""Simulates gates with a known truth, and counts how often each exit code is right or wrong.

`python benchmarks/gate_calibration.py` prints the tables of docs/calibration.md; `--quick` draws a tenth of the pairs.
The decisions of all pairs of a design are computed at once, from the counts of gained and lost items. The first pairs
of each design also go through `selfdistill.measure.noninferiority.gate`, look by look, as `selfdistill gate` does; the
script stops if one decision differs. `--real` puts every pair through it, which takes ten times as long.

A pair is a seed and a candidate on twelve skills, of which the seed is right on 15 to 85 % of the items. An item has a
difficulty that both models share: in the latent normal scale their answers correlate by `alike`. At an accuracy of one
half about 2 % of the answers differ between two runs of one greedy model (0.998: other batches, another dtype), 14 %
between two trainings (0.9), and 29 % between two samples (0.6).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from scipy.special import bdtr, ndtr, ndtri

from selfdistill.measure import comparisons, noninferiority
from selfdistill.measure.comparisons import Pair, compare
from selfdistill.measure.looks import _table
from selfdistill.measure.noninferiority import FORGOT, LOOKS, Information, decide
from selfdistill.measure.stats import quantile
from selfdistill.pipeline.difficulty import uninformative

MARGIN = THRESHOLD = 0.05
SKILLS = 12
RATES = np.linspace(0.15, 0.85, SKILLS)
ONE_LOOK = (1.0,)
_CHECKED = 25  # pairs of each design whose decisions are compared with those of the gate itself


@dataclass(frozen=True)
class Design:
    """Pairs of models on `SKILLS` skills with `n` items each. `drop` is the true loss in one skill, `all_drop` in each.
    `spread` is the standard deviation of further true changes of single skills, whose mean over the skills is 0. Items
    of a `template`, which are so many, share the part `clustered` of what differs between the models."""

    n: int
    alike: float = 0.9
    drop: float = 0.0
    all_drop: float = 0.0
    spread: float = 0.0
    template: int = 1
    clustered: float = 0.0
    choosing: int = 0
    looks: tuple[float, ...] = LOOKS


@dataclass(frozen=True)
class Shares:
    """Shares of the pairs by exit code, with the dropped skill found, and stopped by a fixed threshold: for some skill,
    or for the mean. `asked` is the mean share of the items that was asked."""

    passed: float
    forgot: float
    undecided: float
    found: float
    asked: float
    fixed_skill: float
    fixed_mean: float


def draw(rng: np.random.Generator, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong of the candidate and the seed, each of shape (skills, n), in a random order of the items."""
    shape = SKILLS, design.n
    common, noise = rng.standard_normal(shape), rng.standard_normal((2, *shape))
    if design.clustered:
        groups = -(-design.n // design.template)
        by_template = np.repeat(rng.standard_normal((2, SKILLS, groups)), design.template, axis=2)[:, :, : design.n]
        noise = np.sqrt(design.clustered) * by_template + np.sqrt(1 - design.clustered) * noise
        order = rng.permutation(design.n)
        common, noise = common[:, order], noise[:, :, order]
    latent = np.sqrt(design.alike) * common + np.sqrt(1 - design.alike) * noise
    changes = design.spread * rng.standard_normal(SKILLS)
    changes -= changes.mean() + design.all_drop
    changes[rng.integers(SKILLS)] -= design.drop
    rates = np.clip(RATES + changes, 0.002, 0.998)
    return latent[0] < ndtri(rates)[:, None], latent[1] < ndtri(RATES)[:, None]


def simulate(design: Design, pairs: int, real: bool = False, seed: int = 0) -> Shares:
    """The shares over `pairs` drawn pairs of models. Raises AssertionError if a decision is not the gate's."""
    rng, gates, counts, losses, told = np.random.default_rng(seed), [], [], [], []
    for number in range(pairs):
        mine, other = draw(rng, design)
        told.append(_informative(rng, design))
        losses.append(other.mean(axis=1) - mine.mean(axis=1))
        counts.append(_counts(mine, other, design.looks))
        if real or number < _CHECKED:
            gates.append(_gate(mine, other, design.looks, told[-1]))
    found = _decisions(np.array(counts), None if told[0] is None else np.array(told), design)
    assert found[: len(gates)] == gates, "the decisions computed at once are not the gate's"
    codes, lower = Counter(code for code, _, _ in found), np.array(losses)
    fixed = (lower >= THRESHOLD).any(axis=1).mean(), (lower.mean(axis=1) >= THRESHOLD).mean()
    shares = [codes[code] / pairs for code in (0, FORGOT, 3)]
    others = [float(np.mean([each[part] for each in found])) for part in (1, 2)]
    return Shares(*shares, *others, *map(float, fixed))


def _informative(rng: np.random.Generator, design: Design) -> np.ndarray | None:
    """Whether each skill is informative by the seed's answers to the choosing items, if there are some."""
    if not design.choosing:
        return None
    return np.array([uninformative(right / design.choosing) is None for right in rng.binomial(design.choosing, RATES)])


Decided = tuple[int, bool, float]
"""Exit code, whether a skill is shown to have lost, and the share of the items that was asked."""


def _gate(mine: np.ndarray, other: np.ndarray, looks: tuple[float, ...], told: np.ndarray | None) -> Decided:
    """The decision of the gate itself, without the numbers of items that would decide."""
    with patch.object(comparisons, "_needed", _unknown), patch.object(noninferiority, "_needed", _unknown):
        for number, count in enumerate(_sizes_of(mine.shape[1], looks), 1):
            pairs = [
                Pair(f"skill {skill}", "candidate", "seed", [_values(own[:count])], [_values(others[:count])])
                for skill, (own, others) in enumerate(zip(mine, other, strict=True))
            ]
            kinds: dict[str, Information] | None = None
            if told is not None:
                kinds = {pair.task: "informative" if on else "floor" for pair, on in zip(pairs, told, strict=True)}
            rows = compare(pairs, MARGIN, looks[:number])
            decision = decide(pairs, rows, MARGIN, looks[:number], kinds=kinds)
            if decision.clear:
                break
    return decision.code, bool(decision.lost), looks[number - 1]


def _sizes_of(n: int, looks: tuple[float, ...]) -> list[int]:
    return [int(np.ceil(share * n)) for share in looks]


def _unknown(*_: object) -> None:
    """In place of the number of items that would decide, which no table counts."""


def _values(answers: np.ndarray) -> dict[int, float]:
    return dict(enumerate(answers.astype(float).tolist()))


# ---- many decisions at once


def _counts(mine: np.ndarray, other: np.ndarray, looks: tuple[float, ...]) -> list[list[np.ndarray]]:
    """For each look the gained and lost items, and those that the seed has right, of each skill."""
    parts = [(mine[:, :count], other[:, :count]) for count in _sizes_of(mine.shape[1], looks)]
    return [[(own & ~seed).sum(axis=1), (seed & ~own).sum(axis=1), seed.sum(axis=1)] for own, seed in parts]


def _decisions(counts: np.ndarray, chosen: np.ndarray | None, design: Design) -> list[Decided]:
    """The decisions from the counts, of shape (pairs, looks, 3, skills), and the informative skills if they were
    chosen."""
    result: list[Decided | None] = [None] * len(counts)
    for number, n in enumerate(_sizes_of(design.n, design.looks)):
        code, lost, clear = _look(counts[:, number], n, design.looks[: number + 1], chosen)
        last = number == len(design.looks) - 1
        for place in range(len(counts)):
            if result[place] is None and (clear[place] or last):
                result[place] = int(code[place]), bool(lost[place]), design.looks[number]
    return [each for each in result if each is not None]


def _look(
    counts: np.ndarray, n: int, looks: tuple[float, ...], chosen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exit codes, whether a skill is shown to have lost, and whether the decision is clear, at one look."""
    gained, lost, right = (counts[:, part].astype(float) for part in range(3))
    change, centre = (gained - lost) / n, (gained - lost) / (n + 2)
    items = ((gained + lost + 2) / (n + 2) - centre**2) / (n + 2)
    half = quantile(0.975, np.inf) * np.sqrt(items)
    low = np.minimum(np.maximum(centre - half, -1), change)
    high = np.maximum(np.minimum(centre + half, 1), change)
    changed = gained + lost
    exact = np.where(changed > 0, np.minimum(1, 2 * bdtr(np.minimum(gained, lost), changed.astype(int), 0.5)), 1.0)
    p_changed = _holm(np.minimum(1, 2 * _adjusted(exact / 2, looks)))
    least = MARGIN * (1 - MARGIN) / n
    p_kept = _holm(_adjusted(ndtr((-MARGIN - centre) / np.sqrt(np.maximum(items, least))), looks))
    forgot, gain = (p_changed < 0.05) & (high < 0), (p_changed < 0.05) & (low > 0)
    decided = forgot | gain | (p_kept < 0.025)
    share, z = right / n, 1.959963984540054
    middle, spread = (share + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n)
    wide = spread * np.sqrt(share * (1 - share) / n + z**2 / (4 * n * n))
    told = (middle + wide >= noninferiority.FLOOR) & (middle - wide <= noninferiority.CEILING)
    told = told if chosen is None else chosen
    skills = told.sum(axis=1)
    mean = (centre * told).sum(axis=1) / np.maximum(skills, 1)
    error = np.sqrt((items * told).sum(axis=1)) / np.maximum(skills, 1)
    floor = np.sqrt(least * skills) / np.maximum(skills, 1)
    within = _adjusted(ndtr((-MARGIN - mean) / np.maximum(error, floor)), looks) < 0.025
    beyond = _adjusted(ndtr((MARGIN + mean) / error), looks) < 0.025
    found = forgot.any(axis=1)
    code = np.select([found | (beyond & (skills > 0)), skills == 0, within], [FORGOT, 2, 0], 3)
    return code, found, (code == FORGOT) | ((code == 0) & (decided | ~told).all(axis=1))


def _adjusted(p: np.ndarray, looks: tuple[float, ...]) -> np.ndarray:
    """`measure.looks.adjusted` of many one-sided p-values."""
    if looks == ONE_LOOK:
        return p
    levels, nominal = _table(looks)
    with np.errstate(divide="ignore"):
        between = np.exp(np.interp(np.log(p), np.log(nominal), np.log(levels)))
    return np.where(p <= 0, 0.0, np.where(p >= nominal[-1], 1.0, np.maximum(p, between)))


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of each row."""
    order = np.argsort(p, axis=1)
    factors = np.arange(p.shape[1], 0, -1)
    raised = np.minimum(1, np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * factors, axis=1))
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, raised, axis=1)
    return corrected


# ---- the tables

SIZES = (150, 300, 600, 1200)
EQUAL = {
    "greedy, run again (2 % of the answers differ)": Design(0, alike=0.998),
    "another training (14 %)": Design(0),
    "sampled (29 %)": Design(0, alike=0.6),
    "another training, ten items per template that change alike (a fifth)": Design(0, template=10, clustered=0.2),
}
CHANGED = {
    "unchanged: greedy, run again": Design(0, alike=0.998),
    "unchanged: sampled": Design(0, alike=0.6),
    "harmless: true changes of single skills by 1 point, none on average": Design(0, spread=0.01),
    "each skill drops by 3 points": Design(0, all_drop=0.03),
    "each skill drops by 5 points, the margin": Design(0, all_drop=0.05),
    "each skill drops by 10 points": Design(0, all_drop=0.10),
    "40 other items choose the informative skills: unchanged, sampled": Design(0, alike=0.6, choosing=40),
    "40 other items choose: each skill drops by 5 points, the margin": Design(0, all_drop=0.05, choosing=40),
}
DROPS = (0.03, 0.05, 0.10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pairs: to see that it works")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="put every pair through the gate itself")
    args = parser.parse_args()
    pairs, started = args.pairs // (10 if args.quick else 1), time.monotonic()
    with ProcessPoolExecutor(args.workers) as pool:
        run = _Runner(pool, pairs, args.real)
        run.false_alarms()
        run.drops()
        run.codes()
    print(f"\n{pairs} pairs of models per figure, {time.monotonic() - started:.0f} s")


@dataclass(frozen=True)
class _Runner:
    pool: ProcessPoolExecutor
    pairs: int
    real: bool

    def shares(self, designs: Sequence[Design]) -> Iterator[Shares]:
        return self.pool.map(simulate, designs, [self.pairs] * len(designs), [self.real] * len(designs))

    def false_alarms(self) -> None:
        print("\n| equal models: stopped with exit code 1 | items per skill | one look | three looks | a skill 5 points lower | the mean 5 points lower |")  # fmt: skip  # noqa: E501
        print("|---|---|---|---|---|---|")
        for name, design in EQUAL.items():
            for n in (150, 600):
                one, three = self.shares([replace(design, n=n, looks=ONE_LOOK), replace(design, n=n)])
                print(
                    f"| {name} | {n} | {one.forgot:.1%} | {three.forgot:.1%} | {one.fixed_skill:.1%} | "
                    f"{one.fixed_mean:.1%} |",
                    flush=True,
                )

    def drops(self) -> None:
        print("\n| one of twelve skills drops: found, three looks / by a fixed threshold | " + _sizes())
        print("|---" * (1 + len(SIZES)) + "|")
        for drop in DROPS:
            row = self.shares([Design(n, drop=drop) for n in SIZES])
            cells = " | ".join(f"{each.found:.0%} / {each.fixed_skill:.0%}" for each in row)
            print(f"| {100 * drop:g} points | {cells} |", flush=True)

    def codes(self) -> None:
        print("\n| exit codes 0 / 1 / 3 in per cent, and the share of the items asked | " + _sizes())
        print("|---" * (1 + len(SIZES)) + "|")
        for name, design in CHANGED.items():
            row = self.shares([replace(design, n=n) for n in SIZES])
            cells = " | ".join(
                f"{100 * each.passed:.1f} / {100 * each.forgot:.1f} / {100 * each.undecided:.1f}, {each.asked:.0%}"
                for each in row
            )
            print(f"| {name} | {cells} |", flush=True)


def _sizes() -> str:
    return " | ".join(f"{n:,} items" for n in SIZES) + " |"


if __name__ == "__main__":
    main()
