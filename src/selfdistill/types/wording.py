"""How counts, signs and shares are written in sentences and tables: one function each, for all packages."""

from __future__ import annotations

_MINUS = "\u2212"


def counted(n: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 row", "2 rows", "1,200 rows". `plural` is for nouns that do not end in s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def minus(written: str) -> str:
    """A number that is written already, with the minus sign U+2212."""
    return written.replace("-", _MINUS)


def signed(value: float, digits: int) -> str:
    """With its sign: +6.0, −31.0. A value that rounds to zero has none: 0.0."""
    text = f"{value:+.{digits}f}"
    return minus(text) if float(text) else text[1:]


def per_cent(share: float, digits: int = 1) -> str:
    """A share with the sign and a space before it: 90.8 %, with 0 digits 91 %."""
    return f"{minus(f'{100 * share:.{digits}f}')} %"
