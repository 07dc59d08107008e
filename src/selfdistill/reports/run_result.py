"""The results of an experiment as a Python object, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ExperimentError
from ..measure.comparisons import Comparison, Word
from ..types import Score
from .findings import Findings
from .html import render_part
from .next_steps import next_steps
from .saved import read_verdict
from .sentences import headline
from .text import WORDS


@dataclass(frozen=True)
class RunResult:
    """The results of the experiment in `directory`, from its verdict.json.

    `scores` maps each task to the score of each arm, a share in [0, 1] with its interval. `comparisons` are those of
    each arm with the seed and with its baseline arm. `models` maps each training run to the folder of its weights.
    `headline` is the verdict in one or two sentences, `advice` the sentence with which a run ends; both are empty if no
    arm was compared with the seed.
    `commands` are the commands to copy, by what they do. `verdict` is all of verdict.json. A notebook shows the result
    as a table.
    """

    directory: Path
    arms: list[str]
    seed_arm: str
    headline: str
    advice: str
    scores: Mapping[str, Mapping[str, Score]] = field(repr=False)
    comparisons: list[Comparison] = field(repr=False)
    models: Mapping[str, Path] = field(repr=False)
    commands: Mapping[str, str] = field(repr=False)
    verdict: dict[str, Any] = field(repr=False)

    @property
    def report(self) -> Path:
        """The page."""
        return self.directory / "report.html"

    def word(self, task: str, arm: str) -> Word | None:
        """Whether the arm gained, kept or forgot the task against the seed, or "can't tell"; None if the two were not
        compared on it. Raises ValueError with the names that there are if there is no such task or arm."""
        tasks = dict.fromkeys([*self.scores, *(row.task for row in self.comparisons)])
        for what, name, names in (("task", task, tasks), ("arm", arm, self.arms)):
            if name not in names:
                raise ValueError(f"There is no {what} '{name}'; choose one of {', '.join(names)}.")
        wanted = (task, arm, self.seed_arm)
        found = (row.word for row in self.comparisons if (row.task, row.arm, row.against) == wanted)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """Plain values; docs/json.md lists the keys."""
        return {
            "directory": str(self.directory),
            "headline": self.headline,
            "advice": self.advice,
            "commands": dict(self.commands),
            "models": {run: str(folder) for run, folder in self.models.items()},
            "report": str(self.report),
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return render_part("result.html.jinja", result=self, findings=Findings.of(self.verdict), words=WORDS)


def load_result(directory: Path | str) -> RunResult:
    """The results of an experiment that `run`, `evaluate` or `report` wrote. Raises ExperimentError if there is no
    verdict, or if it is damaged."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ExperimentError(
            f"There is no directory {directory}; `selfdistill run RECIPE` makes one and prints its name."
        )
    verdict = read_verdict(directory)
    if not verdict:
        raise ExperimentError(f"{directory} holds no verdict.json; write it with `selfdistill report {directory}`.")
    try:
        return result_of(verdict, directory)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExperimentError(
            f"{directory / 'verdict.json'} is not a verdict of this version ({error!r}); write it again with "
            f"`selfdistill report {directory}`."
        ) from None


def result_of(verdict: dict[str, Any], directory: Path) -> RunResult:
    """The results with this verdict. Raises KeyError or TypeError if it is not a verdict of this version."""
    advice, commands = next_steps(verdict, directory)
    return RunResult(
        directory=directory,
        arms=list(verdict["arms"]),
        seed_arm=verdict["seed_arm"],
        headline=headline(Findings.of(verdict)),
        advice=advice,
        scores={
            task["task"]: {arm: Score.from_json(score) for arm, score in task["scores"].items()}
            for task in verdict["tasks"]
        },
        comparisons=[Comparison(**row) for row in verdict["comparisons"]],
        models={path.parent.name: path for path in sorted((directory / "arms").glob("*/model"))},
        commands=dict(commands),
        verdict=verdict,
    )
