"""Keeps the numbers of an experiment without any text of its data, and recomputes its verdict from them.

    python -m tools.kept_results keep DIR FILE.json.xz     # after each arm; FILE is under 1 MB
    python -m tools.kept_results show FILE.json.xz         # scores and differences, computed again from single items
    python -m tools.kept_results summary FILE.json.xz      # the same in one table

FILE holds the manifest (settings, fingerprints, versions, counts), the verdict, and per run and task the value of each
item, and the loss of each held-out row.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.row_losses import Losses, LossPair, compare_losses, mean_loss
from selfdistill.measure.scores import values
from selfdistill.measure.stats import quantile, shared_items, table_of
from selfdistill.reports.loss_sentences import nats
from selfdistill.reports.text import percent, points
from selfdistill.store.rows import read_lines

Kept = dict[str, Any]
_FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")  # of files on the machine that ran the experiment
_TEXTS = {"near_pair", "first_bad", "markup_example", "reasons", "headline", "summary", "notes"}  # they quote rows


def keep(folder: Path) -> Kept:
    """The numbers of the experiment in `folder`, with the runs that are evaluated so far."""
    manifest, verdict = (json.loads((folder / name).read_text()) for name in ("manifest.json", "verdict.json"))
    runs: dict[str, dict[str, Any]] = {}
    losses: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("arms/*/evaluate/*/grades.jsonl")):
        run, task = path.parts[-4], path.parts[-2]
        runs.setdefault(run, {})[task] = [[name, number, value] for (name, number), value in _values(path).items()]
    for path in sorted(folder.glob("arms/*/evaluate/*/loss.jsonl")):
        losses[path.parts[-4]] = {row["id"]: [row["nll"], row["tokens"]] for row in read_lines(path)}
    recipe = (folder / "recipe.yaml").read_text()
    return {
        "recipe": _FOLDERS.sub("", recipe),
        "manifest": _without_texts(manifest),
        "verdict": _without_texts(verdict),
        "values": runs,
        "losses": losses,
    }


def _values(grades: Path) -> Mapping[tuple[str, int], float]:
    return values(read_lines(grades))


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_texts(each) for key, each in value.items() if key not in _TEXTS}
    if isinstance(value, list):
        return [_without_texts(each) for each in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def _pairs(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each arm with the seed, and with its baseline arm."""
    pairs = [(arm, verdict["seed_arm"]) for arm in verdict["arms"] if arm != verdict["seed_arm"]]
    return pairs + [(arm, found["against"]) for arm, found in verdict["baseline_arms"].items()]


def comparisons(kept: Kept) -> list[Comparison]:
    """The verdict's comparisons, computed from the values of single items alone."""
    verdict = kept["verdict"]
    pairs = []
    for task in verdict["tasks"]:
        for arm, other in _pairs(verdict):
            if {arm, other} <= task["scores"].keys():
                mine, theirs = (_of(kept, runs_of(kept, each), task["task"]) for each in (arm, other))
                pairs.append(Pair(task["task"], arm, other, mine, theirs, other != verdict["seed_arm"]))
    return compare(pairs, verdict["margin"])


def measured_arms(kept: Kept) -> list[str]:
    """The arms that have a score on every task, the seed first."""
    return [arm for arm in kept["verdict"]["arms"] if all(arm in task["scores"] for task in kept["verdict"]["tasks"])]


def runs_of(kept: Kept, arm: str) -> list[str]:
    """The runs of an arm: one for each training seed."""
    return [run for run in kept["values"] if run.split("@")[0] == arm]


def _of(kept: Kept, runs: list[str], task: str) -> list[dict[tuple[str, int], float]]:
    return [{(name, number): value for name, number, value in kept["values"][run][task]} for run in runs]


def mean_change(kept: Kept, arm: str, against: str, tasks: Sequence[str]) -> tuple[float, float, float]:
    """The mean over `tasks` of an arm's change against another, with its 95 % interval. Items are the sample, and the
    runs too where both arms have several (Student's t)."""
    sides = [[_of(kept, runs_of(kept, each), task) for task in tasks] for each in (arm, against)]
    changes, variance = [], 0.0
    for mine, other in zip(*sides, strict=True):
        keys = shared_items([*mine, *other])
        a, b = table_of(mine, keys), table_of(other, keys)
        change = a.mean(axis=0) - b.mean(axis=0)
        changes.append(a.mean() - b.mean())
        variance += float(change.var(ddof=1)) / len(keys) / len(tasks) ** 2
    freedom = 0
    for side in sides:
        means = [fmean(fmean(runs[number].values()) for runs in side) for number in range(len(side[0]))]
        if len(means) > 1:
            variance, freedom = variance + stdev(means) ** 2 / len(means), freedom + len(means) - 1
    half = (quantile(0.975, freedom) if freedom else 1.96) * sqrt(variance)
    mean = fmean(changes)
    return mean, mean - half, mean + half


def show(kept: Kept) -> str:
    """Markdown tables of the scores, the differences, the mean changes on the other tasks, and the held-out losses.
    Raises ValueError if a comparison differs from the verdict that was kept."""
    found = comparisons(kept)
    said = {(row["task"], row["arm"], row["against"]): row for row in kept["verdict"]["comparisons"]}
    for row in found:
        other = said[row.task, row.arm, row.against]
        if abs(other["difference"] - row.difference) > 1e-9 or other["word"] != row.word:
            raise ValueError(f"{row.task}, {row.arm} against {row.against}: {other} was kept, {row} is found")
    lines = ["| task | arm | against | n | difference, points | 95 % | p (Holm) | word |", "|---" * 8 + "|"]
    lines += [
        f"| {row.task} | {row.arm} | {row.against} | {row.n} | {points(row.difference)} "
        f"| {points(row.low)} to {points(row.high)} | {row.p_holm:.3f} | {row.word} |"
        for row in found
    ]
    scores = ["| task | arm | value, % | 95 % |", "|---" * 4 + "|"]
    for task in kept["verdict"]["tasks"]:
        for arm, score in task["scores"].items():
            scores.append(f"| {task['task']} | {arm} | {_percent(score['value'])} | {_range(score)} |")
    others = [task["task"] for task in kept["verdict"]["tasks"] if task["role"] == "other"]
    means = [f"| mean change on the other tasks ({len(others)}) | against | points | 95 % |", "|---" * 4 + "|"]
    arms = measured_arms(kept)
    for arm, against in ((arm, other) for place, arm in enumerate(arms) for other in arms[:place]):
        mean, low, high = map(points, mean_change(kept, arm, against, others))
        means.append(f"| {arm} | {against} | {mean} | {low} to {high} |")
    return "\n".join([*scores, "", *lines, "", *means, "", *_loss_lines(kept)])


def _loss_lines(kept: Kept) -> list[str]:
    arms, rows = measured_arms(kept), _losses(kept)
    pairs = [(arm, other) for place, arm in enumerate(rows) for other in [*rows][:place]]
    trained = [LossPair(arm, other, rows[arm], rows[other], other != arms[0]) for arm, other in pairs]
    found = {(row["arm"], row["against"]): row for row in compare_losses(trained)}
    lines = ["| held-out loss, nats per token | value | against | difference | 95 % |", "|---" * 5 + "|"]
    lines += [f"| {arm} | {mean_loss(runs)['value']:.3f} | | | |" for arm, runs in rows.items()]
    return lines + [
        f"| {arm} | | {other} | {nats(row['difference'])} | {nats(row['low'])} to {nats(row['high'])} |"
        for (arm, other), row in found.items()
    ]


def _losses(kept: Kept) -> dict[str, list[Losses]]:
    return {
        arm: [{name: {"nll": nll, "tokens": n} for name, (nll, n) in kept["losses"][run].items()} for run in runs]
        for arm in measured_arms(kept)
        if (runs := [run for run in runs_of(kept, arm) if run in kept["losses"]])
    }


def summary(kept: Kept) -> str:
    """One Markdown table: a row per measure, a column per arm, each trained arm with its change against the seed and
    the 95 % interval of the change. Percentages and points; the loss in nats per token."""
    verdict = kept["verdict"]
    seed, *trained = measured_arms(kept)
    found = {(row.task, row.arm): row for row in comparisons(kept) if row.against == seed}
    lines = ["| | " + " | ".join([seed, *trained]) + " |", "|---" * (len(trained) + 2) + "|"]
    for task in verdict["tasks"]:
        cells = [_percent(task["scores"][seed]["value"])]
        for arm in trained:
            row = found[task["task"], arm]
            change = f"{points(row.difference)}, {points(row.low)} to {points(row.high)}"
            cells.append(f"{_percent(task['scores'][arm]['value'])} ({change}) {row.word}")
        lines.append(f"| {task['task']} | " + " | ".join(cells) + " |")
    others = [task["task"] for task in verdict["tasks"] if task["role"] == "other"]
    means = [[*map(points, mean_change(kept, arm, seed, others))] for arm in trained]
    cells = [f"{mean} ({low} to {high})" for mean, low, high in means]
    lines.append(f"| mean change on the {len(others)} other tasks | | " + " | ".join(cells) + " |")
    losses = _losses(kept)
    pairs = [LossPair(arm, seed, losses[arm], losses[seed], both_trained=False) for arm in trained]
    changes = {row["arm"]: row for row in compare_losses(pairs)}
    cells = [f"{mean_loss(losses[seed])['value']:.3f}"]
    for arm in trained:
        own = changes[arm]
        change = f"{nats(own['difference'])}, {nats(own['low'])} to {nats(own['high'])}"
        cells.append(f"{mean_loss(losses[arm])['value']:.3f} ({change})")
    return "\n".join([*lines, "| held-out loss | " + " | ".join(cells) + " |"])


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)


def _range(score: Mapping[str, Any]) -> str:
    return f"{_percent(score['low'])} to {_percent(score['high'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["keep", "show", "summary"])
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    if args.action == "keep":
        folder, file = args.paths
        text = json.dumps(keep(folder), ensure_ascii=False, separators=(",", ":"))
        file.write_bytes(lzma.compress(text.encode()))
        print(f"{file}: {file.stat().st_size:,} bytes")
        return
    for file in args.paths:
        made = show if args.action == "show" else summary
        print(made(json.loads(lzma.decompress(file.read_bytes()))))


if __name__ == "__main__":
    main()
