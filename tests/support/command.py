"""The result of the `command` fixture."""

from __future__ import annotations

from typing import NamedTuple


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both outputs in one line."""
        return " ".join((self.out + self.err).split())
