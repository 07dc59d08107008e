"""The figures of how far training moved the model: its answers, and its parameters."""

from __future__ import annotations

import re
from math import hypot
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..findings import JsonRow
from ..letters import fit
from .canvas import Canvas, Drawing
from .material import Material, number, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIMILARITIES = {"rouge_l": "ROUGE-L", "cosine": "embedding cosine"}
_BINS = 32
_RIDGE = 44.0
_Values = dict[str, dict[str, list[float]]]  # metric → arm → one number per prompt and run


def similarity(material: Material) -> Drawing | None:
    """The similarity of each arm's answers to the seed's answers to the same prompts, as ridges (the paper's Figure
    9)."""
    values: _Values = {}
    for metric in _SIMILARITIES:
        for arm in material.leading:
            runs = [material.shift[run] for run in material.runs_of(arm, material.shift)]
            found = [value for row in runs for value in numbers(row.get("distributions", {}).get(metric))]
            if found:
                values.setdefault(metric, {})[arm] = found
    if not values:
        return None
    slots = {arm: material.slots[arm] for arm in material.leading if any(arm in found for found in values.values())}
    said = [
        f"{_SIMILARITIES[metric]}: " + ", ".join(f"{arm} {fmean(found):.2f}" for arm, found in arms.items())
        for metric, arms in values.items()
    ]
    return Drawing(
        draw=lambda canvas: _draw_ridges(canvas, values, slots),
        label=f"Mean similarity of the answers to the seed's answers. {'; '.join(said)}.",
        caption="Answers of each arm compared with the seed's answers to the same prompts; 1 means the same answer. "
        "The marker is the mean. Each ridge is scaled to the same height.",
        header=("metric", "arm", "from", "to", "answers", "share"),
        rows=[
            (metric, arm, low, high, round(share * len(found)), share)
            for metric, arms in values.items()
            for arm, found in arms.items()
            for low, high, share in _bins(found, _start(arms))
        ],
    )


def _start(arms: dict[str, list[float]]) -> float:
    """The start of the axis: 0, or lower if a cosine is negative."""
    return min(0.0, *map(min, arms.values())) if arms else 0.0


def _bins(values: list[float], start: float) -> list[tuple[float, float, float]]:
    from numpy import histogram

    counts, edges = histogram([min(value, 1.0) for value in values], _BINS, (start, 1.0))
    shares = [n / len(values) for n in counts.tolist()]
    return list(zip(edges.tolist(), edges.tolist()[1:], shares, strict=False))


def _draw_ridges(canvas: Canvas, values: _Values, slots: dict[str, int]) -> Figure:
    arms, left = list(slots), 2.0 if canvas.narrow else min(150.0, canvas.width / 5)
    height = _RIDGE * len(arms)
    places = canvas.columns(len(values), most=1 if canvas.narrow else 2, gap=34, left=left)
    figure, top = canvas.start((height + 62) * (places[-1][2] + 1), slots if canvas.narrow else None)
    for (metric, found), (x, width, line) in zip(values.items(), places, strict=True):
        start = _start(found)
        axes = canvas.axes(figure, x + 12, top + 30 + line * (height + 62), width - 24, height)
        axes.set(xlim=(start, 1), ylim=(height + 6, -8), yticks=[])
        canvas.grid(axes, "x")
        canvas.title(axes, _SIMILARITIES[metric], width)
        for row, arm in enumerate(arms):
            if arm in found:
                _ridge(canvas, axes, found[arm], start, _RIDGE * (row + 1) - 6, slots[arm])
            if x == left and not canvas.narrow:
                axes.annotate(
                    fit(arm, left - 4, 13, bold=True), (start, _RIDGE * (row + 1) - 15), (-left + 2, 0),
                    fontweight="bold", textcoords="offset points", annotation_clip=False, color=canvas.palette.ink,
                    fontsize=13, va="center",
                )  # fmt: skip
    return figure


def _ridge(canvas: Canvas, axes: Axes, values: list[float], start: float, floor: float, slot: int) -> None:
    bins = _bins(values, start)
    most = max(share for *_, share in bins)
    edges = [low for low, *_ in bins] + [1.0]
    tops = [floor - (_RIDGE - 12) * share / most for *_, share in bins]
    color, mean = canvas.palette.arm(slot), fmean(values)
    axes.stairs(tops, edges, baseline=floor, fill=True, color=color, alpha=0.3, linewidth=0)
    axes.stairs(tops, edges, baseline=floor, color=color, linewidth=1.4)
    axes.plot([mean], [floor], **canvas.marker(slot, 9), clip_on=False, zorder=5)
    side = 1 if mean < start + 0.55 * (1 - start) else -1
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "left" if side > 0 else "right"}
    box = {"facecolor": canvas.palette.paper, "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
    axes.annotate(
        f"{mean:.2f}", (mean, floor), (8 * side, -9), color=canvas.palette.ink, fontsize=12, bbox=box, zorder=6, **place
    )


def layers(material: Material) -> Drawing | None:
    """The change of the parameters by layer, relative to the seed's parameters."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for arm in material.leading:
        runs = [_by_layer(material.shift[run]) for run in material.runs_of(arm, material.shift)]
        found = sorted({layer for run in runs for layer in run})
        if found:
            lines[arm] = [(layer, fmean(run[layer] for run in runs if layer in run)) for layer in found]
    if not lines:
        return None
    slots = {arm: material.slots[arm] for arm in lines}
    most = {arm: max(points, key=lambda point: point[1]) for arm, points in lines.items()}
    said = ", ".join(f"{arm} most in layer {layer} ({change * 100:.2g} %)" for arm, (layer, change) in most.items())
    return Drawing(
        draw=lambda canvas: _draw_layers(canvas, lines, slots),
        label=f"Relative change of the parameters by layer: {said}.",
        caption="Frobenius norm of the change of a layer's weights, in per cent of the norm of the seed's weights. "
        "With LoRA only adapted weights count, so different methods can't be compared. Several training "
        "seeds are averaged.",
        header=("arm", "layer", "relative change"),
        rows=[(arm, *point) for arm, points in lines.items() for point in points],
    )


def _by_layer(shift: JsonRow) -> dict[int, float]:
    """For each numbered layer: the norm of the change of all its matrices, relative to the norm of their weights."""
    changes: dict[int, list[tuple[float, float]]] = {}
    for row in (shift["parameters"] or {}).get("layers", []):
        layer = re.search(r"(?:^|[.\s])(\d+)(?:[.\s]|$)", row["name"])
        norm, relative = number(row["norm"]), number(row["relative"])
        if layer and norm is not None and relative is not None:
            weight = norm / relative if relative else 0.0
            changes.setdefault(int(layer[1]), []).append((norm, weight))
    return {
        layer: hypot(*(norm for norm, _ in parts)) / (hypot(*(weight for _, weight in parts)) or 1.0)
        for layer, parts in changes.items()
    }


def _draw_layers(canvas: Canvas, lines: dict[str, list[tuple[int, float]]], slots: dict[str, int]) -> Figure:
    height = 180.0 if canvas.narrow else 220.0
    figure, top = canvas.start(height + 62, slots)
    axes = canvas.axes(figure, 48, top + 12, canvas.width - 62, height)
    canvas.grid(axes, "y")
    size = 7.5 if max(map(len, lines.values())) <= 40 else 0.0
    for arm, points in lines.items():
        at, change = zip(*points, strict=True)
        axes.plot(at, [100 * value for value in change], **canvas.marker(slots[arm], size), linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.tick_params(axis="x", pad=8)
    axes.locator_params(axis="x", nbins=8, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel("layer", color=canvas.palette.muted, fontsize=13)
    return figure
