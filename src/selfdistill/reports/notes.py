"""The notes of a verdict: what a reader needs to know to read the numbers, such as rows that were left out, checks that
did not run and measures that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from ..data import data_notes, item_notes, without_examples
from ..measure.scores import IN_ALL_RUNS, SAMPLES_UNANSWERED
from ..store.marks import marks_counts
from ..types.wording import counted, per_cent
from .findings import JsonRow
from .gate_files import checkpoint_notes
from .loss_sentences import loss_notes, may_be_trained_on
from .probe_sentences import probe_notes
from .think_traces import block_notes

# A note is due if more than this share of a task's answers is missing from its score.
_MANY_LOST = 0.1
_SOURCES = {
    "self": "own answers of the seed",
    "rewrite": "rewrites",
    "original": "originals",
    "edit": "rows edited by hand",
    "replay": "rows of other data",
}


def notes(verdict: JsonRow) -> Iterator[str]:
    """Notes that a reader needs to read the numbers."""
    caveats, data = verdict["caveats"], verdict["data"]
    if verdict["runs_needed"]:
        yield _single_run(**verdict["runs_needed"])
    if caveats["note"]:
        yield caveats["note"]
    if caveats["weights"]:
        yield f"The seed model's weights: {caveats['weights']}."
    series = Counter((point["parameter"], point["series"]) for point in verdict["sweeps"])
    if single := [f"{parameter} for {name}" for (parameter, name), count in series.items() if count == 1]:
        yield f"A sweep with one point shows no curve: {', '.join(single)}."
    if few := caveats["few_rows"]:
        yield f"There are {data['train']} training rows, fewer than the n of {', '.join(few)}; all of them were used."
    if caveats["fake"]:
        yield "The fake backend made up answers, so the numbers describe no model."
    if caveats["no_sandbox"]:
        yield "sandbox: none. Programs that a model wrote ran without a sandbox."
    yield from data_notes(data)
    yield from block_notes(verdict.get("thinking"), verdict["baseline_arms"])
    for task, counts in verdict["items"].items():
        yield from item_notes(task, counts)
    yield from _left_out(verdict["settings_left_out"])
    for stage, (directory, rows) in verdict["taken_from"].items():
        taken = counted(rows, "answer")
        yield f"{stage}: {taken} of the seed, taken from {directory}, which has equal settings for them."
    if caveats["python_asserts"]:
        yield (
            "python_asserts: asserts about objects of a program's classes run inside the program's own process, which "
            "can fool them. The reason of such a pass ends with 'run in its own process'."
        )
    if not verdict.get("gate"):  # a gate's own notes hold them
        yield from checkpoint_notes(verdict.get("checkpoints", {}))
        yield from may_be_trained_on(verdict.get("heldout_loss", []))
    if by_hand := verdict.get("by_hand"):
        yield f"{marks_counts(by_hand)}."
    if caveats["gap_unmeasured"]:
        yield "The gap before training was not measured, because the seed is behind a server."
    if caveats.get("heldout_loss_unmeasured"):
        yield "The held-out loss was not measured, because the weights that answer are not on this machine."
    yield from loss_notes(verdict.get("heldout_loss", []))
    yield from _training(verdict["training"])
    if absent := [f"{', '.join(arms)} on {task}" for task, arms in verdict["not_evaluated"].items()]:
        yield f"Not evaluated yet: {'; '.join(absent)}."
    for task in verdict["tasks"]:
        yield from _unanswered(task)
    yield from probe_notes(verdict["tasks"], bool(verdict.get("gate")))
    for task in verdict["tasks"]:
        yield from _items_missing(task)
        if "the reference" in task["metric"]:
            yield (
                f"{task['task']} measures the {task['metric']}: the share of answers that pass the grader of rewrites. "
                "A right answer in other words can fail, so compare arms and do not read the level as accuracy."
            )
    if runs := caveats["shift_unmeasured"]:
        yield f"The shift of {', '.join(runs)} is not measured. Evaluate them, then run `selfdistill shift`."
    for arm, sources in verdict["trained_on"].items():
        yield f"{arm} trains on " + ", ".join(f"{n} {_SOURCES[key]}" for key, n in sources.items()) + "."


def notes_without_rows(verdict: JsonRow) -> list[str]:
    """The notes for readers who may not see the data: without text of single rows and without folders."""
    items = {task: without_examples(counts) for task, counts in verdict["items"].items()}
    taken = {stage: ("another experiment", rows) for stage, (_, rows) in verdict["taken_from"].items()}
    return [*notes({**verdict, "data": without_examples(verdict["data"]), "items": items, "taken_from": taken})]


def shift_missing(shift: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why measures of the shift are missing, such as an embedding model that can't be loaded: each reason once."""
    return list(dict.fromkeys(why for row in shift.values() for why in (row.get("missing") or {}).values()))


def _single_run(runs: int | None, most: int, drop: float, spread: float, shown: float | None = None) -> str:
    """For arms with one training run: the variation that the intervals leave out, and how many runs would cover it.
    `shown`: the smallest drop that `most` runs find."""
    found = f"a drop of {100 * drop:g} points"
    if runs is None:
        least = f"only a drop of {ceil(1000 * shown) / 10:g} points or more" if shown else "no drop"
        advice = (
            f"{most} runs per arm would find {least} in one task in 80 % of cases with these items. More runs add "
            f"little to that: to find {found}, evaluate on more items."
        )
    else:
        seeds = ", ".join(map(str, range(runs)))
        advice = (
            f"{counted(runs, 'run')} (seeds: [{seeds}]) find {found} in one task in 80 % of cases with these items."
        )
    return (
        "Each arm was trained once, so the words and intervals are about this training run. They cover the draw of the "
        "items, not how much another training of the same arm would differ. If training runs differ by "
        f"{100 * spread:g} points (standard deviation of the true score), {advice}"
    )


def _left_out(left_out: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The sampling settings that servers rejected, with the stages whose answers were drawn without them."""
    stages: dict[str, list[str]] = {}
    for stage, settings in left_out.items():
        stages.setdefault(", ".join(settings), []).append(stage)
    for settings, names in stages.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'more stage')}"
        seed = " Without seed, another run draws other answers." if "seed" in settings.split(", ") else ""
        yield f"{where}: the server did not accept {settings}, so its own defaults may apply.{seed}"


def _training(training: Mapping[str, JsonRow]) -> Iterator[str]:
    """The optimiser steps of each run, and the rows that a training left out, shortened or masked."""
    steps = {run: counts["steps"] for run, counts in training.items()}
    if len(set(steps.values())) > 1:
        said = ", ".join(f"{run} {count:,}" for run, count in steps.items())
        yield f"Optimiser steps are not equal: {said}. Arms with unequal steps differ in more than the data."
    elif len(steps) > 1:
        yield f"Optimiser steps are equal: {next(iter(steps.values())):,} in each of {', '.join(steps)}."
    for run, counts in training.items():
        if cut := counts["cut"]:
            yield f"{run}: shortened to train.max_length, so that the end is not trained on: {counted(cut, 'row')}."
        if dropped := counts["dropped"]:
            yield (
                f"{run}: left out of training, because the row can't be rendered or no token of its response is within "
                f"the limit: {counted(dropped, 'row')}."
            )
        if (budget := counts.get("budget")) and budget["stopped"]:
            how = "stopped" if budget["action"] == "stop" else "over its budget"
            none = "" if budget["kept"] else ", the untrained seed's"
            yield f"{run} {how}: {budget['stopped']}. Its weights are those of step {budget['kept']}{none}."
        if masked := counts["masked_rows"]:
            yield f"{run}: without loss on any token, because train.mask_above masks all: {counted(masked, 'row')}."
        replay = counts.get("replay", {"bad": 0, "held_out": 0})
        if replay["bad"] or replay["held_out"]:
            yield (
                f"{run}: of the rows to replay, {replay['bad']} can't be used and {replay['held_out']} ask what is "
                "held out; none of these rows is trained on."
            )


def _unanswered(task: JsonRow) -> Iterator[str]:
    """How many replies have no answer, by arm, and the next step."""
    said = []
    for arm, score in task["scores"].items():
        if samples := score["details"].get(SAMPLES_UNANSWERED, 0):
            said.append(f"{arm} {counted(samples, 'sample')}")
        elif score["unanswered"]:
            said.append(f"{arm} {score['unanswered']:,} of {score['n']:,}")
    if said:
        yield (
            f"{task['task']}: replies that end inside their think trace have no answer and count as not passed "
            f"({', '.join(said)}). Raise evaluate.sampling.max_thinking_tokens or the task's max_new_tokens, or set "
            "model.reasoning to off."
        )


def _items_missing(task: JsonRow) -> Iterator[str]:
    """Whether many of a task's items are missing from its scores, and why."""
    lost = [(arm, score["unjudged"] + score["errors"], score["n"]) for arm, score in task["scores"].items()]
    if many := [f"{arm} {count} of {n}" for arm, count, n in lost if count > _MANY_LOST * n]:
        yield f"{task['task']}: the scores leave out items that couldn't be judged ({', '.join(many)})."
    shares = {arm: score["details"].get(IN_ALL_RUNS, 1.0) for arm, score in task["scores"].items()}
    if few := [f"{arm} {per_cent(share, 0)}" for arm, share in shares.items() if share < 1 - _MANY_LOST]:
        yield f"{task['task']}: the scores cover only the items that were judged in every run ({', '.join(few)})."
