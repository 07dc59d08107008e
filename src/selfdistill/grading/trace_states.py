"""The state of the think trace in a reply (valid, empty, missing, truncated, unclosed, nested), and how it hedges."""

from __future__ import annotations

import re
from typing import Literal

from ..types import Completion
from .traces import opens_again, split

TraceState = Literal["valid", "empty", "missing", "truncated", "unclosed", "nested"]
"""`valid`: a trace that closes and says something. `truncated`: cut off inside the trace. `unclosed`: the model ended
its turn inside the trace. `nested`: a trace opens inside the trace, so its end is a guess."""

# Words by which a reasoning model voices doubt and turns back (after arXiv 2603.24472, which counts such tokens).
_HEDGE = re.compile(
    r"\b(?:wait|hmm+|maybe|perhaps|possibly|probably|might|alternatively|actually|apparently|seems?|likely|unsure"
    r"|uncertain|not sure|let me (?:check|verify|see|double-check)|double-check|i think|i guess)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def trace_state(reply: Completion) -> TraceState | None:
    """The state of a reply's think trace; None if the reply is an error."""
    if reply.finish == "error":
        return None
    found = split(reply.text)
    if found.answer is None:
        return "truncated" if reply.cut_off else "unclosed"
    if not found.reasoning:
        return "missing" if found.answer == reply.text else "empty"
    return "nested" if opens_again(found.reasoning) else "valid"


def hedging(trace: str) -> tuple[int, int]:
    """The hedging expressions and the words in a trace."""
    trace = trace.replace("’", "'")
    return len(_HEDGE.findall(trace)), len(_WORD.findall(trace))
