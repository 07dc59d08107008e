"""The browser of rewrites: each rewrite next to the original response, in one static file."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..grading.traces import split
from ..store.marks import REWRITES, marked_rewrites, marks_counts
from ..store.rows import parse_line
from ..types import Rewrite
from .html import render
from .kept import outcomes
from .saved import read_lines
from .text import MAX_TEXT, cut, page_turns, shorten, visible

MAX_ROWS = 5_000
_MAX_PAGE_TEXT = 30_000_000  # browsers are slow to open larger pages
_MAX_REASON = 160
_MAX_REASONS = 2_000

_Place = tuple[int, int, int, int]  # rank (the highest ranks are drawn), line number, byte offset, bytes


@dataclass
class Survey:
    """The result of one pass over rewrites.jsonl. `places` are the (line number, byte offset) of the rows to show, in
    the file's order. `unchecked` rewrites are kept without a check of the content; `reasons` counts the rows whose
    original was kept. `by_hand` holds the rows that a person decided about as they are trained on, by id; `outdated`:
    whether rows were marked since."""

    rows: int = 0
    accepted: int = 0
    unchecked: int = 0
    damaged: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    places: list[tuple[int, int]] = field(default_factory=list)
    by_hand: dict[str, dict[str, Any]] = field(default_factory=dict)
    outdated: bool = False

    @property
    def marks(self) -> str:
        """For example "3 rows by hand: 2 originals, 1 edit"; empty without marks."""
        return marks_counts(Counter(row["mark"] for row in self.by_hand.values())) if self.by_hand else ""

    def acceptance(self) -> dict[str, Any]:
        """The counts of `acceptance` in verdict.json, for an experiment without that file."""
        counts = {"rows": self.rows, "accepted": self.accepted, "unchecked": self.unchecked}
        rate = (self.accepted + self.unchecked) / self.rows if self.rows else None
        return {**counts, "rate": rate, "reasons": dict(self.reasons.most_common())}


def survey(directory: Path, limit: int = MAX_ROWS, first: Sequence[str] = ()) -> Survey | None:
    """Counts the rewrites and draws `limit` of them: half kept and half not, if there are enough of each, starting
    with the ids in `first` and the rows that were marked by hand. The draw depends on the ids of the rows alone.
    Returns None if nothing was rewritten yet."""
    path = directory / REWRITES
    if not path.is_file():
        return None
    found = Survey()
    _read_marks(directory, found)
    draws: dict[str, list[_Place]] = {"rewrite": [], "original": []}
    for number, offset, size, row in read_lines(path):
        try:
            rewrite = Rewrite.from_json(row or {})
        except (KeyError, TypeError):
            found.damaged += 1
            continue
        found.rows += 1
        found.accepted += rewrite.grade.passed and rewrite.grade.checked
        found.unchecked += rewrite.grade.passed and not rewrite.grade.checked
        if not rewrite.grade.passed:
            found.reasons[_reason(rewrite, found.reasons)] += 1
        digest = hashlib.blake2b(rewrite.example.id.encode(errors="replace"), digest_size=7).digest()
        draw = draws[rewrite.source]
        wanted = visible(rewrite.example.id) in first or rewrite.example.id in found.by_hand
        rank = 1 if wanted else -int.from_bytes(digest, "big")
        place = (rank, number, offset, size)
        (heapq.heappush if len(draw) < limit else heapq.heappushpop)(draw, place)
    found.places = _choose(draws["rewrite"], draws["original"], limit)
    return found


def _read_marks(directory: Path, found: Survey) -> None:
    marked = marked_rewrites(directory)
    rows = read_lines(marked.path) if marked.counts else ()
    found.by_hand = {row["id"]: row for *_, row in rows if row and row.get("mark")}
    found.outdated = marked.outdated


def browser_page(directory: Path, name: str, found: Survey) -> str:
    """The HTML of the page; `name` is the name of the experiment."""
    rows = list(_rows(directory / REWRITES, found))
    return render(
        "rewrites.html.jinja",
        styles=("base.css", "browser.css", "rewrites.css"),
        scripts=("browser.js", "rewrites.js"),
        data=rows,
        name=name,
        found=found,
        outcomes=outcomes(found.acceptance()),
        shown=len(rows),
        shown_kept=sum(row["source"] != "original" for row in rows),
        max_text=MAX_TEXT,
    )


def _reason(rewrite: Rewrite, known: Counter[str]) -> str:
    """A custom grader may return a new reason for each row. After `_MAX_REASONS` reasons, new ones become one group."""
    text = shorten(visible(rewrite.grade.reason), _MAX_REASON)
    return text if rewrite.grade.passed or text in known or len(known) < _MAX_REASONS else "other reasons"


def _choose(kept: list[_Place], refused: list[_Place], limit: int) -> list[tuple[int, int]]:
    """Half of each kind if both have enough rows, up to `_MAX_PAGE_TEXT`, in the file's order."""
    n_kept = min(len(kept), max(limit - limit // 2, limit - len(refused)))
    chosen = heapq.nlargest(n_kept, kept) + heapq.nlargest(limit - n_kept, refused)
    places, room = [], _MAX_PAGE_TEXT
    for _, number, offset, size in sorted(chosen, reverse=True):
        room -= min(size, 3 * MAX_TEXT)
        if room >= 0:
            places.append((number, offset))
    return sorted(places)


def _rows(path: Path, found: Survey) -> Iterator[dict[str, Any]]:
    """The rows for the browser; all texts are visible and cut, and think traces stand apart."""
    with path.open("rb") as file:
        for number, offset in found.places:
            file.seek(offset)
            rewrite = Rewrite.from_json(parse_line(file.readline()))
            example, completion, grade = rewrite.example, rewrite.completion, rewrite.grade
            reply, hand = split(completion.text), found.by_hand.get(example.id, {})
            yield {
                "row": number,
                "id": cut(example.id),
                "source": "unchecked" if grade.passed and not grade.checked else rewrite.source,
                "trained": hand.get("source", rewrite.source),
                "mark": hand.get("mark"),
                "edit": cut(hand["completion"]["text"]) if hand.get("mark") == "edit" else None,
                "prompt": page_turns(example.prompt),
                "original": cut(example.reference),
                "rewrite": cut(reply.answer),
                "trace": cut(completion.reasoning or reply.reasoning or None),
                "fault": cut(rewrite.trace_fault),
                "finish": cut(completion.finish),
                "tokens": completion.tokens,
                "error": cut(completion.error),
                "outcome": cut(grade.outcome),
                "reason": _reason(rewrite, found.reasons),
                "expected": cut(grade.expected),
                "found": cut(grade.found),
            }
