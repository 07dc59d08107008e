"""Print a checked recipe, a verdict, or a line."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.control import Control
from rich.markup import escape
from rich.text import Text

from ..types.wording import counted

if TYPE_CHECKING:
    from ..pipeline.check import Checked
    from ..pipeline.preview import Previewed

_SHOWN = 2000  # characters that are printed of each end of a long text


class LoggedConsole(Console):
    """A console that passes what it prints to `copy` too, if there is one. The live area is not passed on."""

    copy: Callable[..., None] | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        # The live area prints control codes, and as `Text` what libraries write to stderr meanwhile.
        if self.copy is not None and not any(isinstance(each, Control | Text) for each in objects):
            self.copy(*objects, **options)


out = LoggedConsole(highlight=False)
err = LoggedConsole(stderr=True, highlight=False)


def show_checked(found: Checked, all_prompts: bool) -> None:
    say_heading("Plan")
    for line in found.plan:
        say("  " + line)
    prompts = found.prompts if all_prompts else found.one_of_each_kind()
    for kind, text in prompts:
        say_heading(f"Prompt: {kind}")
        say(_both_ends(text))
    if left := len(found.prompts) - len(prompts):
        say(f"\nNot shown: the prompts of {counted(left, 'more task')}; add --prompts to see them.")
    if found.graded:
        say_heading("What the grader reads from the first original responses")
        for example, verdict in found.graded:
            shown = " ".join(example.reference.split())
            shown = shown if len(shown) <= 60 else f"… {shown[-58:]}"
            read = verdict.expected or verdict.reason
            outcome = verdict.outcome if verdict.checked else "not checked"
            say(f"  {outcome:12} {read:24.60} {shown}")
    unseen = "Not checked, since the hub can't be reached"
    for heading, lines in (("Warnings", found.warnings), (unseen, found.unseen), ("Missing", found.missing)):
        if lines:
            say_heading(heading)
            for line in lines:
                say("  - " + line)


def _both_ends(text: str) -> str:
    left = len(text) - 2 * _SHOWN
    return text if left <= 0 else f"{text[:_SHOWN]}\n… {left:,} characters not shown …\n{text[-_SHOWN:]}"


def show_previewed(rows: list[Previewed]) -> None:
    from ..reports.kept import UNCHECKED

    for number, row in enumerate(rows, 1):
        rewrite, grade = row.rewrite, row.rewrite.grade
        kept = "accepted" if grade.checked else UNCHECKED
        result = kept if grade.passed else "rejected, so the original is trained on"
        say_heading(f"Row {number} of {len(rows)}: {result} ({grade.reason})")
        answer = rewrite.completion.text or f"(none: {rewrite.completion.error or 'empty'})"
        parts = {"Prompt": rewrite.example.instruction, "Original": rewrite.example.reference, "Rewrite": answer}
        target = row.target or rewrite.response
        parts["Trained on, in ⟦⟧" if row.target else "Trained on"] = target
        for name, text in parts.items():
            say(f"{name}: {_both_ends(text)}")


def show_verdict(verdict: dict[str, Any], directory: Path) -> None:
    """The tables, what they don't show, and last the sentence on what happened with the commands to copy. The page has
    every result in sentences."""
    from ..reports.findings import Findings
    from ..reports.gate_files import gate_document
    from ..reports.next_steps import next_steps
    from ..reports.sentences import beyond_tables, headline
    from ..reports.terminal import acceptance_lines, degeneration_table, loss_table, trace_table, verdict_table

    if verdict["acceptance"]:
        out.print(acceptance_lines(verdict["acceptance"]))
    say_gap(verdict["gap"])
    if verdict["tasks"]:
        out.print(verdict_table(verdict))
    for table in (degeneration_table(verdict), trace_table(verdict), loss_table(verdict)):
        if table:
            out.print(table)
    gate = gate_document(verdict) or {"sentence": "", "notes": []}
    for sentence in [*beyond_tables(verdict), *verdict["notes"], *gate["notes"]]:
        say("- " + sentence)
    advice, commands = next_steps(verdict, directory)
    if said := gate["sentence"] or advice or headline(Findings.of(verdict)):
        say_heading(said)
    for title, command in commands:
        say(f"# {title}")
        out.print(visible(command), markup=False, soft_wrap=True)  # so that it can be copied
    if not commands:
        say(f"Report: {directory / 'report.html'}")


def say_gap(counts: dict[str, Any] | None) -> None:
    from ..reports.gap_sentences import gap_sentence

    if counts:
        say(f"gap: {gap_sentence(counts)}")


def say(text: str) -> None:
    """Print text without markup and with control codes made visible. Only a terminal's width breaks its lines."""
    out.print(visible(text), markup=False, soft_wrap=not out.is_terminal)


def show_error(text: str) -> None:
    err.print(f"[bold red]Error:[/bold red] {escape(visible(text))}", soft_wrap=True)


def say_stopped(text: str) -> None:
    err.print(visible(text), markup=False, soft_wrap=True)


def say_heading(text: str) -> None:
    out.print(f"\n[bold]{escape(visible(text))}[/bold]")


def visible(text: str) -> str:
    """The text with control codes and direction marks as \\uXXXX, so that a terminal prints them."""
    return "".join(f"\\u{ord(c):04x}" if c not in "\n\t" and _controls(c) else c for c in text)


def _controls(character: str) -> bool:
    marks = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return unicodedata.category(character) in ("Cc", "Cs") or character in marks
