"""The verdict in plain sentences: each claim rests on an interval, and names the training runs that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..measure.comparisons import ASSUMED_SPREAD, MOST_RUNS, Comparison, during, runs_needed, scope
from ..pipeline.context import Context

# If the upper end of the seed's own interval is below this, keeping the score says nothing.
_FLOOR = 0.1


def runs_note(plan: Context, comparisons: Sequence[Comparison], margin: float) -> list[str]:
    """For arms that were trained once: what the intervals do not cover, and how many runs would cover it."""
    single = [row for row in comparisons if row.runs == 1 and row.against == plan.seed_arm]
    if not single:
        return []
    runs, drop = runs_needed(single, 2 * margin), f"a drop of {200 * margin:g} points"
    if runs is None:
        advice = f"even {MOST_RUNS} runs would not find {drop} in 80 % of cases; evaluate on more items too."
    else:
        seeds = ", ".join(map(str, range(runs)))
        advice = f"{runs} runs (seeds: [{seeds}]) find {drop} in one task in 80 % of cases with these items."
    spread = f"{100 * ASSUMED_SPREAD:g} points"
    return [
        "Each arm was trained once, so the words and intervals are about this training run. They cover the draw of the "
        f"items, not how far another training of the same arm would differ. If trainings differ by {spread} (standard "
        f"deviation of the true score), {advice}"
    ]


def summarise(
    plan: Context,
    tasks: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    acceptance: Mapping[str, Any] | None,
    margin: float,
) -> list[str]:
    """Plain sentences, whatever came out; every claim rests on an interval. `margin` is the smallest drop that
    matters."""
    sentences = []
    if acceptance and acceptance["rows"]:
        sentences.append(
            f"{acceptance['accepted']} of {acceptance['rows']} rewrites were accepted ({acceptance['rate']:.1%}); the "
            "other rows are trained on as they were."
        )
    targets = [task["task"] for task in tasks if task["role"] == "target"]
    others = [task["task"] for task in tasks if task["role"] == "other"]
    by = {(row.task, row.arm, row.against): row for row in comparisons}
    told = [arm for arm in plan.recipe.arms if arm not in plan.swept]  # a sweep's arms are told as a curve
    for arm in told:
        rows = [by[task, arm, plan.seed_arm] for task in targets if (task, arm, plan.seed_arm) in by]
        rest = [by[task, arm, plan.seed_arm] for task in others if (task, arm, plan.seed_arm) in by]
        if rows or rest:
            on_target = [f"{_verb(row, margin)} on {row.task} ({_points(row)})" for row in rows]
            runs = scope(min(row.runs for row in [*rows, *rest])).capitalize()
            sentences.append(f"{runs} of {arm}: " + "; ".join([*on_target, *_tally(rest)]) + ".")
    if low := [task["task"] for task in tasks if (task["scores"].get(plan.seed_arm, {}).get("high") or 1) < _FLOOR]:
        sentences.append(f"The seed itself hardly does {_list(low)}, so there is little to forget in it.")
    sentences += _curves(plan, targets, others, by)
    for arm in told:
        if twin := plan.baseline_arm(arm):
            sentences += _does_it_help(arm, twin, plan.seed_arm, targets, others, by, margin)
    return sentences


def _curves(
    plan: Context, targets: Sequence[str], others: Sequence[str], by: Mapping[tuple[str, str, str], Comparison]
) -> list[str]:
    """Each line of a sweep in a sentence: at each value the mean change to the seed, on the targets and on the rest."""

    def mean(tasks: Sequence[str], arm: str) -> str:
        changes = [100 * row.difference for task in tasks if (row := by.get((task, arm, plan.seed_arm)))]
        return f"{fmean(changes):+.1f}" if changes and len(changes) == len(tasks) else "–"

    lines: dict[str, list[str]] = {}
    for point in plan.points:
        line = point.parameter if point.parameter == point.series else f"{point.parameter}, {point.series}"
        said = f"{mean(targets, point.arm)} / {mean(others, point.arm)}"
        if said != "– / –":
            lines.setdefault(line, []).append(f"{said} at {point.value}")
    runs = scope(min((row.runs for row in by.values()), default=1))
    return [
        f"Along {line}: change to the seed in points (target / mean of the other tasks), {runs} per value: "
        f"{', '.join(said)}."
        for line, said in lines.items()
    ]


def _does_it_help(
    arm: str,
    twin: str,
    seed: str,
    targets: Sequence[str],
    others: Sequence[str],
    by: Mapping[tuple[str, str, str], Comparison],
    margin: float,
) -> list[str]:
    """Whether training on rewrites prevented what training on the originals did."""
    versus = {task: by[task, arm, twin] for task in [*targets, *others] if (task, arm, twin) in by}
    if not versus:
        return []
    sentences = []
    over = during(min(row.runs for row in versus.values()))
    forgotten = [
        task for task in others if task in versus and (row := by.get((task, twin, seed))) and row.word == "forgot"
    ]
    better = [task for task in others if task in versus and versus[task].word == "gained"]
    worse = [task for task in others if task in versus and versus[task].word == "forgot"]
    if forgotten:
        saved = [task for task in forgotten if task in better]
        sentences.append(
            f"{twin} forgot {_list(forgotten)} {over}; {arm} does better than it on {len(saved)} of these "
            f"{len(forgotten)}."
        )
    elif others and all((row := by.get((task, twin, seed))) and row.word in ("kept", "gained") for task in others):
        sentences.append(
            f"{twin} lost {100 * margin:g} points or more on none of the other tasks {over}, so there was nothing for "
            f"{arm} to prevent."
        )
    if worse:
        sentences.append(f"{arm} does worse than {twin} on {_list(worse)} {over}.")
    for task in targets:
        if row := versus.get(task):
            sentences.append(f"On {task} {arm} {_relation(row, margin)} {twin} {over} ({_points(row)}).")
    return sentences


def _verb(row: Comparison, margin: float) -> str:
    kept = "no change" if row.unchanged else f"no loss of {100 * margin:g} points or more"
    return {"gained": "gained", "kept": kept, "forgot": "lost", "can't tell": "can't tell"}[row.word]


def _relation(row: Comparison, margin: float) -> str:
    kept = "is level with" if row.unchanged else f"is less than {100 * margin:g} points below"
    return {"gained": "is above", "kept": kept, "forgot": "is below", "can't tell": "can't be told apart from"}[
        row.word
    ]


def _points(row: Comparison) -> str:
    return f"{100 * row.difference:+.1f} points, 95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}"


def _tally(rows: Sequence[Comparison]) -> list[str]:
    if not rows:
        return []
    parts = []
    for word in ("forgot", "kept", "gained", "can't tell"):
        named = [
            row.task + (f": about {row.needed:,} items needed" if row.needed else "")
            for row in rows
            if row.word == word
        ]
        if named:
            parts.append(f"{word} {len(named)} ({', '.join(named)})")
    return [f"of {len(rows)} other tasks " + ", ".join(parts)]


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
