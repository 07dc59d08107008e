"""The figure of a sweep: the scores on the target and the other tasks along each swept setting."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...types.wording import minus
from ..findings import JsonRow
from ..letters import fit
from ..svg import series_of
from .canvas import Canvas, Drawing, geometric
from .material import Material, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDES = {"target": "target, per cent", "other": "mean of the other tasks, per cent"}
_NAMES = {"n": "training rows", "mix": "mix ratio", "train.lr": "learning rate"}


@dataclass(frozen=True)
class _Point:
    """An arm of a sweep: its place on the curve, and its mean score over the targets or the other tasks, as a share."""

    parameter: str
    series: str
    value: Any
    side: str
    arm: str
    score: float
    low: float
    high: float
    tasks: int


def sweeps(material: Material) -> Drawing | None:
    """The score on the target, and the mean score on the other tasks, along each swept setting, with 95 % bands."""
    found = [point for row in material.sweeps for side in _SIDES if (point := _point(material, row, side))]
    if not found:
        return None
    slots = {arm: material.slots[arm] for arm in material.findings.arms}
    slots |= {series: material.slots[arm] for arm, series in series_of(material.sweeps).items() if arm in slots}
    legend = {material.findings.seed_arm: 0}
    legend |= {
        series: slots.setdefault(series, len(slots)) for series in dict.fromkeys(point.series for point in found)
    }
    seed = {side: mean for side in _SIDES if (mean := _mean(material, material.findings.seed_arm, side))}
    label = "; ".join(f"{p.arm} {p.side} {100 * p.score:.1f}" for p in found)
    return Drawing(
        draw=lambda canvas: _draw(canvas, found, slots, legend, {side: mean[0] for side, mean in seed.items()}),
        label=f"Scores along each swept setting, in per cent: {label}.",
        caption="Scores in per cent with 95 % bands. The dashed line is the seed. The band of a mean over several "
        "tasks assumes that the tasks are independent.",
        header=("parameter", "series", "value", "arm", "of", "tasks", "score", "low", "high"),
        rows=[(p.parameter, p.series, p.value, p.arm, p.side, p.tasks, p.score, p.low, p.high) for p in found],
    )


def _point(material: Material, row: JsonRow, side: str) -> _Point | None:
    mean = _mean(material, row["arm"], side)
    value = row["value"]
    known = (
        value if number(value) is not None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    )
    return _Point(row["parameter"], row["series"], known, side, row["arm"], *mean) if mean else None


def _mean(material: Material, arm: str, side: str) -> tuple[float, float, float, int] | None:
    """An arm's mean score, its interval and the number of tasks. None if a task is not scored yet: means over different
    tasks can't be compared."""
    tasks = [task for task in material.findings.tasks if (task["role"] == "target") == (side == "target")]
    scores = [task["scores"].get(arm, {}) for task in tasks if _is_scored(task)]
    values = [number(score.get("value")) for score in scores]
    found = [value for value in values if value is not None]
    if not found or len(found) < len(values):
        return None
    mean, n = fmean(found), len(found)
    ends = [(number(score.get("low")), number(score.get("high"))) for score in scores]
    down = hypot(*(value - (0.0 if low is None else low) for value, (low, _) in zip(found, ends, strict=True))) / n
    up = hypot(*((1.0 if high is None else high) - value for value, (_, high) in zip(found, ends, strict=True))) / n
    return mean, max(mean - down, 0.0), min(mean + up, 1.0), n


def _is_scored(task: JsonRow) -> bool:
    """Whether any arm has a score on the task."""
    return any(number(score.get("value")) is not None for score in task["scores"].values())


def _draw(
    canvas: Canvas, found: list[_Point], slots: dict[str, int], legend: dict[str, int], seed: dict[str, float]
) -> Figure:
    panels = list(dict.fromkeys((point.parameter, point.side) for point in found))
    height, step = 180.0, 272.0
    places = canvas.columns(len(panels), most=1 if canvas.narrow else 2)
    figure, top = canvas.start(step * (places[-1][2] + 1), legend)
    for (parameter, side), (x, width, line) in zip(panels, places, strict=True):
        axes = canvas.axes(figure, x, top + 34 + step * line, width, height)
        canvas.grid(axes, "y")
        canvas.title(axes, _SIDES[side], width)
        if side in seed:
            axes.axhline(100 * seed[side], color=canvas.palette.arm(0), linewidth=1.4, linestyle=(0, (4, 3)))
        own = [point for point in found if (point.parameter, point.side) == (parameter, side)]
        at = _place(axes, [point.value for point in found if point.parameter == parameter], width)
        for series in dict.fromkeys(point.series for point in own):
            points = sorted((at(p.value), 100 * p.low, 100 * p.score, 100 * p.high) for p in own if p.series == series)
            _curve(canvas, axes, points, slots[series])
        axes.margins(x=0.06, y=0.08)
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel(_NAMES.get(parameter, parameter), color=canvas.palette.muted, fontsize=13)
    return figure


def _curve(canvas: Canvas, axes: Axes, points: list[tuple[float, float, float, float]], slot: int) -> None:
    x, low, score, high = zip(*points, strict=True)
    color = canvas.palette.arm(slot)
    axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
    axes.vlines(x, low, high, color=color, linewidth=1, alpha=0.6)
    axes.plot(x, score, **canvas.marker(slot, 9), linewidth=1.8, zorder=5)


def _place(axes: Axes, values: list[Any], width: float) -> Any:
    """Sets up the x axis for the values of a setting: a linear or logarithmic axis for numbers, categories otherwise.
    Returns the function from a value to its place."""
    known = list(dict.fromkeys(values))
    if any(number(value) is None for value in known):
        axes.set_xticks(range(len(known)), [fit(str(value), width / len(known) - 4, 12) for value in known])
        axes.set_xlim(-0.5, len(known) - 0.5)
        return known.index
    ordered = sorted(known)
    axes.set_xscale("log" if geometric(ordered) else "linear")
    shown = ordered if len(ordered) * 48 < width else ordered[:: -(-len(ordered) * 48 // int(width))]
    axes.set_xticks(shown, [minus(f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}") for value in shown])
    axes.minorticks_off()
    return float
