"""The gate in words and files: the sentence, the JSON, the JUnit XML and the Markdown summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from ..types.wording import counted
from .findings import JsonRow
from .loss_sentences import loss_name, may_be_trained_on, nats
from .text import change_size, count, lost_less, percent, points, shorten, visible

OUTCOMES = {0: "passed", 1: "forgot", 2: "not run", 3: "undecided"}
_FORMAT = "selfdistill gate 1"
_MANY_BROKEN = 0.5
_INFORMATION = {
    "floor": "the seed is at the floor, so there is nothing to forget",
    "ceiling": "the seed is at the ceiling, so only a large loss would show",
}


def gate_document(verdict: JsonRow) -> JsonRow | None:
    """The result of a gate as `--json` writes it (docs/gate.md lists the keys); None for a verdict without a gate."""
    gate = verdict.get("gate")
    if not gate:
        return None
    skills = list(_skills(verdict, gate))
    losses = [
        {"task": each["task"], "file": each.get("file"), **row}
        for each in verdict["heldout_loss"]
        for row in each["comparisons"]
        if row["arm"] == "candidate"
    ]
    return {
        "format": _FORMAT,
        "outcome": OUTCOMES[gate["exit_code"]],
        **{key: value for key, value in gate.items() if key != "scores"},
        "targets": [{**row, **gate["scores"].get(row["task"], {})} for row in gate["targets"]],
        "target_loss": losses,
        "sentence": _sentence(gate, skills, losses),
        "notes": list(_notes(verdict, gate, skills)),
        "skills": skills,
        "examples": verdict["items_changed"]["examples"],
        "in_common": verdict["items_changed"]["in_common"].get("candidate", []),
    }


def failed_document(error: str) -> JsonRow:
    """The result of a gate that could not run."""
    return {"format": _FORMAT, "outcome": OUTCOMES[2], "exit_code": 2, "sentence": error, "notes": [], "skills": []}


def _skills(verdict: JsonRow, gate: JsonRow) -> Iterator[JsonRow]:
    """A row per skill: both scores, the comparison, and the items that changed."""
    rows = {row["task"]: row for row in verdict["comparisons"]}
    changed = {row["task"]: row for row in verdict["items_changed"]["flips"]}
    kept = ("difference", "low", "high", "p_value", "p_holm", "p_kept", "word")
    for task in verdict["tasks"]:
        row = rows.get(task["task"])
        if task["role"] == "target" or row is None:
            continue
        scores = gate["scores"][task["task"]]  # on the items that are compared
        flips = {
            key: value for key, value in changed.get(task["task"], {}).items() if key not in ("task", "arm", "word")
        }
        information = gate["uninformative"].get(task["task"], "informative")
        about = {"skill": task["task"], "about": task["skill"], "n": row["n"], "information": information}
        needed = row["needed"] if information == "informative" else None  # more items show no more at a bound
        yield {**about, **scores, **{key: row[key] for key in kept}, "needed": needed, "items": flips}


def _sentence(gate: JsonRow, skills: Sequence[JsonRow], losses: Sequence[JsonRow]) -> str:
    """The result in one or two sentences."""
    code, mean, margin = gate["exit_code"], gate["mean"], f"{100 * gate['margin']:g} points"
    said = ""
    if mean:
        span = f"95 % interval {points(mean['low'])} to {points(mean['high'])}"
        said = f"{points(mean['difference'])} points on average over {counted(mean['skills'], 'skill')} ({span})"
    if code == 1:
        lost = [f"{row['skill']} ({points(row['difference'])})" for row in skills if row["skill"] in gate["lost"]]
        parts = [f"it lost (in points) on {', '.join(lost)}"] if lost else []
        parts += [f"the mean is shown to be more than {margin} below the seed"] if mean and mean["beyond"] else []
        return f"Forgot: {' and '.join(parts)}{f'; {said}' if said else ''}."
    if code == 2 and not skills:
        return "Not decided: no answer could be judged for both models; the reasons are in the grades.jsonl files."
    if code == 2 and gate["absent"]:
        return (
            f"Not decided: no answer to {', '.join(gate['absent'])} could be judged for both models; the reasons are "
            "in grades.jsonl. Make them judgeable, or leave these skills out of evaluate.tasks."
        )
    if code == 2:
        return (
            "Not decided: every skill of the suite is uninformative, since the seed is at the floor or the ceiling; "
            "choose another suite."
        )
    target = _target(gate["targets"], losses, gate["margin"])
    if code == 0:
        loss = "no loss shown elsewhere" if target else "no skill is shown to have lost"
        return f"Passed: {target}{loss}, and the mean is within {margin} of the seed: {said}."
    return f"Undecided: {target}{said}; {_missing(gate, skills, margin)}"


def _target(targets: Sequence[JsonRow], losses: Sequence[JsonRow], margin: float) -> str:
    """The change on the target, as the beginning of a sentence; empty without a target."""
    verbs = {"gained": "gained", "forgot": "lost", "kept": f"{lost_less(margin)},"}
    said = []
    for row in targets:
        verb = verbs.get(row["word"], "no change shown")
        size = f"{points(row['difference'])[1:]} points " if row["word"] in ("gained", "forgot") else ""
        said.append(f"{verb} {size}on {row['task']}")
    said += [f"{loss_name([row])} {row['word']} ({nats(row['difference'])} nats per token)" for row in losses]
    return f"{', '.join(said)}; " if said else ""


def _missing(gate: JsonRow, skills: Sequence[JsonRow], margin: str) -> str:
    """What is not shown, and the items that would show it."""
    mean = gate["mean"]
    if not mean["within"]:
        needed = mean["needed"]
        rest = f"about {counted(needed, 'item')} per skill needed" if needed else "more items alone will not decide it"
        return f"it is open whether the mean is within {margin} of the seed; {rest}."
    undecided = [row for row in skills if row["skill"] in gate["undecided"]]
    return f"it is open whether these skills are within {margin} too: {_each_needed(undecided)}."


def _each_needed(rows: Sequence[JsonRow]) -> str:
    return ", ".join(
        f"{row['skill']} (about {counted(row['needed'], 'item')} needed)" if row["needed"] else f"{row['skill']}"
        for row in rows
    )


def _notes(verdict: JsonRow, gate: JsonRow, skills: Sequence[JsonRow]) -> Iterator[str]:
    same, ends = gate["same_answers"], gate["candidate_endings"]
    if same["of"] and same["same"] == same["of"]:
        yield f"The candidate answers all {count(same['of'])} items as the seed does, to the letter."
    elif same["of"]:
        yield f"{count(same['same'])} of {counted(same['of'], 'answer')} are the same as the seed's, to the letter."
    for ending in ("empty", "loop", "garbled"):
        if ends["all"] and ends[ending] >= _MANY_BROKEN * ends["all"]:
            what = {"empty": "are empty", "loop": "end in a loop", "garbled": "are garbled"}[ending]
            yield f"{count(ends[ending])} of {counted(ends['all'], 'answer')} of the candidate {what}."
    for skill, failed in gate["unanswered"].items():
        yield (
            f"{skill}: {counted(failed, 'answer')} of the candidate failed for good, such as by a prompt that is too "
            "long or a content filter, and count as wrong."
        )
    for skill, left in gate["left_out"].items():
        yield (
            f"{skill}: {counted(left, 'item')} left out of both scores, because the seed's answer failed or an answer "
            f"could not be judged{'; --strict does not pass with them' if gate['strict'] else ''}."
        )
    for kind, why in _INFORMATION.items():
        if names := [name for name, found in gate["uninformative"].items() if found == kind]:
            yield f"Uninformative: {', '.join(names)}: {why}."
    beyond = -gate["margin"]  # such a loss is no open question, even if the gate ended before its word was due
    undecided = [row for row in skills if row["skill"] in gate["undecided"] and row["high"] >= beyond]
    if undecided and not (gate["exit_code"] == 3 and gate["mean"] and gate["mean"]["within"]):
        why = f"; not decided: the gate ended at {_look(gate)}" if gate.get("ended_early") else ""
        yield f"Open whether within {100 * gate['margin']:g} points alone: {_each_needed(undecided)}{why}."
    yield _looked(gate)
    if skills:
        yield (
            "The printed intervals are 95 % intervals of the items so far, each alone, and not what is tested: the "
            "tests are corrected over the looks and the skills, and are stricter at an early look."
        )
    if gate["baseline"]:
        yield (
            f"The seed's answers are from the baseline file {gate['baseline']} and the seed was not loaded, so the "
            "shift from it is not measured."
        )
    if gate["regraded"]:
        yield f"{count(gate['regraded'])} of its answers are graded in another way than when the file was made."
    for name, day in gate["reused"].items():
        yield (
            f"Answers of {name} from {day} are used again, although another model may be behind its endpoint now; "
            "after a change, give a new --dir."
        )
    yield from checkpoint_notes(verdict.get("checkpoints", {}))
    yield from may_be_trained_on(verdict["heldout_loss"])


def _looked(gate: JsonRow) -> str:
    done, planned = gate["looks"], gate["looks_planned"]
    if not done or done[-1] == planned[-1]:
        return (
            f"Looked at the results {counted(len(done), 'time')}, up to all items; the error rates hold over all looks."
        )
    share = f"{100 * done[-1]:g} % of the items"
    return f"Stopped after {share}, at {_look(gate)}, since the answer was clear."


def _look(gate: JsonRow) -> str:
    return f"look {len(gate['looks'])} of {len(gate['looks_planned'])}"


def checkpoint_notes(checkpoints: JsonRow) -> Iterator[str]:
    """Where a checkpoint differs from the seed in how it is asked."""
    for name, facts in checkpoints.items():
        if facts["kind"] == "adapter":
            yield f"{name} is an adapter on {facts['base'] or 'the seed'}."
        if facts["same_template"] is False:
            yield f"{name} has another chat template than the seed, and is asked with its own."
        if facts["same_tokenizer"] is False:
            yield f"{name} has another tokenizer than the seed."
        if facts["kind"] == "served":
            yield f"{name} is behind an endpoint, so its template and tokenizer are not compared with the seed's."
        if not facts["same_sampling"]:
            yield f"{name} is sampled with other settings than the seed."


# ---- files


def gate_markdown(document: JsonRow) -> str:
    """A summary for a pull request."""
    signs = {"passed": "✅", "forgot": "❌", "undecided": "❔", "not run": "⚠️"}
    lines = [
        f"### {signs[document['outcome']]} selfdistill gate: {document['outcome']}",
        "",
        # An error may hold a command to copy.
        _fenced(document["sentence"]) if document["outcome"] == "not run" else _md(document["sentence"]),
        "",
    ]
    if rows := [*_target_cells(document), *map(_skill_cells, document["skills"])]:
        lines += ["| skill | n | seed | candidate | change | 95 % interval | right → wrong | wrong → right | |"]
        lines += ["|---|--:|--:|--:|--:|---|--:|--:|---|"]
        lines += [f"| {' | '.join(cells)} |" for cells in rows]
    lines += ["", *(f"- {_md(note)}" for note in document["notes"])]
    for example in document.get("examples", ()):
        lines += ["", f"**{_md(example['task'])}**, one of {counted(example['of'], 'forgotten item')}", ""]
        for name in ("prompt", "seed", "answer"):
            label = "candidate" if name == "answer" else name
            lines.append(f"- {label}: {_md(shorten(visible(example[name]), 300))}")
    return "\n".join(lines).rstrip() + "\n"


def _skill_cells(row: JsonRow) -> list[str]:
    """A skill as a row of the summary's table."""
    items = row["items"]
    word = row["word"] if row["information"] == "informative" else f"{row['word']}, {row['information']}"
    changes = (items.get("right_to_wrong_adjusted"), items.get("wrong_to_right_adjusted"))
    return [_md(row["skill"]), *_changed_cells(row), *map(percent, changes), f"{word}{_about_needed(row)}"]


def _target_cells(document: JsonRow) -> Iterator[list[str]]:
    """The target as rows of the summary's table: by its scores, and by its loss."""
    for row in document.get("targets", ()):
        yield [f"target {_md(row['task'])}", *_changed_cells(row), "", "", f"{row['word']}{_about_needed(row)}"]
    for row in document.get("target_loss", ()):
        changed, span = nats(row["difference"]), f"{nats(row['low'])} to {nats(row['high'])}"
        name = f"target {_md(row['task'])}, nats per token"
        yield [name, count(row["n"]), "", "", changed, span, "", "", row["word"]]


def _changed_cells(row: JsonRow) -> list[str]:
    """The items, both scores, and the change with its interval."""
    span = f"{points(row['low'])} to {points(row['high'])}"
    scores = [percent(row.get(arm)) for arm in ("seed", "candidate")]
    return [count(row["n"]), *scores, points(row["difference"]), span]


def _about_needed(row: JsonRow) -> str:
    return f", about {counted(row['needed'], 'item')} needed" if row["needed"] else ""


def _md(text: str) -> str:
    """Text of a model or a user, so that Markdown shows it and does not read it."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]<>#|!~" else sign for sign in visible(text))


def _fenced(text: str) -> str:
    shown = visible(text).replace("`" * 4, "`" * 3)
    return f"{'`' * 4}text\n{shown}\n{'`' * 4}"


def gate_junit(document: JsonRow) -> str:
    """JUnit XML with a test case per skill and one for the gate. A case fails for a loss and is skipped if it is
    undecided or uninformative; the gate's own case is an error if it could not run."""
    suite = ElementTree.Element("testsuite", name="selfdistill gate")
    whole = ElementTree.SubElement(suite, "testcase", classname="selfdistill.gate", name="gate")
    code = document["exit_code"]
    if code:
        kind = {1: "failure", 2: "error", 3: "failure"}[code]
        ElementTree.SubElement(whole, kind, message=_xml(document["sentence"]), type=document["outcome"])
    for row in document["skills"]:
        case = ElementTree.SubElement(suite, "testcase", classname="selfdistill.gate.skill", name=_xml(row["skill"]))
        if row["word"] == "forgot":
            ElementTree.SubElement(case, "failure", message=f"lost: {change_size(row)}", type="forgot")
        elif row["information"] != "informative" or row["word"] in ("can't tell", "not decided"):
            why = row["information"] if row["information"] != "informative" else "undecided"
            ElementTree.SubElement(case, "skipped", message=f"{why}: {change_size(row)}")
    found = {kind: len(suite.findall(f".//{kind}")) for kind in ("failure", "error", "skipped")}
    suite.set("tests", str(len(document["skills"]) + 1))
    for kind, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(plural, str(found[kind]))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Text without the characters that XML can't hold."""
    return "".join(sign for sign in visible(text) if sign in "\t\n" or ord(sign) >= 32)
