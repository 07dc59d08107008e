"""The colours and markers of arms, and matplotlib figures as inline SVG.

A figure is drawn in placeholder colours that become CSS variables, so one drawing serves the light and the dark page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from .letters import text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = 12  # the arms' colours: `--arm-0` to `--arm-11` in base.css


@dataclass(frozen=True)
class Palette:
    """All colours that a figure may use."""

    ink: str
    muted: str
    rule: str
    paper: str
    arms: tuple[str, ...]

    def arm(self, slot: int) -> str:
        return self.arms[slot % len(self.arms)]


# Placeholders for the page's CSS variables.
PAGE = Palette("#010101", "#020202", "#030303", "#040404", tuple(f"#0505{slot:02x}" for slot in range(_COLORS)))
_VARIABLES = {value: f"var(--{name})" for name, value in vars(PAGE).items() if name != "arms"} | {
    value: f"var(--arm-{slot})" for slot, value in enumerate(PAGE.arms)
}


@cache
def light_palette() -> Palette:
    """The page's light colours on white, for figures in files."""
    css = (files(__package__) / "templates" / "base.css").read_text(encoding="utf-8").split("@media")[0]
    found = dict(re.findall(r"--([\w-]+): (#\w+)", css))
    arms = tuple(found[f"arm-{slot}"] for slot in range(_COLORS))
    return Palette(found["ink"], found["muted"], found["rule"], "#ffffff", arms)


# Each arm has a marker in addition to its colour, for prints in grey and colour-blind readers. The number scales the
# marker, so that all markers look equally large.
_MARKERS = (
    ("o", 1.0), ("s", 0.95), ("D", 0.85), ("^", 1.15), ("v", 1.15), ("P", 1.15), ("X", 1.15), ("<", 1.15), (">", 1.15),
    ("p", 1.2), ("h", 1.15), ("*", 1.6),
)  # fmt: skip

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def marker_of(slot: int, size: float) -> tuple[str, float]:
    """An arm's marker by its name in matplotlib, and the size at which the marker looks `size` pixels wide."""
    marker, factor = _MARKERS[slot % len(_MARKERS)]
    return marker, size * factor


def series_of(sweeps: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The series of each arm that a sweep created, such as `sdft.n=500` or `mix=0.25`. Arms that the recipe names,
    which may be points of a sweep too, are not included."""
    return {
        row["arm"]: row["series"]
        for row in sweeps
        if row["arm"].startswith(row["series"]) and "=" in row["arm"].removeprefix(row["series"])
    }


def arm_slots(arms: list[str], seed_arm: str, sweeps: Sequence[dict[str, Any]] = ()) -> dict[str, int]:
    """The slot of each arm, which decides its colour and marker. The seed, vanilla and sdft always have the same slots;
    the arms of a sweep share the slot of their series (`sweeps` as in verdict.json)."""
    slots = {seed_arm: 0, "vanilla": 1, "sdft": 2}
    looks = series_of(sweeps)
    for arm in arms:
        slots.setdefault(looks.get(arm, arm), len(slots))
    return {arm: slots[looks.get(arm, arm)] for arm in arms}


def marker_icon(slot: int) -> Markup:
    """An arm's marker for a line of text."""
    from matplotlib.markers import MarkerStyle

    marker, factor = _MARKERS[slot % len(_MARKERS)]
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = [
        letters[int(code)] + ("" if code == 79 else " ".join(f"{v:.3f}" for v in vertices))
        for vertices, code in path.iter_segments(curves=True)
    ]
    return Markup(
        '<svg class="marker" viewBox="-0.65 -0.65 1.3 1.3" aria-hidden="true">'
        '<path transform="scale({} -{})" d="{}" fill="var(--arm-{})"/></svg>'
    ).format(factor, factor, "".join(steps), slot % len(_MARKERS))


def inline_svg(figure: Figure, name: str, label: str, css_class: str = "") -> Markup:
    """The figure for an HTML page, reproducible byte by byte. `name` makes the ids unique on the page; `label`
    describes the figure to readers who can't see it."""
    from matplotlib import rc_context

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}
    file = io.StringIO()
    with rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # DejaVu lacks a glyph; the browser's fonts draw the text
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    used = set(re.findall(r"#([\w.-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        _plain_attributes(element, name, used)
    view = root.attrib["viewBox"]
    root.attrib = {
        "viewBox": view, "width": view.split()[2], "height": view.split()[3], "class": f"plot {css_class}".strip(),
        "role": "img", "aria-label": label, "stroke-linejoin": "round",
    }  # fmt: skip
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _plain_attributes(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Replaces `style` (the content policy forbids it), removes namespaces (HTML has none) and makes ids unique."""
    element.tag = element.tag.removeprefix(_SVG)
    if element.text and not element.text.strip():
        element.text = None
    if element.tail and not element.tail.strip():
        element.tail = None
    plain: dict[str, str] = {}
    for key, value in element.attrib.items():
        if key == "style":
            pairs = (part.split(":", 1) for part in value.split(";") if ":" in part)
            plain |= {k.strip(): _VARIABLES.get(v.strip(), v.strip()) for k, v in pairs}
        elif key != "id" or value in used:
            plain[key.removeprefix(_XLINK)] = value
    plain.pop("font-family", None)
    if element.tag == "text" and element.text:  # the room in the layout, see figures.js
        size, bold = float(plain["font-size"].removesuffix("px")), plain.get("font-weight") in ("bold", "700")
        plain["data-width"] = f"{text_width(element.text, size, bold) + 0.5:.1f}"
    for key, value in plain.items():
        if key == "id":
            plain[key] = f"{name}-{value}"
        elif key == "href" or value.startswith("url("):
            plain[key] = value.replace("#", f"#{name}-", 1)
    element.attrib.clear()
    element.attrib.update(plain)
