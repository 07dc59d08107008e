"""The page's figures for a terminal of 80 columns and up."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from .findings import Findings, Row
from .text import WORDS, bounds, count, percent, points, shorten, visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table
    from rich.text import Text

    from ..pipeline.reproduce import Figure

_MAX_COLUMNS = 3  # arms that stand side by side in 80 columns
_MAX_REASONS = 12
_COLORS = {"gained": "green", "forgot": "red", "can't tell": "yellow"}


def verdict_table(verdict: dict[str, Any]) -> Table:
    """Scores in percent with their 95 % intervals, and what each arm gained, kept or forgot against the seed. Up to
    three arms stand side by side; of more, each has a line of its own under its task. The caption names the training
    runs that the words are about."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    findings = Findings.of(visible_json(verdict))
    wide = len(findings.arms) <= _MAX_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, caption_justify="left")
    if findings.comparisons:
        table.caption = f"The words are about {findings.scope} of each arm."
    table.add_column("task", overflow="fold", max_width=18 if wide else 20)
    for name in findings.arms if wide else ("arm", "score", "change"):
        table.add_column(Text(shorten(name, 18)), no_wrap=name in ("score", "change"), overflow="fold")
    for task in findings.tasks:
        mark = ("\ntarget" if wide else " (target)") if task["role"] == "target" else ""
        title = Text.assemble(shorten(task["task"], 60), (mark, "dim"))
        if wide:
            table.add_row(title, *(Text("\n").join(_cell(findings, task, arm)) for arm in findings.arms))
            continue
        for number, arm in enumerate(findings.arms):
            last = number == len(findings.arms) - 1
            table.add_row(
                title if not number else "", Text(shorten(arm, 24)), *_cell(findings, task, arm), end_section=last
            )
    return table


def _cell(findings: Findings, task: Row, arm: str) -> tuple[Text, Text]:
    from rich.text import Text

    score, change = task["scores"].get(arm), findings.change(task, arm)
    if score is None:
        itself = arm == findings.seed_arm and task["scores"]  # it is what the others are judged against
        return Text("" if itself else "not yet", style="dim"), Text("")
    value = (
        f"{percent(score['value'])} {bounds(score['low'], score['high'])}" if score["value"] is not None else "unjudged"
    )
    if change is None:
        return Text(value), Text("")
    word = change["word"]
    said = f"{points(change['difference'])} {WORDS.get(word, ('?', ''))[0]} {word}"
    return Text(value), Text(said, style=_COLORS.get(word, ""))


def reproduction_table(figures: Sequence[Figure]) -> Table:
    """Our figures with their 95 % intervals beside the paper's where it has any: by experiment and task, arm under
    arm."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table, beside = Table(box=box.SIMPLE_HEAD, pad_edge=False), any(row.paper is not None for row in figures)
    for name in ("tuned on", "task", "arm", "ours, in %", *(["the paper's"] if beside else [])):
        table.add_column(name, overflow="fold")
    before = ""
    for (own, task), group in groupby(figures, key=lambda row: (row.experiment, row.task)):
        rows = list(group)
        for place, row in enumerate(rows):
            ours = "unjudged" if row.ours is None else f"{row.ours:.1f}{_within(row)}"
            named = task + (f" (for {row.stands_for})" if row.stands_for else "")
            cells = [own if own != before else "", "" if place else named, row.arm, ours]
            cells += ["–" if row.paper is None else f"{row.paper:.1f}"] if beside else []
            table.add_row(*map(Text, cells), end_section=row is rows[-1])
            before = own
    return table


def _within(row: Figure) -> str:
    return "" if row.low is None or row.high is None else f" [{row.low:.1f}, {row.high:.1f}]"


def acceptance_lines(acceptance: dict[str, Any]) -> str:
    """How many rewrites were accepted, and why the others were not, as rich markup."""
    from rich.markup import escape

    rows, accepted = acceptance["rows"], acceptance["accepted"]
    share = f" ({100 * accepted / rows:.1f} %)" if rows else ""
    lines = [f"Rewrites accepted: {count(accepted)} of {count(rows)}{share}"]
    if acceptance.get("duplicates"):
        lines[0] += f"; {count(acceptance['duplicates'])} duplicate rows share theirs"
    reasons = sorted(acceptance.get("reasons", {}).items(), key=lambda item: (-item[1], item[0]))
    for reason, number in reasons[:_MAX_REASONS]:
        lines.append(f"  {count(number):>7}  {percent(number / rows):>5} %  {escape(shorten(visible(reason), 56))}")
    if rest := reasons[_MAX_REASONS:]:
        lines.append(f"  {count(sum(number for _, number in rest)):>7}           {count(len(rest))} rarer reasons")
    return "\n".join(lines)
