"""The figures of the accepted rewrites and of the distribution gap that rewriting closes."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from ...types.wording import counted, per_cent
from ..kept import outcomes
from ..letters import fit
from ..text import count
from .canvas import Canvas, Drawing
from .material import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BARS = 12
_BINS = 40
# The originals have the colour of vanilla, the responses that SDFT trains on have the colour of sdft.
_LOOKS = {"original": ("original responses", 1), "rewritten": ("responses SDFT trains on", 2)}


def acceptance(material: Material) -> Drawing | None:
    """How many rewrites were accepted or kept unchecked, and how many were rejected for each reason."""
    figures = material.acceptance
    if not figures:
        return None
    reasons, rest = figures["reasons"][:MAX_BARS], figures["reasons"][MAX_BARS:]
    kept = outcomes(figures)
    bars = [*kept, *reasons]
    if rare := sum(number for _, number in rest) + figures.get("rest", 0):
        bars.append(("rarer reasons", rare))
    total = figures["rows"]
    return Drawing(
        draw=lambda canvas: _draw_bars(canvas, bars, total, len(kept)),
        label="Rewrites by outcome: " + ", ".join(f"{name} {number}" for name, number in bars) + ".",
        caption=f"{counted(total, 'rewrite')}. Rows whose rewrite was rejected keep their original response.",
        header=("outcome", "rows", "share"),
        rows=[(name, number, number / total) for name, number in bars],
    )


def _draw_bars(canvas: Canvas, bars: list[tuple[str, int]], total: int, kept: int) -> Figure:
    """A line for each outcome, `kept` of them bold; on narrow screens the name is above the bar."""
    pitch, left = (40.0, 2.0) if canvas.narrow else (27.0, min(270.0, canvas.width / 2.8))
    height = pitch * len(bars)
    figure, top = canvas.start(height + 8)
    axes = canvas.axes(figure, left, top + 4, canvas.width - left - 108, height)
    axes.set(xlim=(0, total), ylim=(height, 0), xticks=[], yticks=[])
    room = canvas.width if canvas.narrow else left - 6
    for line, (name, number) in enumerate(bars):
        y = pitch * line + (27 if canvas.narrow else pitch / 2)
        bold = line < kept
        color = canvas.palette.arm(2 if bold else 0)
        axes.barh([y], [number], height=13, color=color)
        xy, offset = ((0, y - 16), (0, 0)) if canvas.narrow else ((0, y), (-left + 2, 0))
        axes.annotate(
            fit(name, room, 13, bold=bold), xy, offset, textcoords="offset points", va="center",
            annotation_clip=False, color=canvas.palette.ink, fontsize=13, fontweight="bold" if bold else "normal",
        )  # fmt: skip
        text = f"{count(number)} · {per_cent(number / total)}"
        canvas.note(axes, text, xy=(number, y), xytext=(7, 0), textcoords="offset points", va="center")
    return figure


def gap(material: Material) -> Drawing | None:
    """How unlikely the responses are under the seed model, before and after rewriting."""
    from numpy import histogram, linspace, percentile

    sides = {side: rows for side in _LOOKS if (rows := material.gap.get(side))}
    if not sides:
        return None
    top = max(float(percentile([nll for nll, _ in rows], 99.5)) for rows in sides.values()) or 1.0
    edges = [float(edge) for edge in linspace(0, top, min(_BINS, max(10, len(sides["original"]) // 4)) + 1)]
    shares = {
        side: [n / len(rows) for n in histogram([min(nll, top) for nll, _ in rows], edges)[0].tolist()]
        for side, rows in sides.items()
    }
    legend = {f"{_LOOKS[side][0]}: {_middle(rows)}": _LOOKS[side][1] for side, rows in sides.items()}
    means = {side: sum(nll for nll, _ in rows) / len(rows) for side, rows in sides.items()}
    return Drawing(
        draw=lambda canvas: _draw_gap(canvas, shares, edges, means, legend),
        label=f"Negative log-likelihood under the seed model. {'; '.join(legend)}.",
        caption="Share of the responses by their mean negative log-likelihood per token under the seed model, in nats. "
        "The dotted lines are the means. The last bin also holds all larger values.",
        header=("responses", "nats from", "nats to", "rows", "share"),
        rows=[
            (_LOOKS[side][0], low, high, round(share * len(sides[side])), share)
            for side, values in shares.items()
            for low, high, share in zip(edges, edges[1:], values, strict=False)
        ],
    )


def _middle(rows: list[tuple[float, int]]) -> str:
    tokens = sum(n for _, n in rows)
    of_tokens = sum(nll * n for nll, n in rows) / tokens if tokens else float("nan")
    perplexity, mean = exp(min(of_tokens, 99)), sum(nll for nll, _ in rows) / len(rows)
    shown = f"{perplexity:.3g}" if perplexity < 1000 else count(perplexity)
    return f"mean of the responses {mean:.2f}, of the tokens {of_tokens:.2f}, perplexity {shown}"


def _draw_gap(
    canvas: Canvas, shares: dict[str, list[float]], edges: list[float], means: dict[str, float], legend: dict[str, int]
) -> Figure:
    height = 170.0 if canvas.narrow else 220.0
    figure, top = canvas.start(height + 58, legend)
    axes = canvas.axes(figure, 44, top + 8, canvas.width - 56, height)
    canvas.grid(axes, "y")
    most = max(map(max, shares.values()))
    for side, values in shares.items():
        slot = _LOOKS[side][1]
        color = canvas.palette.arm(slot)
        axes.stairs([100 * value for value in values], edges, fill=True, color=color, alpha=0.16, linewidth=0)
        dash = "solid" if side == "rewritten" else (0, (5, 1.5))
        axes.stairs([100 * value for value in values], edges, color=color, linewidth=1.8, linestyle=dash)
        axes.plot([means[side]] * 2, [0, 112 * most], color=color, linewidth=1.4, linestyle=(0, (1, 2)))
        axes.plot([means[side]], [112 * most], **canvas.marker(slot, 9), clip_on=False, zorder=5)
    axes.set(xlim=(0, edges[-1]), ylim=(0, 116 * most))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.locator_params(axis="y", nbins=5)
    axes.tick_params(axis="x", pad=8)
    axes.set_xlabel("nats per token", color=canvas.palette.muted, fontsize=13)
    return figure
