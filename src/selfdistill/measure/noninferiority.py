"""The gate: whether a candidate is shown to be within a margin of the seed over the skills of a suite, shown to have
forgotten, or neither. The words of single skills come from `comparisons.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .comparisons import MOST_ITEMS, POWER, Comparison, Pair
from .looks import adjusted
from .means import task_mean
from .stats import LEVEL, Estimate, quantile, wilson

LOOKS = (0.25, 0.5, 1.0)
"""The shares of each skill's items after which the gate looks at the results."""
FLOOR, CEILING = 0.10, 0.95
"""A skill of which the seed's 95 % interval is below or above these scores shows too little: there is nothing to
forget, or its items are so easy that only a large loss would show."""
PASSED, FORGOT, NOT_RUN, UNDECIDED = 0, 1, 2, 3
"""The exit codes."""

Information = Literal["informative", "floor", "ceiling"]


@dataclass(frozen=True)
class MeanChange:
    """The mean over `skills` of the candidate's changes against the seed, with its 95 % interval. `p_within` is for a
    mean drop by the margin or more, `p_beyond` for a smaller mean drop or a gain, each one-sided and adjusted for all
    looks. `needed` is about how many items per skill decide in 80 % of cases; None if it is decided, or if more items
    can't decide it."""

    skills: int
    difference: float
    low: float
    high: float
    p_within: float
    p_beyond: float
    needed: int | None = None

    @property
    def within(self) -> bool:
        return self.p_within < LEVEL / 2

    @property
    def beyond(self) -> bool:
        return self.p_beyond < LEVEL / 2

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "within": self.within, "beyond": self.beyond}


@dataclass(frozen=True)
class Decision:
    """The result of a look: the exit code, the skills shown to have lost, those that are neither shown to be kept nor
    gained, and why each other skill is uninformative. `clear` is False if further items could still change the code.
    `absent` are the skills without an item that both models were judged on."""

    code: int
    mean: MeanChange | None
    lost: list[str]
    undecided: list[str]
    uninformative: Mapping[str, Information]
    clear: bool
    absent: Sequence[str] = ()


def information(seed: Sequence[float]) -> Information:
    """Whether a skill can show a loss, by the seed's values in [0, 1]."""
    low, high = wilson(round(sum(seed)), len(seed))
    return "floor" if high < FLOOR else "ceiling" if low > CEILING else "informative"


def decide(
    pairs: Sequence[Pair],
    rows: Sequence[Comparison],
    margin: float,
    looks: tuple[float, ...] = (),
    strict: bool = False,
    kinds: Mapping[str, Information] | None = None,
    unjudged: bool = False,
) -> Decision:
    """The decision at a look. `pairs` are the candidate and the seed on each skill, `rows` their comparisons by
    `compare` with the same margin and looks. `kinds` are the skills whose `information` is known from elsewhere.

    Skills at the floor or the ceiling are left out of the mean, and of what has to be decided; a loss that is shown
    there counts. `strict` asks for every informative skill to be shown as kept or gained, and for no item to be
    `unjudged`. Nothing passes while a skill is absent.
    """
    words = {row.task: row.word for row in rows}
    judged = [pair for pair in pairs if pair.task in words]
    absent = [pair.task for pair in pairs if pair.task not in words]
    kinds = {pair.task: (kinds or {}).get(pair.task) or information(_values(pair)[1]) for pair in judged}
    informative = [pair for pair in judged if kinds[pair.task] == "informative"]
    mean = mean_change(informative, margin, looks)
    lost = [task for task, word in words.items() if word == "forgot"]
    undecided = [pair.task for pair in informative if words[pair.task] == "can't tell"]
    if lost or (mean is not None and mean.beyond):
        code = FORGOT
    elif mean is None or absent:
        code = NOT_RUN
    else:
        code = PASSED if mean.within and not (strict and (undecided or unjudged)) else UNDECIDED
    # A loss on one skill may show at a later look although the mean is clear already.
    clear = code == FORGOT or (code == PASSED and not undecided)
    others = {task: kind for task, kind in kinds.items() if kind != "informative"}
    return Decision(code, mean, lost, undecided, others, clear, absent)


def _values(pair: Pair) -> tuple[list[float], list[float]]:
    keys = pair.items
    return [pair.mine[0][key] for key in keys], [pair.other[0][key] for key in keys]


def shared_means(pair: Pair) -> dict[str, float]:
    """The scores of both models on the items that both were judged on; empty without any."""
    mine, other = _values(pair)
    return {pair.against: sum(other) / len(other), pair.arm: sum(mine) / len(mine)} if mine else {}


def mean_change(pairs: Sequence[Pair], margin: float, looks: tuple[float, ...] = ()) -> MeanChange | None:
    """The mean of the changes on several skills, each of which counts the same; None without skills. The skills' items
    are different, so the variances add up."""
    if not pairs:
        return None
    mean = task_mean(pairs)
    # As for a single skill, the variance is at least that of a drop by the margin without any gain.
    estimate, least = mean.estimate, mean.least(margin)
    within = adjusted(estimate.p_below(-margin, least), looks)
    beyond = adjusted(replace(estimate, centre=-estimate.centre).p_below(margin), looks)
    change = MeanChange(len(pairs), mean.difference, *mean.interval(), within, beyond)
    return change if change.within or change.beyond else replace(change, needed=_needed(estimate, least, margin))


def _needed(mean: Estimate, least: float, margin: float) -> int | None:
    """The items per skill that show on which side of the margin the mean is, in 80 % of cases, if mean and variance per
    item stay."""
    distance = abs(mean.centre + margin)
    factor = quantile(1 - LEVEL / 2, mean.freedom) + quantile(POWER, mean.freedom)
    needed = mean.n * max(mean.items, least) * (factor / distance) ** 2 if distance else float(MOST_ITEMS)
    return None if needed >= MOST_ITEMS else max(mean.n + 1, round(needed + 0.5))
