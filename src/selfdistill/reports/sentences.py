"""The headline and the summary of a study, composed from the numbers in verdict.json. Each claim about an arm rests on
an interval and names the training runs that it covers."""

from __future__ import annotations

from collections.abc import Sequence

from ..types.wording import counted, per_cent
from .answer_ends import degeneration_sentences
from .findings import Findings, JsonRow
from .kept import doubt, kept_sentence
from .loss_sentences import loss_headline, loss_summary
from .notes import notes
from .sweep_sentences import curve_sentences
from .text import change_size, during, lost_less, open_word, point_bounds, points, scope
from .think_traces import trace_sentences

# If the upper end of the seed's own interval is below this, there is little to forget.
_FLOOR = 0.1


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
        if all(map(_tells_nothing, rows)):
            said = [f"{row['arm']} ({points(row['mean'])} points on average)" for row in rows]
            sentences.append(f"Too few items to tell whether {' or '.join(said)} forgot any{of} {runs}.")
        else:
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
    if _tells_nothing(row):
        return f"may have forgotten some{of} or none (too few items to tell, {points(row['mean'])} points on average)"
    details = [f"{unshown} for {unclear}"] if unclear else []
    if row["mean"] is not None:
        span = f" {point_bounds(*row['span'])}" if row["span"] else ""
        details.append(f"{points(row['mean'])} points on average{span}")
    return f"forgot {count or 'none'}{of}" + (f" ({', '.join(details)})" if details else "")


def _tells_nothing(row: JsonRow) -> bool:
    """Whether the arm has too few items on each of the other tasks."""
    total: int = row["total"]
    return len(row["others"].get("can't tell", [])) == total > 0


def arms_without_sweeps(findings: Findings, verdict: JsonRow) -> list[str]:
    """The arms that get sentences of their own; those of a sweep are summarised as curves."""
    return [arm for arm in findings.arms if arm not in verdict.get("swept", ())]


def on_average(findings: Findings, arms: Sequence[str]) -> list[str]:
    """For each arm a sentence that compares its mean over the other tasks with those of other trained arms; none
    without the means."""
    sentences = []
    for arm in arms:
        rows = [row for row in findings.mean_changes if row["arm"] == arm and row["against"] != findings.seed_arm]
        said = " and ".join(_level(row, findings.margin) for row in rows)
        if rows:
            sentences.append(f"On average over {counted(rows[0]['tasks'], 'other task')}, {arm} is {said}.")
    return sentences


def _level(row: JsonRow, margin: float) -> str:
    size, span = points(row["difference"])[1:], f"95 % interval {points(row['low'])} to {points(row['high'])}"
    return {
        "gained": f"{size} points above {row['against']} ({span})",
        "forgot": f"{size} points below {row['against']} ({span})",
        "kept": f"less than {100 * margin:g} points below {row['against']}, if at all ({change_size(row)})",
    }.get(row["word"], f"not shown to be above or below {row['against']} ({change_size(row)})")


def _moved(change: JsonRow, margin: float) -> str:
    size = points(change["difference"])
    return {
        "gained": f"gained {size[1:]} points",
        "forgot": f"lost {size[1:]} points",
        "kept": f"{lost_less(margin)} ({size})",
    }.get(change["word"], f"changed by {size} points ({open_word(change)})")


# ---- the summary


def summary(verdict: JsonRow) -> list[str]:
    """The results in sentences, good or bad. The arms of a sweep are summarised as curves."""
    findings, sentences = Findings.of(verdict), []
    if (acceptance := verdict["acceptance"]) and acceptance["rows"]:
        sentences.append(f"{kept_sentence(acceptance)}. The other rows keep their original responses.")
        sentences += [few] if (few := doubt(acceptance)) else []
    arms = arms_without_sweeps(findings, verdict)
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
    findings = Findings.of(verdict)
    arms = arms_without_sweeps(findings, verdict)
    sentences = [*at_floor(findings), *curve_sentences(findings, verdict["sweeps"]), *on_average(findings, arms)]
    for arm in arms:
        if baseline := findings.baseline_arms.get(arm):
            sentences += _against_baseline(findings, arm, baseline["against"])
    return sentences


def at_floor(findings: Findings) -> list[str]:
    """A sentence that names the tasks that the seed can't do; none without such tasks."""
    seed_scores = {task["task"]: task["scores"].get(findings.seed_arm, {}) for task in findings.tasks}
    if low := [task for task, score in seed_scores.items() if (score.get("high") or 1) < _FLOOR]:
        where = f"below {per_cent(_FLOOR, 0)} on {_list(low)}"
        return [f"The seed itself scores {where}, so there is little to forget there."]
    return []


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
            f"On each of the other tasks {baseline} {lost_less(findings.margin)}, {over}, so there was nothing for "
            f"{arm} to prevent."
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
    kept = "no change" if row["unchanged"] else f"{lost_less(margin)},"
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
