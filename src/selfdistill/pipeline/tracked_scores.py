"""Sends the scores and the verdict to the trackers of `train.report_to`, once for each change."""

from __future__ import annotations

from typing import Any

from ..reports.findings import Findings
from ..reports.text import during
from ..store.experiment import Experiment
from ..store.rows import write_json
from ..training.trackers import TRACKERS, read_noted, tracked_run
from ..training.tracking import warn_of
from ..types import content_id
from .context import Context, Run


def track_scores(experiment: Experiment, context: Context, verdict: dict[str, Any]) -> None:
    """Logs each run's scores, and the words of the verdict about its arm, to its trackers, unless they have them. A
    tracker that fails is left out with one warning, and is sent everything by the next command."""
    failed = set[str]()
    for run in context.runs.values():
        numbers, words = run_scores(verdict, run)
        for name in dict.fromkeys(run.train.report_to) if numbers else ():
            if name in failed:
                continue
            try:
                _send(experiment, run, name, numbers, words)
            except Exception as error:
                failed.add(name)
                warn_of(name, error)


def _send(experiment: Experiment, run: Run, name: str, numbers: dict[str, float], words: dict[str, str]) -> None:
    folder, sent = experiment.path("arms", run.name), content_id([numbers, words])
    reported = read_noted(folder).get("reported", {})
    if reported.get(name) == sent:
        return
    tracker = TRACKERS[name]
    if lacking := tracker.lacks():
        raise RuntimeError(lacking.rstrip("."))
    tracked = tracked_run(folder, step=experiment.counts(f"train/{run.name}").get("steps", 0))
    try:
        tracker.begin(tracked)
        tracker.scores(tracked, numbers, words)
    finally:
        tracker.end()
    noted = {**read_noted(folder), "reported": {**reported, name: sent}}
    write_json(folder / "tracking.json", noted)


def run_scores(verdict: dict[str, Any], run: Run) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a run in verdict.json, as shares: `eval/TASK`, and the bounds of a single run's interval as
    `eval_low/TASK` and `eval_high/TASK`; `eval_mean_loss/TASK` is the mean over the arm's runs. Then the words of the
    verdict about its arm: `verdict/TASK`."""
    findings, numbers, words = Findings.of(verdict), dict[str, float](), dict[str, str]()
    for task in findings.tasks:
        score, several = task["scores"].get(run.arm), task["runs"].get(run.arm, {})
        found = {"eval": several[run.name]} if run.name in several else {}
        if score is not None and not several:
            found = {"eval": score["value"], "eval_low": score["low"], "eval_high": score["high"]}
        numbers |= {f"{kind}/{task['task']}": value for kind, value in found.items() if value is not None}
        if change := findings.change(task, run.arm):
            words[f"verdict/{task['task']}"] = change["word"]
    for row in findings.losses:
        if (loss := row["arms"].get(run.arm, {}).get("value")) is not None:
            numbers[f"eval_mean_loss/{row['task']}"] = loss
    if words:
        words["verdict/scope"] = during(findings.runs)
    return numbers, words
