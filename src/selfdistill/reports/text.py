"""How numbers, runs and untrusted text are written, both on the page and in the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..types import Messages, shown_turns
from ..types.wording import minus, signed

MAX_TEXT = 8_000

# Every item is in one of these buckets: see `types.Score`.
BUCKETS = ("passed", "failed", "tied", "truncated", "unanswered", "unjudged", "errors")

# Characters that are invisible, move the text around them or can't be encoded: C0 except tab and newline, DEL and C1,
# lone surrogates, bidirectional overrides and isolates, line separators, invisible spaces. Emoji need the joiners.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)

# For each word of `measure.comparisons.word`: a sign for readers who see no colour, and the word for a comparison with
# another trained arm instead of the seed. The last two are the words of a loss.
WORDS = {
    "gained": ("↑", "better"),
    "kept": ("≥", "not worse"),
    "forgot": ("↓", "worse"),
    "can't tell": ("?", "can't tell"),
    "not decided": ("?", "not decided"),
    "lower": ("↓", "lower"),
    "higher": ("↑", "higher"),
}

LOOKS = {"gained": "better", "lower": "better", "forgot": "worse", "higher": "worse", "kept": "kept"}
"""How a word is coloured, on the page and in the terminal; all other words are open. Lower and higher are those of a
loss: where neither is better, as for the length of think traces, they have no colour."""


def open_word(row: Mapping[str, Any]) -> str:
    """The word of a comparison that shows neither a change nor its absence."""
    return "not decided" if row["word"] == "not decided" else "can't tell"


def scope(runs: int) -> str:
    """The subject of a claim: after a single run the claim is about that run, not about the arm; with 0 runs it is
    about a checkpoint that was made elsewhere."""
    return {0: "this checkpoint", 1: "this training run"}.get(runs, f"{runs} training runs")


def during(runs: int) -> str:
    return f"{'in' if runs <= 1 else 'over'} {scope(runs)}"


def visible(text: str) -> str:
    """`text` with control characters shown: ␀ for NUL, ‹U+202E› for a character without a picture."""
    return _HIDDEN.sub(_picture, text)


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"


def visible_json(value: Any) -> Any:
    """Plain JSON or YAML values in which every string and key is `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): visible_json(item) for key, item in value.items()}
    return [visible_json(item) for item in value] if isinstance(value, list) else value


def cut(value: object) -> str | None:
    """A value of the data as text for a page: `visible`, and at most `MAX_TEXT` characters long."""
    if value is None:
        return None
    text = visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    over = len(text) - MAX_TEXT
    return text if over <= 0 else f"{text[:MAX_TEXT]} […] ({over:,} more characters)"


def page_turns(messages: Messages) -> list[tuple[str | None, str | None]]:
    """Role and text of each turn for a page: the tools first, and before a turn with reasoning its think trace."""
    turns = shown_turns(messages)
    tools = len(turns) - len(messages)
    found = [(cut(role), cut(text)) for role, text in turns[:tools]]
    for message, (role, text) in zip(messages, turns[tools:], strict=True):
        found += [("think trace", cut(message.reasoning))] if message.reasoning else []
        found.append((cut(role), cut(text)))
    return found


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def percent(share: float | None) -> str:
    """46.0 for the share 0.46."""
    return "–" if share is None else minus(f"{100 * share:.1f}")


def bounds(low: float | None, high: float | None) -> str:
    """[39.2, 52.9] for two shares."""
    return "" if low is None or high is None else f"[{percent(low)}, {percent(high)}]"


def points(difference: float) -> str:
    """Percentage points with their sign: +6.0, −31.0, 0.0."""
    return signed(100 * difference, 1)


def point_bounds(low: float, high: float) -> str:
    return f"[{points(low)}, {points(high)}]"


def change_size(row: Mapping[str, Any]) -> str:
    """The `difference` of a comparison with its interval: −6.0 points, 95 % interval −9.1 to −2.9."""
    return f"{points(row['difference'])} points, 95 % interval {points(row['low'])} to {points(row['high'])}"


def lost_less(margin: float) -> str:
    """What "kept" means: a drop by the margin or more is ruled out. There may be a smaller one, or none."""
    return f"lost less than {100 * margin:g} points, if any"


def figure(value: float) -> str:
    """A number of any size in three digits: 0.873, 0.0031, 12.4."""
    return minus(f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 10 else f"{value:.3g}")


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: float) -> str:
    return f"{n:,.0f}"


def duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
