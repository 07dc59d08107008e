"""The held-out loss of the arms: rows for the page and the terminal, and sentences. All numbers are nats per token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..types.wording import counted, signed
from .findings import Findings, JsonRow
from .text import during, visible


@dataclass(frozen=True)
class LossRow:
    """An arm on a task: its mean with its interval, and the comparisons with the seed and with its baseline arm, None
    if there are none. `of` is the arm's entry of verdict.json."""

    task: str
    arm: str
    loss: str
    interval: str
    seed: JsonRow | None
    baseline: JsonRow | None
    of: JsonRow


def loss_rows(findings: Findings) -> list[LossRow]:
    rows = []
    for each in findings.losses:
        for arm, own in each["arms"].items():
            compared = [row for row in each["comparisons"] if row["arm"] == arm]
            seed, baseline = (
                next((row for row in compared if (row["against"] == findings.seed_arm) == wanted), None)
                for wanted in (True, False)
            )
            loss = "not scored" if own["value"] is None else f"{own['value']:.3f}"
            interval = "" if own["low"] is None else f"[{own['low']:.3f}, {own['high']:.3f}]"
            rows.append(LossRow(each["task"], arm, loss, interval, seed, baseline, own))
    return rows


def nats(difference: float) -> str:
    """With its sign: −0.134."""
    return signed(difference, 3)


def nat_bounds(low: float, high: float) -> str:
    return f"[{nats(low)}, {nats(high)}]"


def loss_name(losses: Sequence[Mapping[str, Any]]) -> str:
    """What the loss of all these tasks is called. Rows of a file may be those that a model was trained on."""
    files = [each.get("file") for each in losses]
    return (
        f"loss on the rows of {', '.join(map(visible, filter(None, files)))}"
        if files and all(files)
        else "held-out loss"
    )


def may_be_trained_on(losses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The limit of a loss on rows that a model may have been trained on."""
    for each in losses:
        if each.get("file"):
            yield (
                f"A model that was trained on the rows of {each['file']} has a lower loss on them by memorisation: "
                "take rows that it has not seen, such as data/heldout.jsonl of the run that trained it."
            )


def loss_headline(findings: Findings, arms: Sequence[str]) -> str:
    """How the loss of `arms` changed, for data whose answers no grader compares; empty if it was not measured."""
    compared = [row for row in loss_rows(findings) if row.arm in arms and row.seed]
    said = [f"{row.arm} {row.seed['word']} ({nats(row.seed['difference'])})" for row in compared if row.seed]
    if not said:
        return ""
    runs = during(min(row.seed["runs"] for row in compared if row.seed))
    return (
        f"{runs.capitalize()}, {loss_name(findings.losses)} per token against {findings.seed_arm}: {', '.join(said)}."
    )


def loss_summary(findings: Findings, arms: Sequence[str]) -> Iterator[str]:
    """Two sentences per task: the means of `arms`, and their comparisons."""
    for each in findings.losses:
        rows = [row for row in loss_rows(findings) if row.task == each["task"] and row.arm in arms]
        compared = [row for row in each["comparisons"] if row["arm"] in arms]
        counts = ", ".join(
            dict.fromkeys(f"{counted(row.of['n'], 'row')} with {counted(row.of['tokens'], 'token')}" for row in rows)
        )
        what = loss_name([each]) if each.get("file") else f"held-out loss of {each['task']}"
        yield (
            f"{what[0].upper()}{what[1:]}, in nats per token of the original responses ({counts}; 95 % intervals): "
            f"{', '.join(f'{row.arm} {row.loss} {row.interval}'.rstrip() for row in rows)}."
        )
        if compared:
            said = [f"{row['arm']} against {row['against']}: {_size(row)}" for row in compared]
            runs = during(min(row["runs"] for row in compared))
            yield f"{runs.capitalize()}, the {loss_name([each])} of {'; '.join(said)}."


def _size(row: JsonRow) -> str:
    interval = f"{nats(row['low'])} to {nats(row['high'])}"
    return f"{row['word']} ({nats(row['difference'])}, 95 % interval {interval}, n = {row['n']:,})"


def loss_notes(losses: Sequence[Mapping[str, JsonRow]]) -> Iterator[str]:
    """What the loss does not measure, and the rows that it leaves out."""
    if losses:
        yield (
            f"The {loss_name(losses)} is that of the original responses: it rewards their style as well as their "
            "content, so it favours arms that train on originals."
        )
    for each in losses:
        said: dict[str, list[str]] = {}
        for arm, own in each["arms"].items():
            for reason, number in own["unscored"].items():
                said.setdefault(f"{number:,} of {own['n'] + sum(own['unscored'].values()):,} ({reason})", []).append(
                    arm
                )
        if said:
            lines = "; ".join(f"{', '.join(arms)} {what}" for what, arms in said.items())
            yield f"{each['task']}: rows without a held-out loss: {lines}."
        dtypes = {arm: own.get("dtype") for arm, own in each["arms"].items()}
        if pairs := [f"{arm} ({dtypes[arm]}) against {other} ({dtypes[other]})" for arm, other in _others(each)]:
            yield (
                f"The held-out losses of {each['task']} were scored in different dtypes, as on different machines, and "
                f"are not compared: {', '.join(pairs)}. Delete loss.jsonl of the runs to score again, and run "
                "`selfdistill evaluate` on one machine."
            )


def _others(losses: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The pairs that are not compared, because of their dtypes. Verdicts of earlier versions have none."""
    pairs: Sequence[Sequence[str]] = losses.get("other_dtypes", [])
    return pairs
