"""Templates of the workbench. Everything is escaped, and control characters are shown."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader
from starlette.responses import HTMLResponse

from .. import reports
from ..reports.text import count, shorten, visible
from ..types.wording import counted
from .access import POLICY

PAGES = {
    "data": ("/", "Model and data"),
    "recipe": ("/recipe", "Recipe"),
    "run": ("/run", "Run"),
    "rewrites": ("/rewrites", "Rewrites"),
    "chat": ("/chat", "Chat"),
    "report": ("/report", "Report"),
}


@cache
def _environment() -> Environment:
    folder = files(__package__) / "templates"
    loader = FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    environment.filters |= {"visible": visible, "shorten": shorten, "counted": counted, "count": count, "about": about}
    return environment


def respond(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The template as a response with the workbench's content policy."""
    text = _environment().get_template(template).render(pages=PAGES, **values)
    return HTMLResponse(text.encode("utf-8", "replace"), status, {"content-security-policy": POLICY})


@cache
def style() -> str:
    """The style sheet: the report's colours and texts, and the workbench's forms and tables."""
    base = files(reports) / "templates" / "base.css"
    own = files(__package__) / "static" / "workbench.css"
    return base.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


@cache
def script(name: str) -> str:
    return (files(__package__) / "static" / name).read_text(encoding="utf-8")


def about(seconds: float) -> str:
    """A time left, as precise as it is known: 40 s, 3 min, 1 h 10 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
