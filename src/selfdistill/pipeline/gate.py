"""The gate: asks the seed and a candidate a part of the items at a time, and stops once the answer is clear.

Writes gate.json, the plan and the looks so far, from which a report computes the decision again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import StageError
from ..measure.comparisons import Comparison, Pair, compare
from ..measure.noninferiority import LOOKS, Information, decide, shared_means
from ..store.experiment import Experiment
from ..store.rows import read_lines, write_json
from ..types import Progress
from .context import Context, Run
from .difficulty import choosing_score, uninformative
from .evaluate import answer_stage, engines_of, evaluate_runs

CANDIDATE, SEED = "candidate", "seed"
"""The names of the arms."""
DESIGN = "gate.json"
UNASKED = "not decided"
"""The word of a comparison that was open when the gate ended early."""


@dataclass(frozen=True)
class Design:
    """The plan of a gate: the suite with its version and size, whether every skill has to be within the margin, the
    shares of the items at the looks so far, and the baseline file that the seed's answers come from, if they do.
    `target` is what the target is, as the user named it. `regraded` counts the answers of the baseline that the present
    graders grade in another way than those that made the file. `choosing` are the scores in it on the items that chose
    the levels of the probes. `reused` is the day of the oldest answers of each arm that `reused_answers` found."""

    suite: str
    version: int
    size: str
    strict: bool = False
    looks: tuple[float, ...] = ()
    baseline: str | None = None
    target: str | None = None
    regraded: int = 0
    choosing: Mapping[str, float] = field(default_factory=dict)
    reused: Mapping[str, str] = field(default_factory=dict)


def read_design(experiment: Experiment) -> Design | None:
    """The plan in an experiment's directory; None if it is not one of a gate."""
    path = experiment.path(DESIGN)
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return Design(**{**values, "looks": tuple(values["looks"])})


def reused_answers(experiment: Experiment, context: Context) -> dict[str, str]:
    """For each arm behind an endpoint that earlier commands have asked in this directory: the day of its oldest
    answers. They are used again, although another model may be behind the endpoint now."""
    design, records = read_design(experiment), experiment.manifest["stages"]
    found = dict(design.reused) if design else {}
    for run in context.runs.values():
        if context.model_of(run.config).server is None or (run.is_seed and context.seed_on_file):
            continue
        stages = [answer_stage(context, run, task).name for task in context.tasks.values() if task.asked]
        days = [records[name]["started"][:10] for name in stages if name in records]
        if days:
            found[run.name] = min(found.get(run.name, days[0]), *days)
    return found


def ask_in_looks(
    experiment: Experiment,
    context: Context,
    design: Design,
    progress: Progress,
    clear: Callable[[Experiment, Context], bool],
) -> Context:
    """Answers and grades a look at a time until the decision is `clear`. Returns the context of the last look. Raises
    StageError if answers are missing because an engine failed."""
    with engines_of(experiment, context, context.runs.values()) as cache:
        for number in range(1, len(LOOKS) + 1):
            context = replace(context, looks=LOOKS[:number])
            design = replace(design, looks=LOOKS[:number])
            # An engine stays up between the looks, unless a judge needs its memory.
            evaluate_runs(experiment, context, (), progress, None if context.recipe.judge else cache)
            _stop_if_unanswered(experiment, context)
            write_json(experiment.path(DESIGN), asdict(design))
            if clear(experiment, context):
                break
    return context


def _stop_if_unanswered(experiment: Experiment, context: Context) -> None:
    """A decision without the answers that an engine failed to give would be about other items than planned."""
    for run in context.runs.values():
        for task in context.tasks.values():
            if task.asked and (failed := experiment.counts(answer_stage(context, run, task).name).get("transient")):
                raise StageError(
                    f"{failed} answers of {run.name} to {task.name} failed because its engine or endpoint did. "
                    "Finished answers are kept; run the same command again to ask for the others."
                )


# ---- the decision


def compared(pairs: Sequence[tuple[str, Pair]], margin: float, design: Design | None) -> list[Comparison]:
    """The comparisons of all pairs, each with the role of its task. The skills of a gate are a family without the
    target, and all p-values are adjusted for its looks."""
    if design is None:
        return compare([pair for _, pair in pairs], margin)
    roles = [[pair for role, pair in pairs if role == wanted] for wanted in ("target", "other")]
    return [row for own in roles for row in compare(own, margin, design.looks)]


def gate_result(
    experiment: Experiment,
    context: Context,
    pairs: Sequence[tuple[str, Pair]],
    comparisons: Sequence[Comparison],
    design: Design,
) -> dict[str, Any]:
    """The decision with what it rests on, as in docs/gate.md. The sentences are added by `reports.gate_files`."""
    skills = [pair for role, pair in pairs if role == "other"]
    changes = {row.task: row for row in comparisons}
    margin = context.recipe.evaluate.margin / 100
    shown = [changes[pair.task] for pair in skills if pair.task in changes]
    kinds = _kinds_of_probes(experiment, context, skills, design)
    targets = [row for role, pair in pairs if role == "target" and (row := changes.get(pair.task))]
    run = context.runs_of(CANDIDATE)[0]
    rows = {name: _graded(experiment, run, name) for name in context.tasks}
    buckets = {pair.task: Counter(row["bucket"] for row in rows[pair.task]) for pair in skills}
    judged = {pair.task: len(pair.items) for pair in skills}
    left_out = {task: left for task, n in judged.items() if (left := buckets[task].total() - n)}
    found = decide(skills, shown, margin, design.looks, design.strict, kinds, bool(left_out))
    early = found.clear and design.looks != LOOKS
    return {
        "exit_code": found.code,
        "clear": found.clear,
        "ended_early": early,
        "margin": margin,
        "strict": design.strict,
        "suite": {"name": design.suite, "version": design.version, "size": design.size},
        "seed": context.recipe.model.path,
        "candidate": context.model_of(run.config).path,
        "baseline": design.baseline,
        "regraded": design.regraded,
        "reused": dict(design.reused),
        "looks": list(design.looks),
        "looks_planned": list(LOOKS),
        "mean": {**found.mean.to_json(), **({"needed": None} if early else {})} if found.mean else None,
        "lost": found.lost,
        "undecided": found.undecided,
        "uninformative": dict(found.uninformative),
        "absent": list(found.absent),
        "unanswered": {task: own["errors"] for task, own in buckets.items() if own["errors"]},
        "left_out": left_out,
        "scores": {pair.task: shared_means(pair) for _, pair in pairs},
        "targets": changes_json(targets, {"ended_early": early}),
        "same_answers": _same_answers(experiment, context, run),
        "candidate_endings": _endings(rows),
    }


def changes_json(
    comparisons: Sequence[Comparison], gate: Mapping[str, Any] | None, at_bound: Set[str] = frozenset()
) -> list[dict[str, Any]]:
    """The comparisons as JSON. After a gate that ended early, "can't tell" is "not decided": the items that were not
    asked might have decided, so no number of items is given. Neither is one for the tasks `at_bound`, since more items
    show no more at the floor or the ceiling."""
    rows = [{**row.to_json(), **({"needed": None} if row.task in at_bound else {})} for row in comparisons]
    if not gate or not gate["ended_early"]:
        return rows
    return [{**row, "word": UNASKED, "needed": None} if row["word"] == "can't tell" else row for row in rows]


def _kinds_of_probes(
    experiment: Experiment, context: Context, skills: Sequence[Pair], design: Design
) -> dict[str, Information]:
    """For tasks whose level was chosen: whether the seed's score leaves room, by the items that chose the level. The
    answers that are compared decide nothing here: leaving skills out by them would bias the mean."""
    found: dict[str, Information] = {}
    for pair in skills:
        score = design.choosing.get(pair.task, choosing_score(experiment, context, context.tasks[pair.task]))
        if score is not None:
            found[pair.task] = uninformative(score) or "informative"
    return found


def _graded(experiment: Experiment, run: Run, task: str) -> list[dict[str, Any]]:
    path = experiment.path("arms", run.name, "evaluate", task, "grades.jsonl")
    return list(read_lines(path)) if path.is_file() else []


def _answered(experiment: Experiment, context: Context, run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """The answers of a run as text, by task and item."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, task in context.tasks.items():
        path = experiment.path(answer_stage(context, run, task).output) if task.asked else None
        if path and not task.task.harness and path.is_file():
            found |= {(name, row["id"]): row for row in read_lines(path)}
    return found


def _same_answers(experiment: Experiment, context: Context, run: Run) -> dict[str, int]:
    """How many of the items that both answered have the same answer, to the letter."""
    seed, own = (_answered(experiment, context, each) for each in (context.runs[context.seed_arm], run))
    both = [key for key in own if key in seed]
    return {"same": sum(own[key]["text"] == seed[key]["text"] for key in both), "of": len(both)}


def _endings(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """How many answers of the candidate end in a loop or in garble or are empty, and how many there are, from its
    graded rows on each task."""
    ends = Counter(end for own in rows.values() for row in own for end in row.get("ends", ()))
    return {"all": ends.total(), **{end: ends[end] for end in ("loop", "garbled", "empty")}}
