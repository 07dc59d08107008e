"""The tables of the terminal, for 80 columns and up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..types.wording import counted, minus, per_cent
from .answer_ends import degeneration_rows
from .findings import Findings, JsonRow
from .kept import doubt, outcomes
from .loss_sentences import loss_name, loss_rows, nats
from .notes import shift_missing
from .text import LOOKS, WORDS, bounds, count, percent, point_bounds, points, shorten, visible, visible_json
from .think_traces import MEASURES, Measure, trace_rows

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_MAX_COLUMNS = 3  # arms that fit side by side in 80 columns
_MAX_REASONS = 12
_COLORS = {"better": "green", "worse": "red", "kept": ""}


def verdict_table(verdict: dict[str, Any]) -> Table:
    """Scores in per cent with 95 % intervals, whether each arm gained, kept or forgot each task, and its mean change on
    the other tasks.

    Up to three arms are columns; with more arms, each arm has its own line under its task. The caption names the
    training runs that the words are about.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    findings = Findings.of(visible_json(verdict))
    wide, gated = len(findings.arms) <= _MAX_COLUMNS, bool(verdict.get("gate"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, caption_justify="left")
    table.caption = "\n".join(_caption(findings)) or None
    table.add_column("task", overflow="fold", max_width=18 if wide else 20)
    for name in findings.arms if wide else ("arm", "score", "change"):
        table.add_column(Text(shorten(name, 18)), no_wrap=name in ("score", "change"), overflow="fold")
    for title, cells in _lines(findings, wide, gated):
        if wide:
            table.add_row(title, *(Text("\n").join(filter(None, cells[arm])) for arm in findings.arms))
            continue
        for arm in findings.arms:
            last = arm == findings.arms[-1]
            named = title if arm == findings.arms[0] else ""
            table.add_row(named, Text(shorten(arm, 24)), *cells[arm], end_section=last)
    return table


def _lines(findings: Findings, wide: bool, gated: bool) -> Iterator[tuple[Text, dict[str, tuple[Text, Text]]]]:
    """The title and the cells of each task, by arm, and those of the mean change on the other tasks."""
    from rich.text import Text

    for task in findings.tasks:
        mark = ("\ntarget" if wide else " (target)") if task["role"] == "target" else ""
        mark += f"{chr(10) if wide else ', '}n = {count(task['n'])}" if gated else ""
        title = Text.assemble(shorten(task["task"], 60), (mark, "dim"))
        yield title, {arm: _cell(findings, task, arm) for arm in findings.arms}
    means = {arm: findings.mean_change(arm, findings.seed_arm) for arm in findings.arms}
    if any(means.values()):
        yield Text("mean of the others", style="bold"), {arm: _mean_cell(row) for arm, row in means.items()}


def _mean_cell(row: JsonRow | None) -> tuple[Text, Text]:
    from rich.text import Text

    if row is None:
        return Text(""), Text("")
    return Text(""), Text.assemble(_changed(row), "\n", point_bounds(row["low"], row["high"]))


def _changed(change: JsonRow, over: str = "") -> Text:
    """A change in points with its sign and word; `over` follows."""
    from rich.text import Text

    word = change["word"]
    return Text(f"{points(change['difference'])} {WORDS[word][0]} {word}{over}", style=_color(word))


def _caption(findings: Findings) -> Iterator[str]:
    if findings.comparisons:
        yield f"The words are about {findings.scope} of each arm."
    if any(findings.score_items(task, arm) is not None for task in findings.tasks for arm in findings.arms):
        yield "A score is over the n items that could be judged, a change over the n items judged for both arms."
    if findings.ended_at and any(row["word"] == "not decided" for row in findings.comparisons):
        yield f"Not decided: the gate ended at {findings.ended_at}."


def degeneration_table(verdict: dict[str, Any]) -> Table | None:
    """How many answers end in a loop or in garble, are empty or cut off; None if there are none."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = visible_json(verdict)
    rows = degeneration_rows(Findings.of(shown), shown.get("degeneration", {}))
    if not rows:
        return None
    title = "Answers that end in a loop or in garble, or are empty (in %), and those cut off at the limit"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("task", "arm", "share", "change", "answers"):
        table.add_column(name, no_wrap=name == "change", overflow="fold")
    for task, group in groupby(rows, key=lambda row: row.task):
        for place, row in enumerate(of_task := list(group)):
            counts = ", ".join(f"{count(number)} {name}" for name, number in row.counts.items() if number)
            cells = [Text("" if place else shorten(task, 20)), Text(shorten(row.arm, 14))]
            cells += [Text(f"{percent(row.value)} {bounds(row.low, row.high)}"), _moved(row.change)]
            table.add_row(*cells, Text(counts or "–"), end_section=row is of_task[-1])
    return table


def trace_table(verdict: dict[str, Any]) -> Table | None:
    """The think traces of each arm; None if the model does not think."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = visible_json(verdict)
    rows = trace_rows(Findings.of(shown), shown.get("thinking"))
    if not rows:
        return None
    title = "Think traces, with 95 % intervals and changes against the seed"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("task", "arm", *MEASURES.values(), "not valid"):
        table.add_column(name, overflow="fold")
    for task, group in groupby(rows, key=lambda row: row.task):
        for place, row in enumerate(of_task := list(group)):
            counts = ", ".join(f"{count(number)} {name}" for name, number in row.counts.items() if number)
            cells = [Text("" if place else shorten(task, 20)), Text(shorten(row.arm, 14))]
            cells += [
                Text.assemble(f"{each.value} {each.interval} ", *([_sized(each)] if each.change else []))
                for each in row.measures
            ]
            table.add_row(*cells, Text(counts or "–"), end_section=row is of_task[-1])
    return table


def _sized(measure: Measure) -> Text:
    from rich.text import Text

    assert measure.change is not None
    word = measure.change["word"]
    sign = WORDS[word][0]
    color = "" if word in ("lower", "higher") else _color(word)
    return Text(f"{measure.sized(measure.change['difference'])} {sign}", style=color)


def _color(word: str) -> str:
    return _COLORS[LOOKS[word]] if word in LOOKS else "yellow"


def loss_table(verdict: dict[str, Any]) -> Table | None:
    """The held-out loss of each arm, and its changes; None if it was not measured."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    findings = Findings.of(visible_json(verdict))
    if not findings.losses:
        return None
    name = loss_name(findings.losses)
    title = Text(f"{name[0].upper()}{name[1:]} in nats per token of the original responses (lower is better)")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("arm", "loss", "against the seed", "its baseline arm", "n"):
        table.add_column(name, no_wrap=name != "arm", overflow="fold")
    for task, rows in groupby(loss_rows(findings), key=lambda row: row.task):
        table.add_row(Text(shorten(task, 20), style="dim"))
        for row in rows:
            changes = [
                Text(f"{nats(change['difference'])} {change['word']}", _color(change["word"])) if change else ""
                for change in (row.seed, row.baseline)
            ]
            table.add_row(Text(shorten(row.arm, 14)), f"{row.loss} {row.interval}", *changes, count(row.of["n"]))
    return table


def _moved(change: JsonRow | None) -> Text:
    from rich.text import Text

    if change is None:
        return Text("")
    sign, word = WORDS[change["word"]]
    return Text(f"{points(change['difference'])} {sign} {word}", style=_color(change["word"]))


def _cell(findings: Findings, task: JsonRow, arm: str) -> tuple[Text, Text]:
    from rich.text import Text

    score, change = task["scores"].get(arm), findings.change(task, arm)
    if score is None:
        is_reference = arm == findings.seed_arm and task["scores"]  # the other arms are judged against the seed
        return Text("" if is_reference else "not yet", style="dim"), Text("")
    known = score["value"] is not None
    value = f"{percent(score['value'])} {bounds(score['low'], score['high'])}" if known else "unjudged"
    items = findings.score_items(task, arm)
    value += f" n={count(items)}" if known and items is not None else ""
    if change is None:
        return Text(value), Text("")
    return Text(value), _changed(change, "" if items is None else f" n={count(change['n'])}")


@dataclass(frozen=True)
class PaperScore:
    """A score of ours with its 95 % interval next to the paper's, in per cent; None if there is none. At demo scale
    `stands_for` is the paper's task that `task` replaces."""

    experiment: str
    arm: str
    task: str
    ours: float | None
    low: float | None
    high: float | None
    n: int
    paper: float | None
    stands_for: str = ""


def reproduction_table(scores: Sequence[PaperScore]) -> Table:
    """Our scores next to the paper's, by experiment and task, with a line for each arm."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table, has_paper = Table(box=box.SIMPLE_HEAD, pad_edge=False), any(row.paper is not None for row in scores)
    for name in ("tuned on", "task", "arm", "ours, in %", *(["the paper's"] if has_paper else [])):
        table.add_column(name, overflow="fold")
    before = ""
    for (own, task), group in groupby(scores, key=lambda row: (row.experiment, row.task)):
        rows = list(group)
        for place, row in enumerate(rows):
            interval = "" if row.low is None or row.high is None else f" [{row.low:.1f}, {row.high:.1f}]"
            named = task + (f" (for {row.stands_for})" if row.stands_for else "")
            cells = [own if own != before else "", "" if place else named, row.arm]
            cells.append("unjudged" if row.ours is None else f"{row.ours:.1f}{interval}")
            cells += ["–" if row.paper is None else f"{row.paper:.1f}"] if has_paper else []
            table.add_row(*map(Text, cells), end_section=row is rows[-1])
            before = own
    return table


def shift_table(shift: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each run and a column for the mean of each metric; the intervals are in shift/RUN.json. `weights` is
    the relative norm of the change of the weights. Under the table: why a measure is missing."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Distribution shift from the seed", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    metrics = list(dict.fromkeys(name for row in shift.values() for name in row["metrics"]))
    for name in (*metrics, "weights"):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for run, row in shift.items():
        means = [row["metrics"].get(name, {}).get("mean") for name in metrics]
        table.add_row(run, *map(_short, [*means, (row["parameters"] or {}).get("relative")]))
    table.caption, table.caption_justify = Text(visible("\n".join(shift_missing(shift)))), "left"
    return table


def _short(value: float | None) -> str:
    return "–" if value is None else minus(f"{value:.3f}" if value == 0 or value >= 0.01 else f"{value:.2g}")


def acceptance_lines(acceptance: dict[str, Any]) -> str:
    """How many rewrites were accepted or kept unchecked, and why the others were rejected, as rich markup."""
    from rich.markup import escape

    rows = acceptance["rows"]
    lines = [
        f"Rewrites {word}: {count(number)} of {count(rows)}" + (f" ({per_cent(number / rows)})" if rows else "")
        for word, number in outcomes(acceptance)
    ]
    if acceptance.get("duplicates"):
        lines[0] += f"; {counted(acceptance['duplicates'], 'exact repetition')} with the rewrite of the first row"
    reasons = sorted(acceptance["reasons"].items(), key=lambda item: (-item[1], item[0]))
    if reasons:
        lines.append(f"Rejected: {count(sum(acceptance['reasons'].values()))} of {count(rows)}, because")
    for reason, number in reasons[:_MAX_REASONS]:
        lines.append(f"  {count(number):>7}  {per_cent(number / rows):>7}  {escape(shorten(visible(reason), 56))}")
    if rest := reasons[_MAX_REASONS:]:
        lines.append(f"  {count(sum(number for _, number in rest)):>7}           {counted(len(rest), 'rarer reason')}")
    if traces := acceptance.get("traces"):
        faults = ", ".join(f"{count(n)} {escape(shorten(visible(why), 56))}" for why, n in traces["faults"].items())
        lines.append(
            f"Think traces of these that can be trained on: {count(traces['usable'])}; not: {faults or 'none'}"
        )
    if few := doubt(acceptance):
        lines.append(few)
    return "\n".join(lines)
