"""The end of a run: one plain sentence on what happened and what to do, and commands to copy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..recipe.plain_yaml import parse_yaml, plain
from ..types.wording import counted, per_cent
from .answer_ends import degeneration_rows
from .findings import Findings, JsonRow
from .kept import doubt, kept_sentence
from .loss_sentences import loss_name, nats
from .text import during

_COST_UNKNOWN = "What fine-tuning cost is not known, as no other task was evaluated: name some in evaluate.tasks."
_LOSS_ALONE = (
    "The loss does not show what fine-tuning cost, and favours training on originals: name other tasks in "
    "evaluate.tasks, and run the command again."
)
Command = tuple[str, str]
"""What a command does, and the command."""
_REWRITES = ("rewrites", 1.0)
"""The values of arms.NAME.data for SDFT."""
_MANY_BROKEN = 0.25
"""A model of which a larger share of the answers to the target breaks off is not worth using."""


def next_steps(verdict: JsonRow, directory: Path) -> tuple[str, list[Command]]:
    """The sentence, empty if no arm was compared with the seed, and the commands, none if no arm is trained. Both are
    about the arm to use: among the two arms of the headline the one that forgot fewer tasks, or the last arm if only
    the held-out loss was measured."""
    happened, advice, commands = outcome(verdict, directory)
    return f"{happened} {advice}".strip(), commands


def outcome(verdict: JsonRow, directory: Path) -> tuple[str, str, list[Command]]:
    """What happened, which a headline says with more figures, and the parts of `next_steps` that it does not say: what
    to do, and the commands."""
    findings = Findings.of(verdict)
    if findings.comparisons and not findings.runs:
        return "", "", []  # checkpoints that were made elsewhere: the headline says it all
    rows = findings.glance(findings.headline_arms())
    used = _better(findings, rows) if rows else None
    trained = {arm: path for arm in findings.arms if (path := _model(directory, arm))}
    arm = used["arm"] if used else next(reversed(trained), None)
    happened = advice = ""
    model = f" Your model: {trained[arm]}." if arm in trained else ""
    if used:
        kinds = _kinds(directory)
        trust = _trust(verdict["acceptance"]) if kinds.get(used["arm"]) in _REWRITES else ""
        alone = "" if any(row["total"] for row in rows) else f"{_COST_UNKNOWN} "
        happened = "" if alone else _happened(findings, rows, kinds)
        looks = f"{alone}{_degenerate(findings, rows, verdict)}{trust}"
        advice = f"{looks}{_broken(findings, used, verdict) or _advice(findings, used)}{model}"
    elif losses := [row for each in findings.arms if (row := findings.loss_change(each))]:
        happened, advice = _only_loss(findings, losses), f"{_LOSS_ALONE}{model}"
    return happened, advice, _commands(arm, trained[arm], directory) if arm in trained else []


def _kinds(directory: Path) -> dict[str, Any]:
    """What each arm trains on, by the saved recipe."""
    try:
        recipe: Any = plain(parse_yaml((directory / "recipe.yaml").read_text(encoding="utf-8")))
        return {name: arm.get("data") for name, arm in recipe["arms"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # the page is written without a recipe too


def _model(directory: Path, arm: str) -> Path | None:
    """The folder of an arm's weights: of its run with the recipe's seed, else of its first run."""
    runs = sorted(path.parent for path in (directory / "arms").glob("*/model"))  # an arm's name may be no file's
    named = [run for run in runs if run.name == arm or run.name.startswith(f"{arm}@")]
    return named[0] / "model" if named else None


def _better(findings: Findings, rows: list[JsonRow]) -> JsonRow:
    """The row of the arm that forgot fewer tasks, the target included; with as many, the one with the better target,
    then the one that lost less on average."""

    def key(row: JsonRow) -> tuple[int, int, float]:
        lost = len(row["others"].get("forgot", [])) + sum(each["word"] == "forgot" for each in row["targets"])
        return lost, -_gained(findings, row), -(row["mean"] or 0.0)

    return min(reversed(rows), key=key)


def _gained(findings: Findings, row: JsonRow) -> int:
    """On how many targets the arm is better than its baseline arm, less those on which it is worse."""
    words = [
        each["word"]
        for pair in findings.pairs()
        for each in pair["rows"]
        if pair["arm"] == row["arm"] and each["task"] in {target["task"] for target in row["targets"]}
    ]
    return words.count("gained") - words.count("forgot")


def _happened(findings: Findings, rows: list[JsonRow], kinds: dict[str, Any]) -> str:
    said = list[str]()
    for row in rows:
        kind = kinds.get(row["arm"])
        data = "your originals" if kind == "original" else "rewrites" if kind in _REWRITES else "other responses"
        lost, unclear = len(row["others"].get("forgot", [])), len(row["others"].get("can't tell", []))
        open_ = f" ({unclear} undecided)" if unclear else ""
        of = f" of {counted(row['total'], 'other task')}" if not said else f" of {row['total']}"
        said.append(
            f"on {data} ({row['arm']}) {'made ' if not said else ''}{lost}{of}{' worse' if not said else ''}{open_}"
        )
    return f"{during(findings.runs).capitalize()}, fine-tuning {'; '.join(said)}."


def _degenerate(findings: Findings, rows: list[JsonRow], verdict: JsonRow) -> str:
    """The tasks on which more of an arm's answers end in a loop or in garble than of the seed's, which no score says;
    empty if there are none."""
    worse: dict[str, list[str]] = {row["arm"]: [] for row in rows}
    for row in degeneration_rows(findings, verdict.get("degeneration", {})):
        if row.change and row.change["word"] == "forgot" and row.arm in worse:
            worse[row.arm].append(row.task)
    said = "; ".join(f"{arm} on {', '.join(tasks)}" for arm, tasks in worse.items() if tasks)
    return f"More answers end in a loop or in garble than the seed's: {said}. " if said else ""


def _only_loss(findings: Findings, losses: list[JsonRow]) -> str:
    """What a run shows that measured nothing but the held-out loss. The loss chooses no arm, since it favours those
    that train on originals."""
    said = ", ".join(f"{row['arm']} {row['word']} ({nats(row['difference'])})" for row in losses)
    return (
        f"{during(findings.runs).capitalize()}, only the {loss_name(findings.losses)} was measured, in nats per token "
        f"against {findings.seed_arm}: {said}."
    )


def _trust(acceptance: dict[str, Any] | None) -> str:
    """What to look at first if few rewrites are trained on, or most of them were not checked."""
    if not acceptance or not doubt(acceptance):
        return ""
    return f"First look at rewrites.html, since {kept_sentence(acceptance)}. "


def _broken(findings: Findings, used: JsonRow, verdict: JsonRow) -> str:
    """What to do if many of the better arm's answers to a target end in a loop or in garble, and more than the seed
    model's; empty if not. Such a model is of no use, whatever its scores and its loss."""
    arm = used["arm"]
    rows = degeneration_rows(findings, verdict.get("degeneration", {}))
    shares = {(row.task, row.arm): row.value or 0.0 for row in rows}
    for task in (each["task"] for each in used["targets"]):
        share, before = shares.get((task, arm), 0.0), shares.get((task, findings.seed_arm), 0.0)
        if share > max(before, _MANY_BROKEN):
            return (
                f"{per_cent(share, 0)} of the answers of {arm} to {task} end in a loop or in garble, or are empty "
                f"(with the seed model {per_cent(before, 0)}): lower train.lr, or keep the seed model."
            )
    return ""


def _advice(findings: Findings, used: JsonRow) -> str:
    """What to do with the better arm."""
    arm, lost = used["arm"], used["others"].get("forgot", [])
    words = [each["word"] for each in used["targets"]]
    mean, loss = findings.mean_change(arm, findings.seed_arm), findings.loss_change(arm)
    costly = len(lost) > used["total"] / 2 or (bool(lost) and mean is not None and mean["word"] == "forgot")
    if words and "gained" not in words and costly:
        return (
            f"{arm} did not measurably gain on its target and got worse on {', '.join(lost)}: lower train.lr, or keep "
            "the seed model."
        )
    if words and "gained" not in words and loss and loss["word"] == "lower":
        return (
            f"{arm} learnt from your data by its held-out loss ({nats(loss['difference'])} nats per token), but its "
            f"score on the target does not show a gain{_and_worse(lost)}: read its answers before you use it."
        )
    if words and set(words) == {"can't tell"}:
        n = min(each["n"] for each in used["targets"])
        return (
            f"Whether {arm} gained on its target can't be told from {counted(n, 'item')}: evaluate on more, or train "
            "it longer or on more rows."
        )
    if words and "gained" not in words:
        return f"{arm} did not measurably gain on its target: train it longer or on more rows, or keep the seed model."
    if lost and len(lost) == used["total"]:
        return f"{arm} is the better one, and got worse on each of them: lower train.lr, or keep the seed model."
    if lost:
        return f"Use {arm}, and first read its answers to {', '.join(lost)}, which got worse."
    unclear = used["others"].get("can't tell", [])
    if unclear and len(unclear) == used["total"]:
        return f"Before you use {arm}, evaluate on more items: what it lost on {', '.join(unclear)} is undecided."
    if unclear:
        return f"Use {arm}; for {', '.join(unclear)} there are too few items to tell what it lost."
    return f"Use {arm}."


def _and_worse(lost: list[str]) -> str:
    return f", and it got worse on {', '.join(lost)}" if lost else ""


def _commands(arm: str, model: Path, directory: Path) -> list[Command]:
    adapted, merged = (model / "adapter_config.json").is_file(), model.with_name("merged")
    kind, library = ("AutoPeftModelForCausalLM", "peft") if adapted else ("AutoModelForCausalLM", "transformers")
    load = f"from {library} import {kind}; model = {kind}.from_pretrained({str(model)!r})"
    found = [("load in Python (the tokenizer is in the same folder)", load)]
    if adapted and not merged.is_dir():
        words = ["selfdistill", "train", str(directory), "--arm", model.parent.name, "train.merge=true"]
        found.append(("merge the adapter into the weights", shlex.join(words)))
    served = merged if adapted else model
    return [
        *found,
        ("serve with vLLM" + (", once merged" if len(found) > 1 else ""), shlex.join(["vllm", "serve", str(served)])),
        (
            "export the training data",
            shlex.join(["selfdistill", "export", str(directory), "--to", "llamafactory", "--arm", model.parent.name]),
        ),
        ("open the report", shlex.join(["python", "-m", "webbrowser", (directory.resolve() / "report.html").as_uri()])),
    ]
