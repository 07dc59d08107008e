"""Shell completion: the script for each shell, and what it completes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfdistill.cli import COMMANDS


def complete(instruction: str, tmp_path: Path, **environment: str) -> str:
    code = "import sys; sys.argv = ['selfdistill']; from selfdistill.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "_SELFDISTILL_COMPLETE": instruction, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not list(tmp_path.iterdir()), "nothing is installed"
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script(shell: str, tmp_path: Path) -> None:
    script = complete(f"source_{shell}", tmp_path)
    assert "selfdistill" in script
    assert f"_SELFDISTILL_COMPLETE=complete_{shell}" in script


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    def words(line: str) -> set[str]:
        count = str(len(line.split(" ")) - 1)
        return set(complete("complete_bash", tmp_path, COMP_WORDS=line, COMP_CWORD=count).split())

    assert words("selfdistill re") == {name for name in COMMANDS if name.startswith("re")}
    assert words("selfdistill run --") == {"--dir", "--json", "--help"}
    assert "--probe" in words("selfdistill check recipe.yaml --p")
