"""Text templates with slots such as {instruction}."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{(\w+)\}")


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Puts `slots` in for `{name}` in one pass: what is filled in is never read again, and other braces stay."""
    return _SLOT.sub(lambda match: slots.get(match[1], match[0]), template)
