"""The figure of the verdict: the scores of the seed and the arms on each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..findings import JsonRow
from ..letters import fit
from ..text import percent
from .canvas import Canvas, Drawing
from .material import Material

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEADER = (
    "task",
    "role",
    "metric",
    "arm",
    "items",
    "score",
    "low",
    "high",
    "change",
    "change low",
    "change high",
    "word",
    "training runs",
)


def verdict(material: Material) -> Drawing | None:
    """A dumbbell for each arm and task: the seed's score, the arm's score and a band between them, with 95 %
    intervals."""
    arms, seed = material.leading, material.findings.seed_arm
    tasks = [task for task in material.findings.tasks if _scored(task, arms)]
    if not tasks:
        return None
    arms = {arm: slot for arm, slot in arms.items() if any(arm in _scored(task, arms) for task in tasks)}
    said = "; ".join(
        f"{task['task']}: " + ", ".join(f"{arm} {percent(task['scores'][arm]['value'])}" for arm in _scored(task, arms))
        for task in tasks
    )
    runs = f" The scores are from {material.findings.scope} of each arm." if material.findings.comparisons else ""
    others = " Only the last arm of each sweep is shown." if len(material.leading) < len(material.findings.arms) else ""
    return Drawing(
        draw=lambda canvas: _draw(canvas, tasks, arms, seed),
        label=f"Scores in per cent with 95 % intervals. {said}.",
        caption="Score in per cent of the items that could be judged. The line is the 95 % interval. A band joins each "
        f"arm to {seed}.{others}{runs}",
        header=_HEADER,
        rows=[_row(material, task, arm) for task in tasks for arm in _scored(task, arms)],
    )


def _row(material: Material, task: JsonRow, arm: str) -> list[Any]:
    score, change = task["scores"][arm], material.findings.change(task, arm) or {}
    return [
        task["task"], task["role"], task["metric"], arm, score["n"], score["value"], score["low"], score["high"],
        *(change.get(key) for key in ("difference", "low", "high", "word", "runs")),
    ]  # fmt: skip


def _scored(task: JsonRow, arms: dict[str, int]) -> list[str]:
    return [arm for arm in arms if task["scores"].get(arm, {}).get("value") is not None]


def _draw(canvas: Canvas, tasks: list[JsonRow], arms: dict[str, int], seed: str) -> Figure:
    """One block per task from top to bottom, y in pixels. The task's name is on the left, on narrow screens above."""
    pitch = 17.0 if len(arms) <= 4 else 13.0
    left, head, gap = (14.0, 22.0, 14.0) if canvas.narrow else (min(230.0, canvas.width / 3.4), 0.0, 18.0)
    plain = canvas.width - left - (14.0 if canvas.narrow else 24.0)
    blocks = [head + max(pitch * len(_scored(task, arms)), 0 if canvas.narrow else 34) + gap for task in tasks]
    figure, top = canvas.start(sum(blocks) + 48, arms)
    axes = canvas.axes(figure, left, top + 24, plain, sum(blocks))
    axes.set(xlim=(0, 100), ylim=(sum(blocks), 0), xticks=[0, 25, 50, 75, 100], yticks=[])
    axes.tick_params(labeltop=True)
    canvas.grid(axes, "x")
    top = 0.0
    for task, block in zip(tasks, blocks, strict=True):
        if top:
            axes.plot([-100 * left / plain, 100], [top, top], color=canvas.palette.rule, linewidth=1, clip_on=False)
        _name(canvas, axes, task, top + gap / 2 + 8, 0 if canvas.narrow else 2 - left)
        _dumbbells(canvas, axes, task, arms, seed, top + gap / 2 + head + pitch / 2, pitch)
        top += block
    return figure


def _name(canvas: Canvas, axes: Axes, task: JsonRow, y: float, shift: float) -> None:
    """The task's name at the left edge with its skill below; without `shift`, on narrow screens, both in one line."""
    ink, muted = canvas.palette.ink, canvas.palette.muted
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
    place["bbox"] = {"facecolor": canvas.palette.paper, "edgecolor": "none", "pad": 1.5}
    skill = task["skill"] if task["skill"] != task["task"] else ""
    name, note = task["task"], "target" if task["role"] == "target" else skill
    if not shift:
        text = fit(f"{name} · {note}" if note else name, canvas.width - 28, 13)
        axes.annotate(text, (0, y), (0, 0), color=ink, fontsize=13, **place)
        return
    room = -shift - 8
    name = fit(name, room, 14, bold=True)
    axes.annotate(name, (0, y), (shift, 0), color=ink, fontsize=14, fontweight="bold", **place)
    axes.annotate(fit(note, room, 12.5), (0, y + 17), (shift, 0), color=muted, fontsize=12.5, **place)


def _dumbbells(
    canvas: Canvas, axes: Axes, task: JsonRow, arms: dict[str, int], seed: str, top: float, pitch: float
) -> None:
    scored = _scored(task, arms)
    start = 100 * task["scores"][seed]["value"] if seed in scored else None
    bottom = top + pitch * (len(scored) - 1)
    if start is not None:
        axes.plot([start, start], [top, bottom], color=canvas.palette.muted, linewidth=1, linestyle=(0, (2, 3)))
    for row, arm in enumerate(scored):
        score, y, look = task["scores"][arm], top + pitch * row, canvas.marker(arms[arm], 8)
        value, color = 100 * score["value"], look["color"]
        if start is not None and arm != seed:
            axes.plot([start, value], [y, y], color=color, linewidth=6, alpha=0.22, solid_capstyle="butt")
        if score["low"] is not None and score["high"] is not None:
            axes.plot([100 * score["low"], 100 * score["high"]], [y, y], color=color, linewidth=1.6)
        axes.plot([value], [y], **look, clip_on=False, zorder=5)
