"""What the figures are drawn from, read from an experiment's directory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

from ..findings import Findings
from ..svg import arm_slots, series_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """`training` and `shift` are by run (of an arm that was trained with several seeds, `arm@seed`); `gap` has of each
    response (mean negative log-likelihood a token in nats, tokens)."""

    findings: Findings
    training: dict[str, list[Row]] = field(default_factory=dict)
    acceptance: Row | None = None
    gap: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    shift: dict[str, Row] = field(default_factory=dict)
    sweeps: list[Row] = field(default_factory=list)

    @cached_property
    def slots(self) -> dict[str, int]:
        """Every arm's look."""
        arms = [*self.findings.arms, *map(self.arm_of, [*self.training, *self.shift])]
        return arm_slots(list(dict.fromkeys(arms)), self.findings.seed_arm, self.sweeps)

    def arm_of(self, run: str) -> str:
        return run if run in self.findings.arms else run.rpartition("@")[0] or run

    @cached_property
    def leading(self) -> dict[str, int]:
        """Of the arms that look alike one, with its look: the recipe's own, else the last of a sweep's series. The
        others are in the sweep's figure."""
        swept, chosen = series_of(self.sweeps), dict[int, str]()
        for arm, slot in self.slots.items():
            if slot not in chosen or chosen[slot] in swept:
                chosen[slot] = arm
        return {arm: slot for arm, slot in self.slots.items() if chosen[slot] == arm}

    def legend(self, arms: Iterable[str]) -> dict[str, int]:
        """The looks of arms, where those of a sweep's series have one."""
        series = series_of(self.sweeps)
        names = {slot: series.get(arm, arm) for arm, slot in self.leading.items()}
        return {names[self.slots[arm]]: self.slots[arm] for arm in arms}

    def runs_of(self, arm: str, runs: Iterable[str]) -> list[str]:
        return [run for run in runs if self.arm_of(run) == arm]


def number(value: Any) -> float | None:
    """A finite number, or None: files hold null where there is none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if good else None


def numbers(values: Any) -> list[float]:
    found = map(number, values if isinstance(values, list) else [])
    return [value for value in found if value is not None]
