"""What was forgotten, item by item: items that went from right to wrong and from wrong to right (Harmon et al. 2025,
arXiv 2510.17776), and what the forgotten items have in common.

A model that guesses among k choices changes right and wrong without having learnt or forgotten anything. If it knows an
item or guesses, the share (1 − a) / (k − 1) of the items is right by a guess, where a is its accuracy. With independent
guesses before and after, (1 − a₀)(1 − a₁) / (k − 1) of the items go from right to wrong by chance, and as many from
wrong to right; both are subtracted. A free-form answer is not found by guessing, so nothing is subtracted there. If
answers are sampled, an unchanged model flips items too: what it loses and gains is then about equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .stats import LEVEL, Values, holm, shared_items

Key = tuple[str, int]
_FEWEST = 5  # forgotten items, from which it is asked what they have in common
_MOST_VALUES = 20  # different values of a name; a name with more is not tested


@dataclass(frozen=True)
class Flips:
    """The flips of one comparison: shares of the `n` items. `chance` is the share that guessing explains in each
    direction, and the adjusted shares are those without it, at least 0. `guessed` is the mean number of choices, None
    for free-form answers."""

    n: int
    lost: float
    gained: float
    chance: float
    guessed: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "right_to_wrong": self.lost,
            "wrong_to_right": self.gained,
            "chance": self.chance,
            "right_to_wrong_adjusted": max(0.0, self.lost - self.chance),
            "wrong_to_right_adjusted": max(0.0, self.gained - self.chance),
            "choices": self.guessed,
        }


def flips(before: Values, after: Values, choices: Mapping[Any, int] | None = None) -> Flips | None:
    """The flips between two models' values of the items that both were judged on; an item is right above one half.
    `choices` is the number of choices of each item that has choices. None if there are no such items."""
    keys = shared_items([before, after])
    if not keys:
        return None
    right = [(before[key] > 0.5, after[key] > 0.5) for key in keys]
    n, known = len(keys), choices or {}
    wrong = [1 - fmean(float(each[side]) for each in right) for side in (0, 1)]
    some = [known[key] for key in keys if known.get(key, 0) > 1]
    chance = wrong[0] * wrong[1] * sum(1 / (each - 1) for each in some) / n
    return Flips(
        n,
        sum(was and not now for was, now in right) / n,
        sum(now and not was for was, now in right) / n,
        chance,
        fmean(some) if some else None,
    )


def forgotten(before: Values, after: Values) -> list[Any]:
    """The items that went from right to wrong."""
    return [key for key in shared_items([before, after]) if before[key] > 0.5 >= after[key]]


@dataclass(frozen=True)
class Trait:
    """A property of a task's items: a number, or a name with few values, for each item."""

    task: str
    name: str
    values: Mapping[Any, float | str]


def in_common(
    traits: Sequence[Trait], before: Mapping[str, Values], after: Mapping[str, Values]
) -> list[dict[str, Any]]:
    """The traits by which the forgotten items of a task differ from those that stayed right, with a p-value under 0.05
    after Holm's correction over all traits of all tasks: by the Mann-Whitney test for numbers, and for each value of a
    name by Fisher's exact test against the other values. Tasks with few forgotten items are left out."""
    found: list[dict[str, Any]] = []
    for trait in traits:
        right = [key for key in shared_items([before[trait.task], after[trait.task]]) if before[trait.task][key] > 0.5]
        right = [key for key in right if key in trait.values]
        lost = set(forgotten(before[trait.task], after[trait.task]))
        gone, kept = [key for key in right if key in lost], [key for key in right if key not in lost]
        if len(gone) >= _FEWEST and kept:
            found += _tested(trait, [trait.values[key] for key in gone], [trait.values[key] for key in kept])
    corrected = holm([row["p_value"] for row in found])
    rows = [{**row, "p_holm": p} for row, p in zip(found, corrected, strict=True)]
    return sorted((row for row in rows if row["p_holm"] < LEVEL), key=lambda row: row["p_holm"])


def _tested(trait: Trait, gone: Sequence[float | str], kept: Sequence[float | str]) -> list[dict[str, Any]]:
    from scipy.stats import fisher_exact, mannwhitneyu

    own = {"task": trait.task, "trait": trait.name}
    if not any(isinstance(value, str) for value in (*gone, *kept)):
        numbers = [float(value) for value in gone], [float(value) for value in kept]
        if len({*numbers[0], *numbers[1]}) < 2:
            return []
        p = float(mannwhitneyu(*numbers).pvalue)
        return [{**own, "value": None, "forgotten": fmean(numbers[0]), "kept": fmean(numbers[1]), "p_value": p}]
    names = sorted({str(value) for value in (*gone, *kept)})
    if not 2 <= len(names) <= _MOST_VALUES:
        return []
    rows = []
    for name in names[1:] if len(names) == 2 else names:
        mine, others = sum(value == name for value in gone), sum(value == name for value in kept)
        p = float(fisher_exact([[mine, len(gone) - mine], [others, len(kept) - others]]).pvalue)
        shares = {"forgotten": mine / len(gone), "kept": others / len(kept)}
        rows.append({**own, "value": name, **shares, "p_value": p})
    return rows
