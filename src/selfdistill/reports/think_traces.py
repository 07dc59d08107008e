"""Think traces of the arms: rows for the page and the terminal, and sentences about the blocks that were trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..types.wording import counted, minus
from .findings import Findings, JsonRow
from .text import bounds, change_size, count, during, percent, points

MEASURES = {
    "valid": "valid trace, %",
    "tokens": "tokens of a trace",
    "hedges": "hedges per 100 words",
    "accuracy": "score with a valid trace, %",
}
"""The measures and how they are called."""
STATES = {
    "empty": "empty",
    "missing": "missing",
    "truncated": "cut off",
    "unclosed": "never closed",
    "nested": "nested",
}
"""The states of a trace that is not valid."""
_BLOCKS = {
    "traces": "{} with a think trace that is trained on",
    "masked": "{} after a think block that is present and not trained on",
    "empty": "{} after an empty think block that is trained on",
}
_DECISIONS = {
    "own": "own",
    "mask": "mask",
    "empty": "empty, on purpose, to show what that costs",
    "off": "off: trained and asked with thinking turned off",
}


@dataclass(frozen=True)
class Measure:
    """A measure of an arm on a task as text, and its comparison with the seed, None if there is none. `sized` writes a
    difference."""

    name: str
    value: str
    interval: str
    change: JsonRow | None
    sized: Callable[[float], str]


@dataclass(frozen=True)
class TraceRow:
    """The think traces of an arm's `n` answers to a task: the number in each of `STATES`, and the measures."""

    task: str
    arm: str
    n: int
    counts: dict[str, int]
    measures: list[Measure]


def trace_rows(findings: Findings, thinking: Mapping[str, Any] | None) -> list[TraceRow]:
    """A row for each task and arm; none if the model does not think."""
    return [
        TraceRow(
            task["task"],
            arm,
            of["n"],
            {shown: of["states"].get(name, 0) for name, shown in STATES.items()},
            [_measure(findings, thinking, task["task"], arm, name, of[name]) for name in MEASURES],
        )
        for task in (thinking or {}).get("tasks", [])
        for arm, of in task["arms"].items()
    ]


def _measure(
    findings: Findings, thinking: Mapping[str, Any] | None, task: str, arm: str, name: str, of: JsonRow
) -> Measure:
    wanted = (task, arm, findings.seed_arm)
    compared = (thinking or {})["comparisons"][name]
    change = next((row for row in compared if (row["task"], row["arm"], row["against"]) == wanted), None)
    if name in ("valid", "accuracy"):
        return Measure(name, percent(of["value"]), bounds(of["low"], of["high"]), change, points)
    write = _whole if name == "tokens" else _tenths
    interval = "" if of["low"] is None else f"[{write(of['low'])}, {write(of['high'])}]"
    return Measure(name, "–" if of["value"] is None else write(of["value"]), interval, change, _signed(write))


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _signed(write: Callable[[float], str]) -> Callable[[float], str]:
    def sized(value: float) -> str:
        return minus(f"{'-' if value < 0 else '+'}{write(abs(value))}")

    return sized


# ---- sentences


def trace_sentences(findings: Findings, thinking: Mapping[str, Any] | None) -> Iterator[str]:
    """For each arm the measures of its traces that are surely not the seed's."""
    rows = trace_rows(findings, thinking)
    for arm in findings.arms:
        own = [(row, each, each.change) for row in rows if row.arm == arm for each in row.measures if each.change]
        said = [
            f"{_said(each, change)} on {row.task}"
            for row, each, change in own
            if change["word"] in ("forgot", "gained", "lower", "higher")
        ]
        if said:
            runs = during(min(change["runs"] for _, _, change in own)).capitalize()
            yield f"{runs} of {arm}, think traces against the seed: {'; '.join(said)}."


def _said(measure: Measure, change: JsonRow) -> str:
    if measure.name in ("valid", "accuracy"):
        more = "more" if change["word"] == "gained" else "fewer"
        what = "valid traces" if measure.name == "valid" else "right answers among those with a valid trace"
        return f"{more} {what} ({change_size(change)})"
    size = f"{measure.sized(change['difference'])}, 95 % interval {measure.sized(change['low'])} to "
    size += measure.sized(change["high"])
    if measure.name == "tokens":
        return f"{'longer' if change['word'] == 'higher' else 'shorter'} traces ({size} tokens)"
    return f"{'more' if change['word'] == 'higher' else 'less'} hedging ({size} per 100 words)"


def block_notes(thinking: Mapping[str, Any] | None, baselines: Mapping[str, JsonRow]) -> Iterator[str]:
    """How each arm trains think blocks, which pairs are not equal for that reason, and the limits of traces."""
    if thinking is None:
        return
    arms = thinking["arms"]
    yield from (_trained(arm, of) for arm, of in arms.items())
    for arm, of in arms.items():
        baseline = baselines.get(arm)
        if of["steps"] and baseline and baseline["against"] in arms:
            against = baseline["against"]
            equal = [name for name, each in baselines.items() if each["equal"] and each["against"] == against]
            pair = f" The equal pair is {equal[0]} and {against}." if equal else ""
            yield (
                f"{arm} trains on think traces that {against} does not have, so the two do not differ in their answers "
                f"alone: it is not the same training but for the data.{pair}"
            )
    yield _limits(**thinking["limits"])


def _trained(arm: str, of: Mapping[str, Any]) -> str:
    if of["reasoning"] == "off":
        return f"{arm}, reasoning {_DECISIONS['off']}."
    blocks = ", ".join(_BLOCKS[kind].format(counted(n, "row")) for kind, n in of["blocks"].items())
    if not of["steps"] or not of["sources"]:
        return f"{arm}, reasoning {_DECISIONS[of['reasoning']]}: {blocks or 'not trained yet'}."
    first, second, third = (of["sources"].get(name, 0) for name in ("self", "rewrite", "original"))
    others = f", and {counted(n, 'row')} of other data" if (n := of["sources"].get("replay", 0)) else ""
    return (
        f"{arm}, reasoning own, in three steps: {counted(first, 'row')} with the seed's own trace and answer, "
        f"{count(second)} with a guided rewrite and its trace, {count(third)} with the original answer{others} "
        f"({blocks})."
    )


def _limits(thinking: int | None, answer: int, separate: bool) -> str:
    if thinking is None:
        return (
            f"A think trace and its answer share the limit of {answer:,} tokens; set "
            "evaluate.sampling.max_thinking_tokens for a separate limit."
        )
    if separate:
        return f"Limits: {thinking:,} tokens for a think trace, then {answer:,} for the answer; a task may set its own."
    return (
        f"The backend has one limit for a think trace and its answer together, {thinking + answer:,} tokens; a reply "
        "that reaches it inside its trace counts as cut off in the trace, any other as an answer that is cut off."
    )
