"""docs/adding.md: each thing is added to a copy of the package by the steps on the page alone, and works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?:python|text) (\S+)(?: after=\"(.*?)\")?\n(.*?)```\n", re.DOTALL)
SECTIONS = {title: BLOCK.findall(text) for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)}


def inserted(text: str, after: str, block: str) -> str:
    """`text` with `block` after the one line that begins with `after`."""
    lines = text.splitlines(keepends=True)
    (place,) = [number for number, line in enumerate(lines) if line.startswith(after)]
    return "".join([*lines[: place + 1], block, *lines[place + 1 :]])


@pytest.mark.parametrize("title", [title for title, blocks in SECTIONS.items() if blocks])
def test_each_thing_is_added_by_the_documented_steps(title: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    for what, after, block in SECTIONS[title]:
        kind, _, name = what.partition("=")
        path = tmp_path / name
        if kind == "file":
            path.write_text(block, encoding="utf-8")
        elif kind == "into":
            path.write_text(inserted(path.read_text(encoding="utf-8"), after, block), encoding="utf-8")
    (code,) = [block for what, _, block in SECTIONS[title] if what == "try"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_all_seven_things() -> None:
    shown = {title for title, blocks in SECTIONS.items() if blocks}
    assert shown == {
        "A benchmark", "A grader", "A backend", "An arm kind", "A data format", "A shift metric", "A trainer",
    }  # fmt: skip
