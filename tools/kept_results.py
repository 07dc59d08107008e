"""Keeps the numbers of an experiment without any text of its data, and computes its tables from them.

    python -m tools.kept_results keep DIR FILE.json.xz      # after each arm; FILE is under 1 MB
    python -m tools.kept_results show FILE.json.xz ...      # every score and difference, from single items
    python -m tools.kept_results summary FILE.json.xz ...   # the same in two small tables

FILE holds the manifest (settings, fingerprints, versions, counts), the verdict, and per run and task the value of each
item, and the loss of each held-out row. Several FILEs are parts of one experiment, measured one after the other: they
have the same rows, items and settings, and other arms or training seeds. A run that is in two parts, such as the seed
model, is taken from the first, and the tables say on how many items the parts differ. A part whose verdict does not
follow from its items is refused.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.means import MeanComparison, compare_means
from selfdistill.measure.row_losses import Losses, LossPair, compare_losses, mean_loss
from selfdistill.measure.scores import values
from selfdistill.measure.stats import Values, mean_interval, run_spread, shared_items, table_of
from selfdistill.reports.loss_sentences import nats
from selfdistill.reports.text import count, percent, points
from selfdistill.store.rows import read_lines

Kept = dict[str, Any]
_FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")  # of files on the machine that ran the experiment
_TEXTS = {"near_pair", "first_bad", "markup_example", "reasons", "headline", "summary", "notes"}  # they quote rows


# ---- keeping and reading


def keep(folder: Path) -> Kept:
    """The numbers of the experiment in `folder`, with the runs that are evaluated so far."""
    manifest, verdict = (json.loads((folder / name).read_text()) for name in ("manifest.json", "verdict.json"))
    runs: dict[str, dict[str, Any]] = {}
    losses: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("arms/*/evaluate/*/grades.jsonl")):
        run, task = path.parts[-4], path.parts[-2]
        graded = values(read_lines(path))
        runs.setdefault(run, {})[task] = [[name, number, value] for (name, number), value in graded.items()]
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


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_texts(each) for key, each in value.items() if key not in _TEXTS}
    if isinstance(value, list):
        return [_without_texts(each) for each in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def read(file: Path) -> Kept:
    """What `keep` wrote."""
    kept: Kept = json.loads(lzma.decompress(file.read_bytes()))
    return kept


@dataclass(frozen=True)
class Experiment:
    """The items' values and the rows' losses of all runs, `vanilla@1` being the arm vanilla with the training seed 1.
    `tasks` maps names to roles, `baselines` an arm to the arm that trains on the originals of its rows. `repeated` says
    for each run of two parts how many of its values differ. Only arms with a value on every task count."""

    seed_arm: str
    margin: float
    tasks: Mapping[str, str]
    baselines: Mapping[str, str]
    values: Mapping[str, Mapping[str, Values]]
    losses: Mapping[str, Losses]
    repeated: Sequence[str]

    @property
    def arms(self) -> list[str]:
        """The arms, the seed model first."""
        evaluated = (run for run, found in self.values.items() if found.keys() >= self.tasks.keys())
        return list(dict.fromkeys(map(_arm, evaluated)))

    @property
    def others(self) -> list[str]:
        """The tasks but for the target."""
        return [task for task, role in self.tasks.items() if role == "other"]

    def runs(self, arm: str) -> list[str]:
        """The evaluated runs of an arm: one for each training seed."""
        return [run for run, found in self.values.items() if _arm(run) == arm and found.keys() >= self.tasks.keys()]

    def of(self, arm: str, task: str) -> list[Values]:
        """The values of an arm's runs on a task."""
        return [self.values[run][task] for run in self.runs(arm)]

    def pair(self, task: str, arm: str, other: str) -> Pair:
        return Pair(task, arm, other, self.of(arm, task), self.of(other, task), other != self.seed_arm)


def _arm(run: str) -> str:
    return run.partition("@")[0]


def join(parts: Sequence[Kept]) -> Experiment:
    """The parts as one experiment. Raises ValueError if a part's verdict does not follow from its items, or if two
    parts have other rows, items or settings of evaluation."""
    for part in parts:
        _check(part)
    first, *more = parts
    for part in more:
        for name, mine, other in zip(("rows", "items", "margin"), _measured(first), _measured(part), strict=True):
            if mine != other:
                raise ValueError(
                    f"two parts differ in their {name}, so they are not one experiment: {mine} and {other}"
                )
    return _joined(parts)


def _measured(part: Kept) -> tuple[Any, ...]:
    """What has to be the same in all parts."""
    stages = part["manifest"]["stages"]
    items = {name: stage["files"] for name, stage in stages.items() if name.startswith("items/")}
    asked = {task["task"]: task["asked"] for task in part["verdict"]["tasks"]}
    return stages["data"]["files"], (items, asked), part["verdict"]["margin"]


def _joined(parts: Sequence[Kept]) -> Experiment:
    verdict = parts[0]["verdict"]
    items: dict[str, dict[str, Values]] = {}
    losses: dict[str, Losses] = {}
    repeated = []
    for part in parts:
        for run, tasks in part["values"].items():
            found: dict[str, Values] = {
                task: {(name, number): value for name, number, value in rows} for task, rows in tasks.items()
            }
            if run in items:
                pairs = [(items[run][task].get(key), value) for task in found for key, value in found[task].items()]
                differ = sum(mine != other for mine, other in pairs)
                repeated.append(f"{run} was measured again: {count(differ)} of {count(len(pairs))} values differ.")
            items.setdefault(run, found)
        for run, rows in part["losses"].items():
            losses.setdefault(run, {name: {"nll": nll, "tokens": n} for name, (nll, n) in rows.items()})
    order = list(dict.fromkeys(arm for part in parts for arm in part["verdict"]["arms"]))
    return Experiment(
        seed_arm=verdict["seed_arm"],
        margin=verdict["margin"],
        tasks={task["task"]: task["role"] for task in verdict["tasks"]},
        baselines={arm: row["against"] for part in parts for arm, row in part["verdict"]["baseline_arms"].items()},
        values=dict(sorted(items.items(), key=lambda run: (order.index(_arm(run[0])), run[0]))),
        losses=losses,
        repeated=repeated,
    )


def _check(part: Kept) -> None:
    said = {(row["task"], row["arm"], row["against"]): row for row in part["verdict"]["comparisons"]}
    for row in comparisons(_joined([part])):
        other = said[row.task, row.arm, row.against]
        if abs(other["difference"] - row.difference) > 1e-9 or other["word"] != row.word:
            raise ValueError(f"{row.task}, {row.arm} against {row.against}: {other} was kept, {row} is found")


# ---- computing


def comparisons(found: Experiment) -> list[Comparison]:
    """Each arm against the seed model and against its baseline arm, from the values of single items alone."""
    arms = found.arms
    pairs = [(arm, found.seed_arm) for arm in arms if arm != found.seed_arm]
    pairs += [(arm, found.baselines[arm]) for arm in arms if found.baselines.get(arm) in arms]
    return compare([found.pair(task, *arms) for task in found.tasks for arms in pairs], found.margin)


def scores(found: Experiment, arm: str) -> dict[str, tuple[float, float, float]]:
    """An arm's mean value on each task, with its 95 % interval. The spread between runs is pooled over the tasks."""
    tables = [table_of(runs, shared_items(runs)) for task in found.tasks if len(runs := found.of(arm, task)) > 1]
    spread = run_spread(tables)
    rows = {}
    for task in found.tasks:
        runs = found.of(arm, task)
        keys = shared_items(runs)
        rows[task] = (float(table_of(runs, keys).mean()), *mean_interval(runs, spread)[:2])
    return rows


def mean_changes(found: Experiment) -> dict[tuple[str, str], MeanComparison]:
    """The mean over the other tasks of each arm's change against each arm before it."""
    pairs = [found.pair(task, arm, other) for arm, other in _with_earlier(found.arms) for task in found.others]
    return {(row.arm, row.against): row for row in compare_means(pairs, found.margin)}


def loss_changes(found: Experiment) -> dict[tuple[str, str], dict[str, Any]]:
    """Each arm's held-out loss per token against each arm before it."""
    losses = _losses(found)
    pairs = [
        LossPair(arm, other, losses[arm], losses[other], other != found.seed_arm)
        for arm, other in _with_earlier(list(losses))
    ]
    return {(row["arm"], row["against"]): row for row in compare_losses(pairs)}


def _with_earlier(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Each arm with each arm before it."""
    return [(arm, other) for place, arm in enumerate(arms) for other in arms[:place]]


def _losses(found: Experiment) -> dict[str, list[Losses]]:
    runs = {arm: [found.losses[run] for run in found.runs(arm) if run in found.losses] for arm in found.arms}
    return {arm: rows for arm, rows in runs.items() if rows}


# ---- showing


def show(found: Experiment) -> str:
    """Markdown tables of the scores, the differences, the mean changes on the other tasks, and the held-out losses."""
    arms = found.arms
    by_arm = {arm: scores(found, arm) for arm in arms}
    lines = _heads("task", "arm", "value, %", "95 %")
    for task in found.tasks:
        for arm in arms:
            value, low, high = map(percent, by_arm[arm][task])
            lines.append(f"| {task} | {arm} | {value} | {low} to {high} |")
    lines += ["", *_heads("task", "arm", "against", "n", "difference, points", "95 %", "p (Holm)", "word")]
    lines += [
        f"| {row.task} | {row.arm} | {row.against} | {row.n} | {points(row.difference)} "
        f"| {points(row.low)} to {points(row.high)} | {row.p_holm:.3f} | {row.word} |"
        for row in comparisons(found)
    ]
    lines += ["", *_heads(f"mean change on the other tasks ({len(found.others)})", "against", "points", "95 %", "word")]
    lines += [
        _row(mean.arm, mean.against, points(mean.difference), f"{points(mean.low)} to {points(mean.high)}", mean.word)
        for mean in mean_changes(found).values()
    ]
    lines += ["", *_heads("held-out loss, nats per token", "value", "against", "difference", "95 %")]
    lines += [f"| {arm} | {mean_loss(runs)['value']:.3f} | | | |" for arm, runs in _losses(found).items()]
    lines += [
        f"| {arm} | | {other} | {nats(row['difference'])} | {nats(row['low'])} to {nats(row['high'])} |"
        for (arm, other), row in loss_changes(found).items()
    ]
    return "\n".join([*lines, *_repeated(found)])


def summary(found: Experiment) -> str:
    """Two Markdown tables with a row per arm. The first: training runs, held-out loss, mean change on the other tasks,
    and the tasks that the verdict calls forgotten and gained. The second: the change on each task. Changes are against
    the seed model, with 95 % intervals; percentages and points; the loss in nats per token."""
    rows = {(row.task, row.arm): row for row in comparisons(found) if row.against == found.seed_arm}
    losses, changed, means = _losses(found), loss_changes(found), mean_changes(found)
    own = scores(found, found.seed_arm)
    heads = [
        "arm",
        "training runs",
        "held-out loss",
        f"mean change on {len(found.others)} other tasks",
        "forgot",
        "gained",
    ]
    lines = [*_heads(*heads), f"| {found.seed_arm} | | {mean_loss(losses[found.seed_arm])['value']:.3f} | | | |"]
    tasks = [*_heads("arm", *found.tasks), _row(found.seed_arm, *(percent(own[task][0]) for task in found.tasks))]
    for arm in found.arms[1:]:
        loss = f"{mean_loss(losses[arm])['value']:.3f} ({_change(changed[arm, found.seed_arm], nats)})"
        mean = means[arm, found.seed_arm]
        named = {word: ", ".join(task for task in found.others if rows[task, arm].word == word) for word in MARKED}
        runs = str(len(found.runs(arm)))
        lines.append(_row(arm, runs, loss, _change_in_points(mean), *(named[word] or "–" for word in MARKED)))
        tasks.append(_row(arm, *(_cell(rows[task, arm]) for task in found.tasks)))
    return "\n".join([*lines, "", *tasks, *_repeated(found)])


MARKED = ("forgot", "gained")


def _cell(row: Comparison) -> str:
    """A change with its interval; the words that claim a change are in bold."""
    mark = f" **{row.word}**" if row.word in MARKED else ""
    return f"{_change_in_points(row)}{mark}"


def _change_in_points(row: Comparison | MeanComparison) -> str:
    return f"{points(row.difference)} ({points(row.low)} to {points(row.high)})"


def _change(row: Mapping[str, Any], written: Callable[[float], str]) -> str:
    return f"{written(row['difference'])}, {written(row['low'])} to {written(row['high'])}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _heads(*names: str) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]


def _repeated(found: Experiment) -> list[str]:
    return ["", *found.repeated] if found.repeated else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["keep", "show", "summary"])
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    if args.action == "keep":
        folder, file = args.paths
        kept = keep(folder)
        _check(kept)  # for example, a run without a place in the verdict
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        file.write_bytes(lzma.compress(text.encode()))
        print(f"{file}: {file.stat().st_size:,} bytes")
        return
    made = show if args.action == "show" else summary
    print(made(join([read(file) for file in args.paths])))


if __name__ == "__main__":
    main()
