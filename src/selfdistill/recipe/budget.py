"""How much a training may forget."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .settings import Settings
from .suites import SUITES


class Budget(Settings):
    """A limit on forgetting, measured while training (docs/training.md). It enters the fingerprint of the training."""

    kl: float | None = Field(default=None, gt=0)
    """Most KL(seed ‖ tuned) in nats per token on the seed model's own answers: of its upper 95 % bound over the
    prompts."""
    probes: float | None = Field(default=None, ge=0, lt=1)
    """Most that the mean score on the probes may fall below the seed model's."""
    every: int = Field(default=50, gt=0)
    """Optimiser steps between checks. Before the first one, steps 1, 3, 9 and 27 are checked too, and at the end the
    last step."""
    action: Literal["stop", "keep"] = "stop"
    """If a check is over the budget: stop, or train to the end. Either way the weights are those of the last check
    within the budget."""
    suite: Literal["probes", "demo"] = "probes"
    """Suite that the prompts and probes are drawn from. No evaluation reports these items."""
    without: list[str] = []
    """Tasks of the suite that are not asked, such as the target."""
    step: Literal["easy", "medium", "hard"] = "medium"
    """Difficulty of the probes."""
    items: int = Field(default=36, gt=1)
    """Probes; their prompts are also those of the KL divergence."""

    def checked(self, step: int, steps: int) -> bool:
        """Whether there is a check after `step` of `steps`. A high learning rate forgets within the first steps."""
        early = step in (1, 3, 9, 27) and step < self.every
        return early or step % self.every == 0 or step == steps

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.kl is None and self.probes is None:
            raise ValueError("a budget names `kl`, `probes` or both, as in {kl: 0.05, probes: 0.03}")
        if unknown := {*self.without} - {task["task"] for task in SUITES[self.suite].tasks}:
            raise ValueError(f"the suite '{self.suite}' has no task {', '.join(sorted(unknown))} to leave out")
        return self
