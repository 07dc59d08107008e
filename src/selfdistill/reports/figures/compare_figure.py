"""The figure of several experiments: a panel for each column of their table, a line for each arm of each experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..letters import fit
from ..text import percent
from .canvas import Canvas, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PITCH = 17.0
_HEADER = ("experiment", "arm", "task", "asked by", "score", "low", "high")


@dataclass(frozen=True)
class Line:
    """An arm of an experiment, and its score (value, low, high) in each panel, None if there is none."""

    experiment: str
    arm: str
    scores: Sequence[dict[str, Any] | None]


def comparison(panels: Sequence[tuple[str, str]], lines: Sequence[Line], slots: dict[str, int]) -> Drawing | None:
    """The scores with 95 % intervals. `panels` are the tasks with the experiments that asked the same items in the same
    way (empty for all): scores in different panels are not compared."""
    lines = [line for line in lines if any(line.scores)]
    if not panels or not lines:
        return None
    rows = [
        (line.experiment, line.arm, task, asked or "all", score["value"], score["low"], score["high"])
        for place, (task, asked) in enumerate(panels)
        for line in lines
        if (score := line.scores[place])
    ]
    said = "; ".join(f"{name}, {arm}, {task} {percent(value)}" for name, arm, task, _, value, *_ in rows)
    return Drawing(
        draw=lambda canvas: _draw(canvas, panels, lines, slots),
        label=f"Scores in per cent with 95 % intervals: {said}.",
        caption="Scores in per cent of the items that could be judged, with 95 % intervals. A panel holds only scores "
        "on the same items, asked in the same way. An arm has the same colour and marker in all experiments.",
        header=_HEADER,
        rows=rows,
    )


def _draw(canvas: Canvas, panels: Sequence[tuple[str, str]], lines: Sequence[Line], slots: dict[str, int]) -> Figure:
    """The names of the experiments stand above their arms, in the first panel of each row of panels."""
    names = list(dict.fromkeys(line.experiment for line in lines))
    heights = {name: 20.0 + _PITCH * sum(line.experiment == name for line in lines) for name in names}
    height, left = sum(heights.values()) + 6, min(190.0, canvas.width * 0.36)
    places = canvas.columns(len(panels), most=1 if canvas.narrow else 3, gap=40.0, left=left)
    step = height + 68
    shown = {line.arm: slots[line.arm] for line in lines}
    figure, top = canvas.start(step * (places[-1][2] + 1), shown)
    for place, ((task, asked), (x, width, row)) in enumerate(zip(panels, places, strict=True)):
        axes = canvas.axes(figure, x, top + 38 + step * row, width, height)
        axes.set(xlim=(0, 100), ylim=(height, 0), xticks=[0, 50, 100], yticks=[])
        canvas.grid(axes, "x")
        canvas.title(axes, fit(task, width, 13, bold=True), width, fit(asked, width, 12) if asked else "")
        y, before = 0.0, ""
        for line in lines:
            if line.experiment != before:
                before, y = line.experiment, y + 20
                if x == places[0][0]:
                    _text(canvas, axes, before, y - 8, left, bold=True)
            if x == places[0][0]:
                _text(canvas, axes, line.arm, y + 8, left)
            _score(canvas, axes, line.scores[place], y + 8, slots[line.arm])
            y += _PITCH
    return figure


def _text(canvas: Canvas, axes: Any, text: str, y: float, left: float, bold: bool = False) -> None:
    axes.annotate(
        fit(text, left - 10, 12, bold=bold), (0, y), (-left + 2, 0), textcoords="offset points", va="center",
        annotation_clip=False, color=canvas.palette.ink if bold else canvas.palette.muted, fontsize=12,
        fontweight="bold" if bold else "normal",
    )  # fmt: skip


def _score(canvas: Canvas, axes: Any, score: dict[str, Any] | None, y: float, slot: int) -> None:
    if score is None:
        return
    look = canvas.marker(slot, 8)
    if score["low"] is not None and score["high"] is not None:
        axes.plot([100 * score["low"], 100 * score["high"]], [y, y], color=look["color"], linewidth=1.6)
    axes.plot([100 * score["value"]], [y], **look, clip_on=False, zorder=5)
