"""Loss curves as SVG in the page's colours. Texts keep their size in a narrow window; only the curves are stretched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from markupsafe import Markup

_POINTS = 200
_LEFT, _TOP, _WIDTH, _HEIGHT = 9.0, 4.0, 88.0, 82.0  # per cent of the figure

Curve = Sequence[tuple[float, float]]


def loss_svg(curves: Mapping[str, Curve], slots: Mapping[str, int]) -> Markup:
    """Training loss by step, with a line per run. Empty if there are no curves."""
    thin = {run: _thin(points) for run, points in curves.items() if points}
    if not thin:
        return Markup("")
    last = max(points[-1][0] for points in thin.values()) or 1
    top = _round_up(max(loss for points in thin.values() for _, loss in points))
    said = ", ".join(f"{run} {points[-1][1]:.3f} at step {points[-1][0]:.0f}" for run, points in thin.items())
    lines = [
        Markup('<polyline points="{}" fill="none" stroke="var(--arm-{})" stroke-width="2" {}/>').format(
            " ".join(f"{1000 * step / last:.1f},{1000 - 1000 * loss / top:.1f}" for step, loss in points),
            slots.get(run, 3) % 12,
            Markup('stroke-linejoin="round" vector-effect="non-scaling-stroke"'),
        )
        for run, points in thin.items()
    ]
    return Markup(
        '<svg class="curves" role="img" aria-label="Training loss by step: {}.">{}'
        '<svg x="{}%" y="{}%" width="{}%" height="{}%" viewBox="0 0 1000 1000" preserveAspectRatio="none" '
        'overflow="visible">{}</svg></svg>'
    ).format(said, Markup("").join(_axes(last, top)), _LEFT, _TOP, _WIDTH, _HEIGHT, Markup("").join(lines))


def _axes(last: float, top: float) -> list[Markup]:
    rule = Markup('<line x1="{}%" x2="{}%" y1="{:.2f}%" y2="{:.2f}%" stroke="var(--rule)"/>')
    text = Markup('<text x="{:.2f}%" y="{:.2f}%" dy="{}" text-anchor="{}" fill="var(--muted)">{}</text>')
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _HEIGHT * (1 - share)
        parts += [rule.format(_LEFT, _LEFT + _WIDTH, y, y)]
        parts += [text.format(_LEFT - 1.5, y, "0.35em", "end", f"{top * share:.3g}")]
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        label = f"step {last:.0f}" if share == 1 else f"{last * share:g}"
        parts.append(text.format(_LEFT + _WIDTH * share, _TOP + _HEIGHT, "1.5em", anchor, label))
    return parts


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that both labels are short numbers."""
    size = 1.0
    while size < value:
        size *= 10
    while size / 10 >= value > 0:
        size /= 10
    return next(step * size for step in (0.2, 0.4, 0.6, 0.8, 1.0) if step * size >= value) if value > 0 else 1.0


def _thin(points: Curve) -> list[tuple[float, float]]:
    """At most `_POINTS` points, as means of neighbouring steps."""
    size = -(-len(points) // _POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(step for step, _ in part), fmean(loss for _, loss in part)) for part in parts]
