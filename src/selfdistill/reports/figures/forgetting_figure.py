"""The figure of forgetting against distribution shift: the paper's Figures 5 to 8 in one view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from ...types.wording import counted, signed
from ..findings import JsonRow
from ..text import points
from .canvas import Canvas, Drawing
from .material import Material, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {
    "bleu4": "BLEU-4",
    "bleu4_char": "BLEU-4, characters",
    "rouge_l": "ROUGE-L",
    "cosine": "embedding cosine",
    "kl": "KL, nats per token",
    "kl_target": "KL, target's prompts",
    "agreement": "same final answer",
    "length_ratio": "length ratio",
    "relative": "parameter change",
}
_MANY_POINTS = 8  # with fewer, the page folds the figure: a correlation would say little
_RunValue = tuple[str, float]  # a run and its value


def forgetting(material: Material) -> Drawing | None:
    """The mean change on the other tasks against each measure of shift, with a point for each of at least three runs,
    and Spearman's rho."""
    changes = {run: change for run in material.shift if (change := _change(material, run)) is not None}
    panels = {
        metric: found
        for metric in measures(material.shift.values())
        if len(found := [(run, x) for run in changes if (x := measure(material.shift[run], metric)) is not None]) > 2
    }
    if not panels:
        return None
    rho = {metric: _spearman(found, changes) for metric, found in panels.items()}
    slots = {run: material.slots[material.arm_of(run)] for run in changes}
    legend = material.legend([material.arm_of(run) for run in changes])
    said = ", ".join(f"{name_of(metric)} {_rho(value)}" for metric, value in rho.items())
    unfinished = len(material.shift) - len(changes)
    left_out = f" Left out, as they lack some of the other tasks: {counted(unfinished, 'run')}." if unfinished else ""
    return Drawing(
        draw=lambda canvas: _draw(canvas, panels, changes, rho, slots, legend),
        label=f"Mean change on the other tasks against measures of shift, Spearman's rho: {said}.",
        caption="Each point is a training run: its mean change on the other tasks, in points, against the shift of its "
        f"answers or parameters. ρ is Spearman's rank correlation over n runs.{left_out}",
        header=("arm", "run", "mean change on other tasks", *panels),
        rows=[
            (material.arm_of(run), run, change, *(dict(found).get(run) for found in panels.values()))
            for run, change in changes.items()
        ],
        folded=f"only {counted(len(changes), 'point')}" if len(changes) < _MANY_POINTS else "",
    )


def measures(shift: Iterable[JsonRow]) -> list[str]:
    """The measures of shift that at least one run has: the metrics, and the change of the parameters."""
    shift = list(shift)
    found = [metric for row in shift for metric in row["metrics"]]
    names = [metric for metric in _NAMES if metric in found or metric == "relative"]
    return [name for name in dict.fromkeys([*names, *found]) if any(measure(row, name) is not None for row in shift)]


def name_of(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def measure(shift: JsonRow, metric: str) -> float | None:
    """The value of a measure in a row of shift, or None."""
    if metric == "relative":
        return number((shift["parameters"] or {}).get("relative"))
    return number(shift["metrics"].get(metric, {}).get("mean"))


def _change(material: Material, run: str) -> float | None:
    """A run's mean change on the other tasks: the change of its arm plus the run's difference from the arm. None if the
    arm lacks a task on which some other arm is compared."""
    arm, found = material.arm_of(run), material.findings
    changes = []
    for task in found.tasks:
        if task["role"] == "target" or not any(found.change(task, other) for other in found.arms):
            continue
        row, score = found.change(task, arm), task["scores"].get(arm, {}).get("value")
        own = task["runs"].get(arm, {}).get(run, score)
        if row is None or own is None or score is None:
            return None
        changes.append(row["difference"] + own - score)
    return fmean(changes) if changes else None


def _spearman(found: Sequence[_RunValue], changes: dict[str, float]) -> tuple[float | None, int]:
    """Spearman's rho, or None if one side is constant, and n."""
    x, y = [value for _, value in found], [changes[run] for run, _ in found]
    if len(set(x)) == 1 or len(set(y)) == 1:
        return None, len(x)
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic), len(x)


def _rho(found: tuple[float | None, int]) -> str:
    value, n = found
    return f"ρ = {signed(value, 2)}, n = {n}" if value is not None else f"n = {n}"


def _draw(
    canvas: Canvas,
    panels: dict[str, list[_RunValue]],
    changes: dict[str, float],
    rho: dict[str, tuple[float | None, int]],
    slots: dict[str, int],
    legend: dict[str, int],
) -> Figure:
    height, step = 150.0, 236.0
    places = canvas.columns(len(panels), most=3 if canvas.width > 800 else 2, left=58)
    figure, top = canvas.start(step * (places[-1][2] + 1), legend)
    for (metric, found), (x, width, line) in zip(panels.items(), places, strict=True):
        axes = canvas.axes(figure, x, top + 44 + step * line, width, height)
        canvas.grid(axes, "both")
        axes.axhline(0, color=canvas.palette.muted, linewidth=1)
        for run, value in found:
            axes.plot([value], [100 * changes[run]], **canvas.marker(slots[run], 9), zorder=5)
        axes.margins(0.09)
        axes.locator_params(axis="x", nbins=4 if width > 180 else 3)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: points(value / 100).removesuffix(".0"))
        if x == places[0][0]:
            axes.set_ylabel("mean change, points", color=canvas.palette.muted, fontsize=12)
        canvas.title(axes, name_of(metric), width + 14, _rho(rho[metric]))
    return figure
