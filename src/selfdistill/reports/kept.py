"""How many rewrites are trained on, in words. A rewrite is accepted only if its content was checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types.wording import counted, per_cent
from .text import count

UNCHECKED = "kept, content not checked"
# Up to this share of rewrites most rows are those of vanilla training. In the demo's curve over the mix (docs/log.md)
# an arm with half of the rewrites is still far from SDFT.
_FEW = 0.5


def outcomes(acceptance: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The rewrites that are trained on, by outcome: `accepted`, and `kept, content not checked` if there are any. Only
    the latter if no rewrite was checked."""
    accepted, unchecked = acceptance["accepted"], acceptance.get("unchecked", 0)
    found = [("accepted", accepted)] if accepted or not unchecked else []
    return [*found, *([(UNCHECKED, unchecked)] if unchecked else [])]


def kept_sentence(acceptance: Mapping[str, Any]) -> str:
    """For example "363 of 400 rewrites were accepted (90.8 %)"."""
    rows = acceptance["rows"]
    (word, first), *others = outcomes(acceptance)
    said = f"{count(first)} of {counted(rows, 'rewrite')} were {word} ({per_cent(first / rows)})"
    return "; ".join([said, *(f"{count(n)} were {word} ({per_cent(n / rows)})" for word, n in others)])


def doubt(acceptance: Mapping[str, Any]) -> str | None:
    """Why the arms that train on rewrites may not show what rewriting does: few rewrites are trained on, or most of
    them were not checked. None if neither is so."""
    rows, unchecked = acceptance["rows"], acceptance.get("unchecked", 0)
    kept, said = acceptance["accepted"] + unchecked, list[str]()
    if rows and kept <= _FEW * rows:
        said.append(
            f"Only {per_cent(kept / rows)} of the rows that SDFT trains on are rewrites; the other "
            f"{per_cent(1 - kept / rows)} are the originals, as in vanilla training. A small difference between the "
            "two may be due to that: look at the reasons for rejection first."
        )
    if unchecked > acceptance["accepted"]:
        said.append(
            f"The content of {count(unchecked)} of the {counted(kept, 'rewrite')} that are trained on was not checked: "
            "read some of them before you trust the arm."
        )
    return " ".join(said) or None
