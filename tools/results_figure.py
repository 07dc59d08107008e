"""Draws the figure of docs/results from kept files: what each arm learnt, and what it forgot.

python -m tools.results_figure PICTURE.png FILE.json.xz ...
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from selfdistill.reports.svg import light_palette
from selfdistill.types.wording import counted
from tools.kept_results import Experiment, join, loss_changes, mean_changes, read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interval = tuple[float, float, float]
"""A difference and its 95 % interval."""


def draw(found: Experiment) -> Figure:
    """Two panels with a line per trained arm: the change of the held-out loss in nats per token, and the mean change on
    the other tasks in points, both against the seed model, with 95 % intervals."""
    from matplotlib.figure import Figure

    arms, seed = found.arms[1:], found.seed_arm
    losses, means = loss_changes(found), mean_changes(found)
    learnt = {arm: _of(losses[arm, seed]) for arm in arms}
    kept = {arm: _of(means[arm, seed].to_json(), 100) for arm in arms}
    figure = Figure(figsize=(8.6, 1.3 + 0.34 * len(arms)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, learnt, "Held-out loss, nats per token\n(lower: more was learnt)")
    _panel(right, kept, f"Mean of {counted(len(found.others), 'other task')}, points\n(below 0: forgot)")
    names = [f"{arm}, {counted(len(found.runs(arm)), 'run')}" for arm in arms]
    left.set_yticks(range(len(arms)), names)
    left.invert_yaxis()
    return figure


def _of(row: dict[str, float], scale: float = 1) -> Interval:
    return scale * row["difference"], scale * row["low"], scale * row["high"]


def _panel(axes: Axes, changes: dict[str, Interval], title: str) -> None:
    palette = light_palette()
    for place, (value, low, high) in enumerate(changes.values()):
        color = palette.arm(1 + place)
        axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="round")
        axes.plot([value], [place], "o", color=color, markersize=7, markeredgecolor=palette.paper)
    axes.axvline(0, color=palette.muted, linewidth=1, linestyle="--")
    axes.set_title(title, loc="left", fontsize=10, color=palette.ink)
    axes.grid(axis="x", color=palette.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=palette.ink, labelsize=9)
    axes.margins(y=0.6 / max(1, len(changes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args()
    draw(join([read(file) for file in args.files])).savefig(args.picture, metadata={"Software": None})


if __name__ == "__main__":
    main()
