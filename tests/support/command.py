"""What the `command` fixture returns."""

from __future__ import annotations

from typing import NamedTuple


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that was printed, with all white space as one blank."""
        return " ".join((self.out + self.err).split())
