"""The shape of the package: imports point down, heavy ones are late, help is up to date, only the command prints."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools import make_cli

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfdistill"

# Rooms from top to bottom. A module imports from its own room and from those below it.
ROOMS = [
    {"cli", "__main__", "__init__"},
    {"pipeline"},
    {"reports"},
    {"training", "harness"},
    {"measure"},
    {"generation"},
    {"tasks", "backends"},
    {"data"},
    {"grading"},
    {"store"},
    {"models"},
    {"demo", "recipe", "sandbox"},
    {"types", "errors"},
]  # fmt: skip
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "matplotlib",
    "scipy",
    "bitsandbytes",
    "lm_eval",
    "vllm",
    "ray",
    "math_verify",
    "sympy",
}
FILES = sorted(SOURCE.rglob("*.py"))


def room(module: str) -> int:
    top = module.split(".")[0]
    return next(level for level, names in enumerate(ROOMS) if top in names)


def imports(path: Path, top_level_only: bool = False) -> list[str]:
    """What a file imports, with relative names resolved; what is under TYPE_CHECKING is left out."""
    package = [*path.relative_to(SOURCE).with_suffix("").parts][:-1]
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            inside = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"selfdistill.{inside or alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = room(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    for name in imports(path):
        if name.startswith("selfdistill.") and name != "selfdistill.__version__":
            assert room(name.removeprefix("selfdistill.")) >= own, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.parent != SOURCE / "cli" and p.name != "__main__.py"],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_only_the_command_prints_and_exits(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "sys.exit", "exit", "quit"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom selfdistill.cli import app\n"
        f"sys.argv = ['selfdistill', *{arguments!r}]\n"
        "try:\n    app()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not loaded & (HEAVY | {"numpy"})


def test_docs_show_the_commands_own_help() -> None:
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.page(), "run `make docs`"


def test_every_public_name_is_what_it_says_whatever_was_imported_before() -> None:
    code = (
        "import selfdistill.pipeline.gap, selfdistill.training.sequences, selfdistill.cli, selfdistill.pipeline.check\n"
        "import selfdistill.data.export, selfdistill\n"
        "for name in selfdistill.__all__:\n"
        "    value = getattr(selfdistill, name)\n"
        "    assert callable(value) and value.__name__ == name, (name, value)\n"
        "from selfdistill import pipeline, rewrite\n"
        "assert rewrite is pipeline.rewrite"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
