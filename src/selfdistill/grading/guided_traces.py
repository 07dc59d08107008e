"""Whether the think trace of a rewrite can be trained on. The filter sees the trace alone; graders see the answer."""

from __future__ import annotations

import re

from ..recipe import Filters
from ..types import Example
from .filters import leaks
from .leaks import REFERENCE, is_new
from .trace_states import TraceState

_FAULTS: dict[TraceState, str] = {
    "empty": "empty think trace",
    "missing": "no think trace",
    "truncated": "cut off inside its think trace",
    "unclosed": "ends inside its think trace",
    "nested": "think trace with a think trace inside",
}
# A trace says what the model was asked to do, so single words give the reference away.
_GUIDED = re.compile(
    r"\breferences?\b|\b(?:re-?writ\w+|re-?wrote|rephras\w+|reword\w+|paraphras\w+)\b"
    r"|\b(?:my|their|your) own (?:words|answer)\b"
    r"|\b(?:provided|given|original|sample|model|existing|supplied|above|below) (?:answer|response|solution|text)s?\b"
    r"|\b(?:answer|response|solution|text) (?:that )?(?:is |was )?(?:provided|given|below|above|says|states|mentions)\b"
    r"|\bthe correct call\b|\bas a guide\b|\bkeep (?:every|all) (?:the )?(?:facts?|names?|numbers?)\b",
    re.IGNORECASE,
)


def state_fault(state: TraceState | None) -> str | None:
    """Why a trace in this state can't be trained on, None if it is valid."""
    return _FAULTS.get(state) if state else None


def trace_fault(trace: str, example: Example, filters: Filters, headings: frozenset[str], guided: bool) -> str | None:
    """Why a valid think trace can't be trained on, or None. `guided`: the reference was in the prompt, and the trace
    must not mention it. Words that the question itself uses are not counted."""
    seen = filters if guided else filters.model_copy(update={"reference_talk": False})
    if reason := leaks(trace, example, seen, headings):
        return f"its think trace: {reason}"
    asked = "\n".join(message.content for message in example.prompt)
    if guided and filters.reference_talk and is_new(_GUIDED, trace, asked):
        return f"its think trace: {REFERENCE}"
    return None
