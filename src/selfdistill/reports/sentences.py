"""Every sentence about a study, composed from the numbers in verdict.json. Each claim about an arm rests on an interval
and names the training runs that it covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data import data_notes, item_notes, without_examples
from ..measure.scores import IN_ALL_RUNS, SAMPLES_UNANSWERED
from ..store.marks import marks_counts
from ..types.wording import counted, per_cent
from .answer_ends import degeneration_sentences
from .findings import Findings, JsonRow
from .gate_files import checkpoint_notes
from .kept import doubt, kept_sentence
from .loss_sentences import loss_headline, loss_notes, loss_summary, may_be_trained_on
from .probe_sentences import probe_notes
from .sweep_sentences import curve_sentences
from .text import change_size, during, open_word, percent, points, scope
from .think_traces import block_notes, trace_sentences

# If the upper end of the seed's own interval is below this, there is little to forget.
_FLOOR = 0.1
# A note is due if more than this share of a task's answers is missing from its score.
_MANY_LOST = 0.1
_SOURCES = {
    "self": "own answers of the seed",
    "rewrite": "rewrites",
    "original": "originals",
    "edit": "rows edited by hand",
    "replay": "rows of other data",
}


def with_sentences(verdict: JsonRow) -> JsonRow:
    """The verdict with its texts: `summary` and `notes`."""
    return {**verdict, "summary": summary(verdict), "notes": list(notes(verdict))}


# ---- the headline


def headline(findings: Findings) -> str:
    """The verdict in one or two sentences, about `Findings.headline_arms`. If no target has a score, the held-out loss
    takes its place."""
    arms = findings.headline_arms()
    rows = findings.glance(arms) if arms else []
    runs, sentences = during(findings.runs), list[str]()
    if total := max((row["total"] for row in rows), default=0):
        of = f" of {counted(total, 'other task')}{' so far' if findings.is_partial(arms) else ''}"
        said = [f"{row['arm']} {_forgotten(row, '' if place else of)}" for place, row in enumerate(rows)]
        sentences.append(f"{runs.capitalize()}, {' and '.join(said)}.")
    for task in dict.fromkeys(change["task"] for row in rows for change in row["targets"]):
        changes = [(row["arm"], change) for row in rows for change in row["targets"] if change["task"] == task]
        said = [f"{arm} {_moved(change, findings.margin)}" for arm, change in changes]
        sentences.append(f"On {task}, {' and '.join(said)} {runs}.")
    if not any(row["targets"] for row in rows):
        sentences.append(loss_headline(findings, arms))
    return " ".join(filter(None, sentences))


def _forgotten(row: JsonRow, of: str) -> str:
    """How many other tasks an arm forgot, with the mean change, which separates a small loss from a collapse. If none
    of the tasks can tell, that is said first."""
    unshown = "not decided" if "not decided" in row["others"] else "can't tell"
    count, unclear = len(row["others"].get("forgot", [])), len(row["others"].get(unshown, []))
    if unclear and unclear == row["total"] and unshown == "can't tell":
        return f"may have forgotten some{of} or none (too few items to tell, {points(row['mean'])} points on average)"
    details = [f"{unshown} for {unclear}"] if unclear else []
    if row["mean"] is not None:
        details.append(f"{points(row['mean'])} points on average")
    return f"forgot {count or 'none'}{of}" + (f" ({', '.join(details)})" if details else "")


def _moved(change: JsonRow, margin: float) -> str:
    size = points(change["difference"])
    return {
        "gained": f"gained {size[1:]} points",
        "forgot": f"lost {size[1:]} points",
        "kept": f"did not lose {percent(margin).removesuffix('.0')} points or more ({size})",
    }.get(change["word"], f"changed by {size} points ({open_word(change)})")


# ---- the summary


def summary(verdict: JsonRow) -> list[str]:
    """The results in sentences, good or bad. The arms of a sweep are summarised as curves."""
    findings, sentences = Findings.of(verdict), []
    if (acceptance := verdict["acceptance"]) and acceptance["rows"]:
        sentences.append(f"{kept_sentence(acceptance)}. The other rows keep their original responses.")
        sentences += [few] if (few := doubt(acceptance)) else []
    arms = [arm for arm in findings.arms if arm not in verdict["swept"]]
    for arm in arms:
        changes = [(task["role"], row) for task in findings.tasks if (row := findings.change(task, arm))]
        if changes:
            targets, rest = ([row for role, row in changes if role == wanted] for wanted in ("target", "other"))
            said = [f"{_verb(row, findings.margin)} on {row['task']} ({change_size(row)})" for row in targets]
            runs = min(row["runs"] for _, row in changes)
            subject = f"{scope(runs).capitalize()} of {arm}" if runs else f"The checkpoint {arm}"
            sentences.append(f"{subject}: {'; '.join([*said, *_tally(rest)])}.")
    sentences += degeneration_sentences(findings, verdict.get("degeneration", {}))
    sentences += trace_sentences(findings, verdict.get("thinking"))
    sentences += loss_summary(findings, arms)
    return [*sentences, *beyond_tables(verdict)]


def beyond_tables(verdict: JsonRow) -> list[str]:
    """The sentences of the summary that the terminal's tables don't show: tasks that the seed can't do, curves of a
    sweep, and comparisons with baseline arms."""
    findings, sentences = Findings.of(verdict), []
    seed_scores = {task["task"]: task["scores"].get(findings.seed_arm, {}) for task in findings.tasks}
    if low := [task for task, score in seed_scores.items() if (score.get("high") or 1) < _FLOOR]:
        sentences.append(
            f"The seed itself scores below {per_cent(_FLOOR, 0)} on {_list(low)}, so there is little to forget there."
        )
    sentences += curve_sentences(findings, verdict["sweeps"])
    for arm in findings.arms:
        if arm not in verdict["swept"] and (baseline := findings.baseline_arms.get(arm)):
            sentences += _against_baseline(findings, arm, baseline["against"])
    return sentences


def _against_baseline(findings: Findings, arm: str, baseline: str) -> list[str]:
    """Whether training on rewrites prevented the forgetting that training on the originals caused."""
    rows = {row["task"]: row for row in findings.comparisons if (row["arm"], row["against"]) == (arm, baseline)}
    if not rows:
        return []
    over, sentences = during(min(row["runs"] for row in rows.values())), []
    others = [task for task in findings.tasks if task["role"] == "other"]
    words = {task["task"]: (findings.change(task, baseline) or {}).get("word") for task in others}
    compared = [task["task"] for task in others if task["task"] in rows]
    if forgotten := [task for task in compared if words[task] == "forgot"]:
        better = [task for task in forgotten if rows[task]["word"] == "gained"]
        sentences.append(
            f"{baseline} forgot {_list(forgotten)} {over}; {arm} is better than {baseline} on {len(better)} of "
            f"{len(forgotten)}."
        )
    elif others and all(word in ("kept", "gained") for word in words.values()):
        sentences.append(
            f"{baseline} lost {100 * findings.margin:g} points or more on none of the other tasks {over}, so there was "
            f"nothing for {arm} to prevent."
        )
    if worse := [task for task in compared if rows[task]["word"] == "forgot"]:
        sentences.append(f"{arm} is worse than {baseline} on {_list(worse)} {over}.")
    for task in findings.tasks:
        if task["role"] == "target" and (row := rows.get(task["task"])):
            relation = _relation(row, findings.margin)
            above = row["low"] > 0 and row["word"] != "gained"
            note = "; it is above, but not after the correction over all tasks" if above else ""
            sentences.append(f"On {row['task']}, {arm} {relation} {baseline} {over} ({change_size(row)}{note}).")
    return sentences


def _verb(row: JsonRow, margin: float) -> str:
    kept = "no change" if row["unchanged"] else f"no loss of {100 * margin:g} points or more"
    return {"gained": "gained", "kept": kept, "forgot": "lost"}.get(row["word"], open_word(row))


def _relation(row: JsonRow, margin: float) -> str:
    kept = "is not below" if row["low"] > 0 else f"is less than {100 * margin:g} points below"
    kept = "is level with" if row["unchanged"] else kept
    return {"gained": "is above", "kept": kept, "forgot": "is below"}.get(row["word"], "can't be told apart from")


def _tally(rows: Sequence[JsonRow]) -> list[str]:
    """The number and names of the other tasks with each word: forgot, kept, gained, can't tell, not decided."""
    named: dict[str, list[str]] = {}
    for row in rows:
        needed = f": about {counted(row['needed'], 'item')} needed" if row["needed"] else ""
        named.setdefault(row["word"], []).append(row["task"] + needed)
    order = [word for word in ("forgot", "kept", "gained", "can't tell", "not decided") if word in named]
    parts = [f"{word} {len(named[word])} ({', '.join(named[word])})" for word in order]
    return [f"of {counted(len(rows), 'other task')}, {', '.join(parts)}"] if parts else []


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ---- the notes


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


def _single_run(runs: int | None, most: int, drop: float, spread: float) -> str:
    """For arms with one training run: the variation that the intervals leave out, and how many runs would cover it."""
    found = f"a drop of {100 * drop:g} points"
    if runs is None:
        advice = f"even {most} runs would not find {found} in 80 % of cases; evaluate on more items too."
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
    """The optimiser steps of each run, and the rows that a training left out, cut or masked."""
    steps = {run: counts["steps"] for run, counts in training.items()}
    if len(set(steps.values())) > 1:
        said = ", ".join(f"{run} {count:,}" for run, count in steps.items())
        yield f"Optimiser steps are not equal: {said}. Arms with unequal steps differ in more than the data."
    elif len(steps) > 1:
        yield f"Optimiser steps are equal: {next(iter(steps.values())):,} in each of {', '.join(steps)}."
    for run, counts in training.items():
        if cut := counts["cut"]:
            yield f"{run}: cut at train.max_length, so that the end is not trained on: {counted(cut, 'row')}."
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
