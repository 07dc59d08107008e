"""Every figure of the report: as inline SVG with its data for the page, and as files for papers."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from ...store.rows import write_text
from ..svg import PAGE, inline_svg, light_palette
from .canvas import Canvas, Drawing
from .forgetting_figure import forgetting
from .loss_figure import loss
from .material import Material
from .rewrite_figures import acceptance, gap
from .score_figure import verdict
from .shift_figures import layers, similarity
from .sweep_figure import sweeps

_WIDE, _NARROW, _PAPER = 940.0, 350.0, 640.0  # CSS pixels
_UNDATED = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}


class Figure(NamedTuple):
    """A figure by the `name` of its files and its `section` of the page. The function returns None if the experiment
    lacks the data."""

    name: str
    section: str
    title: str
    function: Callable[[Material], Drawing | None]


FIGURES = (
    Figure("verdict", "scores", "Scores against the seed", verdict),
    Figure("sweeps", "sweeps", "Along each swept setting", sweeps),
    Figure("acceptance", "rewrites", "Accepted, or why not", acceptance),
    Figure("gap", "rewrites", "The gap before training", gap),
    Figure("forgetting", "shift", "Forgetting against shift", forgetting),
    Figure("similarity", "shift", "Similarity of the answers to the seed's", similarity),
    Figure("layers", "shift", "Change of the parameters, layer by layer", layers),
    Figure("loss", "training", "Loss", loss),
)


class Shown(NamedTuple):
    """A figure on the page; `data` is a data: URI of the CSV. `folded` says why it is shown only on request."""

    name: str
    section: str
    title: str
    svg: Markup
    caption: str
    data: str
    folded: str


def drawings(material: Material) -> list[tuple[Figure, Drawing]]:
    """The figures for which the experiment has data."""
    return [(figure, drawing) for figure in FIGURES if (drawing := figure.function(material))]


def page_figures(material: Material) -> list[Shown]:
    """Each figure as inline SVG, in one layout for wide screens and one for narrow screens."""
    return [shown_figure(figure.name, figure.section, figure.title, drawing) for figure, drawing in drawings(material)]


def shown_figure(name: str, section: str, title: str, drawing: Drawing) -> Shown:
    """A figure as inline SVG with its data."""
    wide, narrow = (
        inline_svg(drawing.draw(Canvas(width, PAGE)), f"{name}-{css_class}", drawing.label, css_class)
        for width, css_class in ((_WIDE, "wide"), (_NARROW, "narrow"))
    )
    data = "data:text/csv;charset=utf-8," + quote(as_csv(drawing.header, drawing.rows), errors="replace")
    return Shown(name, section, title, wide + narrow, drawing.caption, data, drawing.folded)


def save_figures(material: Material, folder: Path) -> list[Path]:
    """Writes NAME.png, NAME.pdf and NAME.csv of each figure to `folder`, reproducible byte by byte, and returns the
    paths. Raises OSError if a file can't be written."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for figure, drawing in drawings(material):
        picture = drawing.draw(Canvas(_PAPER, light_palette()))
        # Type 42 fonts keep text as text in a PDF. A `$` in a name does not start a formula.
        with rc_context({"pdf.fonttype": 42, "text.parse_math": False}), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # DejaVu lacks a glyph
            for kind, undated in _UNDATED.items():
                paths.append(folder / f"{figure.name}.{kind}")
                picture.savefig(paths[-1], facecolor="white", dpi=216, metadata=undated)
        paths.append(folder / f"{figure.name}.csv")
        write_text(paths[-1], as_csv(drawing.header, drawing.rows))
    return paths


def as_csv(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """CSV with a header line. Text that a spreadsheet would read as a formula is prefixed with '
    (https://owasp.org/www-community/attacks/CSV_Injection)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@") and value.strip() else value
