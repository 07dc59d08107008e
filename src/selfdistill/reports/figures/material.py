"""The data of all figures, read from an experiment's directory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

from ..findings import Findings, JsonRow
from ..svg import arm_slots, series_of


@dataclass(frozen=True)
class Material:
    """`training` and `shift` are by run; the runs of an arm with several training seeds are called `arm@seed`. `gap`
    lists (mean negative log-likelihood per token in nats, tokens) of the responses."""

    findings: Findings
    training: dict[str, list[JsonRow]] = field(default_factory=dict)
    acceptance: JsonRow | None = None
    gap: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    shift: dict[str, JsonRow] = field(default_factory=dict)
    sweeps: list[JsonRow] = field(default_factory=list)

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slot of each arm, which decides its colour and marker."""
        arms = [*self.findings.arms, *map(self.arm_of, [*self.training, *self.shift])]
        return arm_slots(list(dict.fromkeys(arms)), self.findings.seed_arm, self.sweeps)

    def arm_of(self, run: str) -> str:
        return run if run in self.findings.arms else run.rpartition("@")[0] or run

    @cached_property
    def leading(self) -> dict[str, int]:
        """One arm for each slot: the arm that the recipe names, else the last arm of a sweep's series. The figure of
        the sweep shows the remaining arms."""
        swept, chosen = series_of(self.sweeps), dict[int, str]()
        for arm, slot in self.slots.items():
            if slot not in chosen or chosen[slot] in swept:
                chosen[slot] = arm
        return {arm: slot for arm, slot in self.slots.items() if chosen[slot] == arm}

    def legend(self, arms: Iterable[str]) -> dict[str, int]:
        """The legend for these arms (name → slot). The arms of a sweep's series share one entry."""
        series = series_of(self.sweeps)
        names = {slot: series.get(arm, arm) for arm, slot in self.leading.items()}
        return {names[self.slots[arm]]: self.slots[arm] for arm in arms}

    def runs_of(self, arm: str, runs: Iterable[str]) -> list[str]:
        return [run for run in runs if self.arm_of(run) == arm]


def number(value: Any) -> float | None:
    """`value` as a finite number, else None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if good else None


def numbers(values: Any) -> list[float]:
    found = map(number, values if isinstance(values, list) else [])
    return [value for value in found if value is not None]
