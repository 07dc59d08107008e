"""Readers of report pages, verdicts and printed tables."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rich.console import Console


class Page(HTMLParser):
    """A page's elements, and its text without style sheets and scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.words: list[str] = []
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.raw[self._inside] if self._inside else self.words).append(data)

    def meta(self, name: str) -> str:
        found = [a["content"] for tag, a in self.tags if tag == "meta" and a.get("http-equiv") == name]
        assert len(found) == 1
        assert found[0]
        return found[0]


def verdict_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "verdict.json").read_text())
    return found


def headline(directory: Path) -> str:
    found = re.search(r"<h1>(.*?)</h1>", (directory / "report.html").read_text(), re.DOTALL)
    assert found
    return html.unescape(found[1])


def sha256(source: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"


def printed(table: object) -> str:
    file = io.StringIO()
    Console(file=file, width=80).print(table)
    return file.getvalue()


def scrolls_sideways(page: Any) -> bool:
    wider: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return wider


def count_becomes(page: Any, text: str) -> None:
    """Waits, since the page reacts after a pause. (The content policy forbids `wait_for_function`.)"""
    from playwright.sync_api import expect

    expect(page.locator("#count")).to_have_text(text)
