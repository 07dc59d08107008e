"""Text templates with slots such as {instruction}."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{(\w+)\}")


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Replace each `{name}` by its text in `slots`, in one pass. Braces in these texts and other braces are kept."""
    return _SLOT.sub(lambda match: slots.get(match[1], match[0]), template)
