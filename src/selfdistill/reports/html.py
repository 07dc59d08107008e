"""Renders a template as one HTML file that opens from disk, loads nothing, and runs only its own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from ..types.wording import counted, per_cent
from .loss_sentences import nat_bounds, nats
from .text import bounds, count, duration, figure, p_value, percent, point_bounds, points, shorten, visible

# `</script` and `<!--` would end a script element; line separators end a line in old JavaScript.
_JSON_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def render(template: str, styles: Sequence[str], scripts: Sequence[str] = (), data: Any = None, **context: Any) -> str:
    """The page with its style sheets and scripts inline; the content policy allows them by their hashes. The script
    reads `data` from the page as JSON. Everything else is escaped."""
    folder = files(__package__) / "templates"
    style, code = ("".join((folder / name).read_text(encoding="utf-8") for name in part) for part in (styles, scripts))
    policy = f"default-src 'none'; style-src '{_digest(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    return render_part(
        template,
        policy=f"{policy}; script-src '{_digest(code)}'" if code else policy,
        style=Markup(style),
        script=Markup(code),
        data=Markup(embed_json(data)),
        **context,
    )


def render_part(template: str, **context: Any) -> str:
    """A template alone, without style sheets and scripts, as a part of another page. Everything is escaped."""
    from jinja2 import Environment, FunctionLoader

    folder = files(__package__) / "templates"
    loader = FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    numbers = (nats, nat_bounds, percent, per_cent, bounds, points, point_bounds, figure, p_value, count, duration)
    filters = (*numbers, counted, shorten, visible)
    environment.filters |= {function.__name__: function for function in filters}
    text: str = environment.get_template(template).render(**context)
    return text


def embed_json(value: Any) -> str:
    """`value` as JSON that is safe inside a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_JSON_ESCAPES)


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
