"""The figure of the training loss."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from ..findings import JsonRow
from .canvas import Canvas, Drawing
from .material import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_POINTS = 100


def loss(material: Material) -> Drawing | None:
    """Training loss by step, with a line for each run, thinned to means of neighbouring steps."""
    curves = {
        run: _thin(rows)
        for arm in material.leading
        for run in material.runs_of(arm, material.training)
        if (rows := material.training[run])
    }
    if not curves:
        return None
    slots = {run: material.slots[material.arm_of(run)] for run in curves}
    legend = {material.arm_of(run): slot for run, slot in slots.items()}
    ends = ", ".join(f"{run} from {points[0][1]:.2f} to {points[-1][1]:.2f}" for run, points in curves.items())
    several = " Each training seed has its own line." if len(curves) > len(legend) else ""
    hidden = " Only the last arm of each sweep is shown." if len(material.training) > len(curves) else ""
    return Drawing(
        draw=lambda canvas: _draw(canvas, curves, slots, legend),
        label=f"Training loss by step: {ends}.",
        caption=f"Mean loss per response token, in nats.{several}{hidden}",
        header=("arm", "run", "step", "loss"),
        rows=[(material.arm_of(run), run, *point) for run, points in curves.items() for point in points],
    )


def _draw(
    canvas: Canvas, curves: dict[str, list[tuple[float, float]]], slots: dict[str, int], legend: dict[str, int]
) -> Figure:
    height = 184.0 if canvas.narrow else 244.0
    figure, top = canvas.start(height + 56, legend)
    axes = canvas.axes(figure, 38, top + 12, canvas.width - 50, height)
    canvas.grid(axes, "y")
    for number, (run, points) in enumerate(curves.items()):
        every = max(len(points) // 6, 1)
        axes.plot(
            *zip(*points, strict=True),
            **canvas.marker(slots[run], 6.5),
            linewidth=1.8,
            markevery=(number * every // len(curves), every),
        )
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.tick_params(axis="x", pad=8)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel("step", color=canvas.palette.muted, fontsize=13)
    return figure


def _thin(rows: list[JsonRow]) -> list[tuple[float, float]]:
    """Steps and losses, averaged over neighbouring steps so that at most `_MAX_POINTS` points remain."""
    size = -(-len(rows) // _MAX_POINTS)
    bins = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(fmean(row["step"] for row in part), fmean(row["loss"] for row in part)) for part in bins]
