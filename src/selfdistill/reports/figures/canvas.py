"""The canvas of a figure: its width and colours. Each figure has a function that draws it on any canvas: a wide and a
narrow one for the page, where text must not shrink with the picture, and one for files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any, Literal

from ..letters import fit, text_width, wrap
from ..svg import Palette, marker_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 21.0  # of a legend
_ICON, _BETWEEN = 17.0, 21.0  # space before and after an entry of the legend


@dataclass(frozen=True)
class Drawing:
    """A figure before it is drawn. `label` describes it to readers who can't see it; `caption` explains how to read it;
    `header` and `rows` are its data. `folded` says why the page shows it only on request; empty if it does not."""

    draw: Callable[[Canvas], Figure]
    label: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: str = ""


@dataclass(frozen=True)
class Canvas:
    """All lengths are in CSS pixels, measured from the top."""

    width: float
    palette: Palette

    @property
    def narrow(self) -> bool:
        return self.width < 500

    def start(self, height: float, legend: Mapping[str, int] | None = None) -> tuple[Figure, float]:
        """A figure with a legend (name → slot) on top and `height` below the legend, and the height of the legend."""
        from matplotlib.figure import Figure

        places, top = self._flow(list(legend or {}))
        figure = Figure(figsize=(self.width / 72, (top + height) / 72), dpi=72, facecolor="none")
        for (x, y, name), slot in zip(places, (legend or {}).values(), strict=True):
            self._entry(figure, x, top + height - y, name, slot)
        return figure, top

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at this place, without a frame and tick marks."""
        across, down = figure.get_size_inches() * 72
        box = (left / across, 1 - (top + height) / down, width / across, height / down)
        axes = figure.add_axes(box, facecolor="none")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, colors=self.palette.muted, labelsize=12)
        axes.set_axisbelow(True)
        return axes

    def grid(self, axes: Axes, axis: Literal["both", "x", "y"]) -> None:
        axes.grid(axis=axis, color=self.palette.rule, linewidth=1)

    def title(self, axes: Axes, text: str, room: float, note: str = "") -> None:
        """Bold text above the axes, wrapped to `room`, with an optional grey line under it."""
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        if note:
            axes.annotate(note, (0, 1), (0, 9), color=self.palette.muted, fontsize=12, **place)
        above = 26.0 if note else 9.0
        for number, line in enumerate(reversed(wrap(text, room, 13, bold=True))):
            y = above + 16 * number
            axes.annotate(line, (0, 1), (0, y), color=self.palette.ink, fontsize=13, fontweight="bold", **place)

    def note(self, axes: Axes, text: str, **place: Any) -> None:
        """Grey text, for example next to a value."""
        axes.annotate(text, color=self.palette.muted, fontsize=12, annotation_clip=False, **place)

    def marker(self, slot: int, size: float) -> dict[str, Any]:
        """The arguments of `Axes.plot` for an arm's marker that is `size` pixels wide."""
        marker, drawn = marker_of(slot, size)
        color = self.palette.arm(slot)
        return {"marker": marker, "markersize": drawn, "markeredgecolor": self.palette.paper, "color": color}

    def columns(self, panels: int, most: int, gap: float = 46.0, left: float = 44.0) -> list[tuple[float, float, int]]:
        """The left edge, width and line of each panel, with up to `most` panels side by side."""
        across = min(most, panels)
        width = (self.width - left - 18 - gap * (across - 1)) / across
        return [(left + panel % across * (width + gap), width, panel // across) for panel in range(panels)]

    def _flow(self, names: list[str]) -> tuple[list[tuple[float, float, str]], float]:
        """The place of each name in the legend, and the height of the legend."""
        places, x, y = [], 0.0, _LINE / 2
        for name in (fit(name, self.width - _ICON, 13) for name in names):
            width = _ICON + text_width(name, 13)
            if x and x + width > self.width:
                x, y = 0.0, y + _LINE
            places.append((x, y, name))
            x += width + _BETWEEN
        return places, (y + _LINE / 2 + 8 if names else 0.0)

    def _entry(self, figure: Figure, x: float, y: float, name: str, slot: int) -> None:
        from matplotlib.lines import Line2D

        inches = figure.dpi_scale_trans
        icon = Line2D([(x + 6) / 72], [y / 72], transform=inches, linestyle="none", **self.marker(slot, 9))
        figure.add_artist(icon)
        figure.text(
            (x + _ICON) / 72, y / 72, name, transform=inches, color=self.palette.ink, fontsize=13, va="center_baseline"
        )


def geometric(values: Sequence[float]) -> bool:
    """Whether values are spaced more evenly on a logarithmic axis than on a linear axis."""
    ordered = sorted(set(values))
    if len(ordered) < 3 or ordered[0] <= 0 or ordered[-1] / ordered[0] < 4:
        return False
    return _unevenness([log(value) for value in ordered]) < _unevenness(ordered)


def _unevenness(ordered: Sequence[float]) -> float:
    """The largest gap divided by the mean gap."""
    gaps = [after - before for before, after in pairwise(ordered)]
    return max(gaps) * len(gaps) / sum(gaps)
