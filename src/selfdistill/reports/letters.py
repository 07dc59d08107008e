"""Measures the text of a figure, and shortens or wraps it to fit its place.

Widths are those of DejaVu Sans, which comes with matplotlib and is wider than most text fonts. If the page's font is
wider still, the page condenses the text to the width that is measured here (`fitFigures` in figures.js).
"""

from __future__ import annotations

import unicodedata
import warnings
from functools import lru_cache


@lru_cache(maxsize=10_000)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of one line of text in the unit of `size`, its font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    # DejaVu lacks East Asian characters. They are as wide as the font is high.
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    others = "".join(sign for sign in text if unicodedata.east_asian_width(sign) not in "WF")
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a missing glyph is measured as a box
        width, _, _ = TextToPath().get_text_width_height_descent(others, font, ismath=False)
    return float(width) + wide * size


def fit(text: str, room: float, size: float, bold: bool = False) -> str:
    """`text` in one line, shortened with an ellipsis if it is wider than `room`."""
    line = " ".join(text.split())
    if text_width(line, size, bold) <= room:
        return line
    low, high = 0, len(line)  # bisection: names may be thousands of letters long
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(line[:middle] + "…", size, bold) <= room else (low, middle - 1)
    return line[:low].rstrip() + "…"


def wrap(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """The lines of `text`, broken at spaces so that each line fits `room`; longer words are shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold) <= room:
            lines[-1] = longer
        else:
            lines.append(fit(word, room, size, bold))
    return lines
