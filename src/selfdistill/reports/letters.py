"""How wide a figure's text is, and how it is shortened or wrapped to fit its place.

Widths are those of DejaVu Sans, which comes with matplotlib and is about the widest of the usual text fonts. The page's
own font may still be wider; the page then condenses the text to the width that is measured here (`fitFigures` in
figures.js).
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

    # DejaVu lacks the signs of East Asian scripts, which are as wide as the font is high.
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    others = "".join(sign for sign in text if unicodedata.east_asian_width(sign) not in "WF")
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that DejaVu lacks counts as its box
        width, _, _ = TextToPath().get_text_width_height_descent(others, font, ismath=False)
    return float(width) + wide * size


def fit(text: str, room: float, size: float, bold: bool = False) -> str:
    """`text` in one line, shortened with an ellipsis to `room`."""
    line = " ".join(text.split())
    if text_width(line, size, bold) <= room:
        return line
    low, high = 0, len(line)  # the longest beginning that fits, by bisection: names may be thousands of letters long
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(line[:middle] + "…", size, bold) <= room else (low, middle - 1)
    return line[:low].rstrip() + "…"


def wrap(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """The lines of `text`, broken at spaces so that each fits `room`; a word that is too long is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold) <= room:
            lines[-1] = longer
        else:
            lines.append(fit(word, room, size, bold))
    return lines
