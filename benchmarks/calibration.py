"""Simulates experiments with a known truth, and counts how often the verdict's words are wrong or missing.

`python benchmarks/calibration.py` prints the figures of docs/calibration.md and more; `--quick` draws an eighth of the
families. Every family goes through `selfdistill.measure.comparisons.compare`, which also makes the verdict.

An item has a difficulty that all models share. The seed answers it once, and each training run of an arm answers it
once. In the latent normal scale the seed and a run correlate by 0.9, two runs of an arm by 0.95: at an accuracy of one
half about 14 % and 10 % of items then differ. The true score of a run varies around the arm's by the spread.

The words of the mean change over the tasks (`selfdistill.measure.means`) and of the held-out loss
(`selfdistill.measure.row_losses`) are simulated too (`--only means`, `--only losses`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.special import ndtri

from selfdistill.measure import row_losses
from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.means import compare_means
from selfdistill.measure.row_losses import Losses, LossPair, compare_losses
from selfdistill.measure.stats import Values

BASELINES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MARGIN = 0.05
_SEED_TO_ARM, _RUN_TO_RUN = 0.9, 0.95


@dataclass(frozen=True)
class Design:
    """A family of `tasks` with `n` items each. With `other_runs` the other arm is trained too, that many times.
    `spread` is the standard deviation of the true score between runs, `shared` the part of its variance that all
    tasks of a run share. `drop` is the true loss in the first task, `all_drop` in each task."""

    runs: int
    spread: float = 0.0
    n: int = 200
    tasks: int = 8
    drop: float = 0.0
    all_drop: bool = False
    shared: float = 0.0
    other_runs: int = 0
    baseline: float | None = None
    graded: bool = False


def draw(rng: np.random.Generator, design: Design) -> list[Pair]:
    """Draw a family: an arm and the seed, or two arms with the same true scores before the drop."""
    rates = rng.permutation(BASELINES) if design.baseline is None else np.full(len(BASELINES), design.baseline)
    rates = np.resize(rates, design.tasks)
    effects = [rng.standard_normal(design.runs), rng.standard_normal(max(1, design.other_runs))]
    pairs = []
    for task, rate in enumerate(rates):
        drop = design.drop if design.all_drop or task == 0 else 0.0
        easy = rng.standard_normal(design.n)
        mine = _runs(rng, design, easy, rate - drop, effects[0])
        other = (
            _runs(rng, design, easy, rate, effects[1]) if design.other_runs else [_answers(design, easy[None], rate)]
        )
        trained = design.other_runs > 0
        pairs.append(Pair(f"task {task}", "arm", "other", _values(mine), _values(other), both_trained=trained))
    return pairs


def _runs(
    rng: np.random.Generator, design: Design, easy: np.ndarray, rate: float, effects: np.ndarray
) -> list[np.ndarray]:
    own = rng.standard_normal(len(easy))
    mixed = np.sqrt(design.shared) * effects + np.sqrt(1 - design.shared) * rng.standard_normal(len(effects))
    answers = 2 if design.graded else 1
    latent = _SEED_TO_ARM * easy + np.sqrt(_RUN_TO_RUN - _SEED_TO_ARM**2) * own
    return [
        _answers(
            design,
            latent + np.sqrt(1 - _RUN_TO_RUN) * rng.standard_normal((answers, len(easy))),
            float(np.clip(rate + design.spread * effect, 0.002, 0.998)),
        )
        for effect in mixed
    ]


def _answers(design: Design, latent: np.ndarray, rate: float) -> np.ndarray:
    """Right or wrong; a graded value is the mean of two answers, as from a judge that is asked in both orders."""
    return np.asarray((latent < ndtri(rate)).mean(axis=0))


def _values(runs: Iterable[np.ndarray]) -> list[Values]:
    return [dict(enumerate(run.tolist())) for run in runs]


@dataclass(frozen=True)
class Shares:
    """Shares of families: with a wrong "forgot" or "gained", with the dropped task found, with a wrong "kept"."""

    false_alarm: float
    found: float
    wrongly_kept: float


def simulate(design: Design, families: int, seed: int = 0) -> Shares:
    rng = np.random.default_rng(seed)
    rows = [compare(draw(rng, design), MARGIN) for _ in range(families)]
    unmoved = [() if design.all_drop else family[1:] if design.drop else family for family in rows]
    moved = [family if design.all_drop else family[:1] if design.drop else [] for family in rows]
    first = [family[:1] for family in moved]
    return Shares(_share(unmoved, ("forgot", "gained")), _share(first, ("forgot",)), _share(moved, ("kept",)))


def _share(families: Sequence[Sequence[Comparison]], words: tuple[str, ...]) -> float:
    return sum(any(row.word in words for row in family) for family in families) / len(families)


def simulate_means(design: Design, families: int, seed: int = 0) -> Shares:
    """The same for the mean change over the tasks: with `all_drop` each task drops, else none does."""
    rng = np.random.default_rng(seed)
    words = [compare_means(draw(rng, design), MARGIN)[0].word for _ in range(families)]
    found, kept, gained = (words.count(word) / families for word in ("forgot", "kept", "gained"))
    return Shares(0.0 if design.all_drop else found + gained, found, kept)


def decided_at_needed(
    gained: int, lost: int, n: int, tasks: int, samples: int, seed: int = 0
) -> tuple[int | None, float]:
    """N for 80 % power of a comparison with these changed items among `tasks`, and the share of new samples of N
    items that are decided. The other tasks are drawn without a change and stay undecided."""
    rng = np.random.default_rng(seed)
    other = [_changes(f"other {task}", 10, 10, 150) for task in range(1, tasks)]
    pilot = compare([_changes("it", gained, lost, n), *other], MARGIN)[0]
    if pilot.needed is None:
        return None, 0.0
    chances = [gained / n, lost / n, 1 - (gained + lost) / n]
    words = []
    for _ in range(samples):
        up, down, _same = rng.multinomial(pilot.needed, chances)
        words.append(compare([_changes("it", int(up), int(down), pilot.needed), *other], MARGIN)[0].word)
    return pilot.needed, sum(word != "can't tell" for word in words) / samples


def _changes(task: str, gained: int, lost: int, n: int) -> Pair:
    mine = dict(enumerate([1.0] * gained + [0.0] * (n - gained)))
    other = dict(enumerate([0.0] * gained + [1.0] * lost + [0.0] * (n - gained - lost)))
    return Pair(task, "arm", "seed", [mine], [other])


# ---- the held-out loss


@dataclass(frozen=True)
class LossDesign:
    """`arms` arms, each trained `runs` times, on the same `n` rows, none of which is better than the seed. `spread` is
    the standard deviation of a run's true mean loss in nats, `rows` that of an arm's change of single rows. Each arm
    but the first is compared with the first, and all with the seed. `change` is the true change of the last arm."""

    runs: int
    spread: float = 0.0
    n: int = 200
    arms: int = 3
    rows: float = 0.3
    change: float = 0.0


def draw_losses(rng: np.random.Generator, design: LossDesign) -> tuple[list[LossPair], list[float]]:
    """A family of comparisons, and the true difference that the word of each is about: after a single run that of this
    run, else that of the arms."""
    tokens = np.maximum(1, rng.lognormal(4, 0.8, design.n)).astype(int)
    level = rng.lognormal(0.3, 0.5, design.n)  # rows are hard for all models
    noise = design.rows / 3  # of single rows between the runs of an arm
    seed, arms, truths = [_losses(level, tokens)], [], []
    for place in range(design.arms):
        mean = design.change if place == design.arms - 1 else 0.0
        effects = mean + design.spread * rng.standard_normal(design.runs)
        own = level + design.rows * rng.standard_normal(design.n)
        arms.append([_losses(own + noise * rng.standard_normal(design.n) + each, tokens) for each in effects])
        truths.append(float(effects[0]) if design.runs == 1 else mean)
    pairs = [LossPair(f"arm {place}", "seed", arm, seed, False) for place, arm in enumerate(arms)]
    pairs += [LossPair(f"arm {place}", "arm 0", arm, arms[0], True) for place, arm in enumerate(arms) if place]
    return pairs, [*truths, *(truth - truths[0] for truth in truths[1:])]


def _losses(values: np.ndarray, tokens: np.ndarray) -> Losses:
    rows = enumerate(zip(values.tolist(), tokens.tolist(), strict=True))
    return {str(place): {"nll": value, "tokens": count} for place, (value, count) in rows}


@dataclass(frozen=True)
class LossShares:
    """Shares of families with a false "lower" or "higher", against the seed and against another arm, and the share in
    which the change of the last arm against the seed is found."""

    against_seed: float
    against_arm: float
    found: float


def simulate_losses(
    design: LossDesign, families: int, seed: int = 0, prior: float = row_losses.PRIOR_SPREAD
) -> LossShares:
    """`prior` replaces the prior of the run-to-run spread."""
    rng, wrong, found = np.random.default_rng(seed), np.zeros(2), 0
    for _ in range(families):
        pairs, truths = draw_losses(rng, design)
        with patch.object(row_losses, "PRIOR_SPREAD", prior):
            rows = compare_losses(pairs)
        signs = [{"lower": -1, "higher": 1}.get(row["word"], 0) for row in rows]
        false = [sign != 0 and sign * truth <= 0 for sign, truth in zip(signs, truths, strict=True)]
        wrong += any(false[: design.arms]), any(false[design.arms :])
        found += bool(signs[design.arms - 1])
    return LossShares(float(wrong[0]) / families, float(wrong[1]) / families, found / families)


# ---- the tables

SPREADS = (0.0, 0.02, 0.04)
SIDES = {
    "1 run": Design(1),
    "2 runs": Design(2),
    "3 runs": Design(3),
    "5 runs": Design(5),
    "3 runs against 3 of another arm": Design(3, other_runs=3),
    "3 runs against 1 of another arm": Design(3, other_runs=1),
}
HARDER = {
    "half of the spread shared by the tasks of a run": Design(3, n=500, shared=0.5),
    "the same, 2 runs": Design(2, n=500, shared=0.5),
    "all of it shared": Design(3, n=500, shared=1.0),
    "all of it shared, 2 runs": Design(2, n=500, shared=1.0),
    "1 task": Design(3, n=500, tasks=1),
    "1 task, 2 runs": Design(2, n=500, tasks=1),
    "3 tasks": Design(3, n=500, tasks=3),
    "graded values": Design(3, graded=True),
    "seed at 95 %, 100 items": Design(3, n=100, baseline=0.95),
    "seed at 20 %, 100 items": Design(3, n=100, baseline=0.2),
}
DROPS = {
    "1 run": Design(1, n=1000),
    "1 run, seed at 99 %, 200 items": Design(1, baseline=0.99),
    "2 runs": Design(2, n=1000),
    "3 runs": Design(3, n=1000),
    "5 runs": Design(5, n=1000),
    "3 runs, seed at 99 %, 200 items": Design(3, baseline=0.99),
}
MEANS = {
    "1 run": Design(1, shared=0.5),
    "2 runs": Design(2, shared=0.5),
    "3 runs": Design(3, shared=0.5),
    "5 runs": Design(5, shared=0.5),
    "3 runs, all of the spread shared": Design(3, shared=1.0),
    "2 runs, all of the spread shared": Design(2, shared=1.0),
    "3 runs, nothing shared": Design(3),
    "3 runs against 3 of another arm": Design(3, other_runs=3, shared=0.5),
    "3 runs against 1 of another arm": Design(3, other_runs=1, shared=0.5),
}
PLANNED = ((6, 14, 200, 1), (6, 14, 200, 8), (10, 12, 200, 1), (10, 12, 200, 8), (12, 30, 300, 8), (16, 10, 100, 8))


LOSS_SPREADS = (0.0, 0.01, 0.03)
LOSS_SIDES = {
    "1 run": LossDesign(1),
    "2 runs": LossDesign(2),
    "3 runs": LossDesign(3),
    "2 runs, rows that change alike": LossDesign(2, n=1000, rows=0.1),
    "3 runs, rows that change alike": LossDesign(3, n=1000, rows=0.1),
}
PRIORS = (0.01, 0.02, 0.03, 0.04)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the families: to see that it works")
    parser.add_argument("--families", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["scores", "means", "losses"])
    args = parser.parse_args()
    families, started = args.families // (8 if args.quick else 1), time.monotonic()
    with ProcessPoolExecutor(args.workers) as pool:
        for name, tables in (("scores", _score_tables), ("means", _mean_tables), ("losses", _loss_tables)):
            if args.only in (None, name):
                tables(pool, families)
    seconds = time.monotonic() - started
    print(f"\n{families} families per figure (half at 1,000 items, four times as many for N), {seconds:.0f} s")


def _score_tables(pool: ProcessPoolExecutor, families: int) -> None:
    _table(pool, "Families with a wrong forgot or gained, 200 items per task", SIDES, families, "false_alarm")
    larger = {name: replace(design, n=1000) for name, design in SIDES.items()}
    _table(pool, "The same with 1,000 items per task", larger, families // 2, "false_alarm")
    _table(pool, "The same in harder cases", HARDER, families, "false_alarm", SPREADS[1:])
    dropped = {name: replace(design, drop=0.1) for name, design in SIDES.items()}
    _table(pool, "A drop of 10 points in one of eight tasks is found, 200 items", dropped, families, "found")
    at_margin = {name: replace(design, drop=MARGIN, all_drop=True) for name, design in DROPS.items()}
    _table(pool, "Families with a wrong kept, all tasks drop by the margin", at_margin, families, "wrongly_kept")
    print("\n| items, of them gained and lost | tasks | N for 80 % | decided at N |\n|---|---|---|---|")
    jobs = [pool.submit(decided_at_needed, *planned, 4 * families) for planned in PLANNED]
    for (gained, lost, n, tasks), job in zip(PLANNED, jobs, strict=True):
        needed, share = job.result()
        print(f"| {n}, {gained} and {lost} | {tasks} | {needed} | {share:.0%} |", flush=True)


def _mean_tables(pool: ProcessPoolExecutor, families: int) -> None:
    """Eight tasks of 200 items."""
    tables: list[tuple[str, str, dict[str, Any]]] = [
        ("The mean over 8 tasks: wrong forgot or gained", "false_alarm", {}),
        ("The mean is found if all tasks drop by 3 points", "found", {"drop": 0.03, "all_drop": True}),
        ("The mean is wrongly kept, all tasks drop by the margin", "wrongly_kept", {"drop": MARGIN, "all_drop": True}),
    ]
    for title, share, change in tables:
        designs = {name: replace(design, **change) for name, design in MEANS.items()}
        _table(pool, title, designs, families, share, simulated=simulate_means)


def _loss_tables(pool: ProcessPoolExecutor, families: int) -> None:
    for prior in PRIORS:
        chosen = " (the prior of the verdict)" if prior == row_losses.PRIOR_SPREAD else ""
        title = (
            f"Families with a false lower or higher, against the seed / another arm; prior {prior:g}{chosen}; spread"
        )
        print(f"\n| {title} | " + " | ".join(f"{spread:g} nats" for spread in LOSS_SPREADS) + " |")
        print("|---" * (1 + len(LOSS_SPREADS)) + "|")
        for name, design in LOSS_SIDES.items():
            designs = [replace(design, spread=spread) for spread in LOSS_SPREADS]
            jobs = [pool.submit(simulate_losses, each, families, 0, prior) for each in designs]
            shares = [job.result() for job in jobs]
            cells = " | ".join(f"{share.against_seed:.1%} / {share.against_arm:.1%}" for share in shares)
            print(f"| {name} | {cells} |", flush=True)
        moved = {runs: LossDesign(runs, 0.01, n=1000, change=-0.05) for runs in (1, 2, 3)}
        jobs = [pool.submit(simulate_losses, each, families, 0, prior) for each in moved.values()]
        said = ", ".join(f"{runs}: {job.result().found:.0%}" for runs, job in zip(moved, jobs, strict=True))
        print(f"\nA change of -0.05 nats in one of three arms is found, 1,000 rows, spread 0.01, by runs: {said}")


def _table(
    pool: ProcessPoolExecutor,
    title: str,
    designs: dict[str, Design],
    families: int,
    share: str,
    spreads: Sequence[float] = SPREADS,
    simulated: Callable[[Design, int], Shares] = simulate,
) -> None:
    print(f"\n| {title}; spread | " + " | ".join(f"{100 * spread:.0f} points" for spread in spreads) + " |")
    print("|---" * (1 + len(spreads)) + "|")
    jobs = {
        name: [pool.submit(simulated, replace(design, spread=spread), families) for spread in spreads]
        for name, design in designs.items()
    }
    for name, row in jobs.items():
        print(f"| {name} | " + " | ".join(f"{getattr(job.result(), share):.1%}" for job in row) + " |", flush=True)


if __name__ == "__main__":
    main()
