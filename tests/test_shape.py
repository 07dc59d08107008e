"""The shape of the package: directions of imports, sizes, names, words, and the few rules about who may print."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from selfdistill.backends import BACKENDS
from tools import make_cli

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selfdistill"

# Layers from top to bottom. A module imports from its own layer and from those below it.
LAYERS = [
    {"cli", "__main__", "__init__"}, {"ui"}, {"pipeline"}, {"reports"}, {"training", "harness"}, {"measure"},
    {"generation"}, {"tasks", "backends"}, {"data"}, {"grading"}, {"store"}, {"models"}, {"demo", "recipe", "sandbox"},
    {"types", "errors"},
]  # fmt: skip
HEAVY = {
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "matplotlib", "scipy", "bitsandbytes", "lm_eval",
    "vllm", "ray", "math_verify", "sympy",
}  # fmt: skip
# Recipe sections and pipeline steps may share these names with each other and with one package.
STEPS = {"data", "rewrite", "gap", "train", "evaluate", "shift", "check"}
FORBIDDEN = ("anew", "mend", "mends", "mended", "for want of", "gone on with", "what is made of")
TEXTS = sorted(path for path in SOURCE.rglob("*") if path.suffix in {".py", ".js", ".css", ".jinja"})
DATA = sorted(path for path in SOURCE.rglob("*") if path.suffix in {".yaml", ".md", ".txt"})


def module_name(path: Path) -> str:
    """The dotted name below the package; a package's `__init__` has the package's name, the root's is `__init__`."""
    parts = [*path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in TEXTS if path.suffix == ".py"}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(module: str, late: bool = True) -> Iterator[str]:
    """What a module imports, TYPE_CHECKING imports included: other libraries by their name, our modules without
    `selfdistill.`. Without `late` only the top level of the file counts."""
    package = ["selfdistill", *MODULES[module].relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(TREES[module]) if late else TREES[module].body:
        if isinstance(node, ast.Import):
            origin, names = "", [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inside = name.removeprefix("selfdistill.")
            if inside == name:
                yield name
            elif inside in MODULES:
                yield inside
            elif inside != "__version__":
                yield origin.removeprefix("selfdistill").removeprefix(".") or "__init__"


def show(found: Iterable[object]) -> str:
    return "\n".join(["", *map(str, found)])


def layer(module: str) -> int:
    return next(level for level, names in enumerate(LAYERS) if module.split(".")[0] in names)


def test_imports_point_down() -> None:
    up = [(m, name) for m in MODULES for name in imports(m) if name in MODULES and layer(name) < layer(m)]
    assert not up, show(up)


def test_the_figure_of_the_architecture_names_every_package() -> None:
    figure = SOURCE.parents[1].joinpath("docs", "architecture.svg").read_text(encoding="utf-8")
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    missing = [name for name in sorted(packages) if not re.search(rf">(.*\W)?{name}(\W.*)?<", figure)]
    assert not missing, show(missing)


def test_no_modules_import_each_other_in_a_circle() -> None:
    reached = {module: set(imports(module)) & set(MODULES) - {module} for module in MODULES}
    changed = True
    while changed:
        changed = False
        for found in reached.values():
            before = len(found)
            found |= set().union(*(reached[name] for name in found))
            changed |= len(found) > before
    circles = {tuple(sorted(o for o in found if m in reached[o])) for m, found in reached.items() if m in found}
    assert not circles, show(circles)


def test_heavy_libraries_are_imported_late() -> None:
    early = [(m, name) for m in MODULES for name in imports(m, late=False) if name.split(".")[0] in HEAVY]
    assert not early, show(early)


def test_the_package_root_holds_at_most_19_names() -> None:
    names = {module.split(".")[0] for module in MODULES} - {"__init__", "__main__"}
    assert len(names) <= 19, names


def test_no_source_file_is_longer_than_350_lines() -> None:
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in TEXTS}
    long = [(name, lines) for name, lines in lengths.items() if lines > 350]
    assert not long, show(long)


def test_every_function_is_shorter_than_60_lines() -> None:
    functions = [
        (f"{module}.{node.name}", node.end_lineno - node.lineno + 1)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    long = [(name, lines) for name, lines in functions if lines >= 60]
    assert not long, show(long)


def test_no_two_modules_have_the_same_name() -> None:
    places = defaultdict(list)
    for module, path in MODULES.items():
        parent, _, name = module.rpartition(".")
        if not (name in STEPS and (parent in ("recipe", "pipeline") or path.name == "__init__.py")):
            places[name].append(module)
    shared = [modules for modules in places.values() if len(modules) > 1]
    assert not shared, show(shared)


def test_no_two_classes_have_the_same_name() -> None:
    places = defaultdict(list)
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    shared = [(name, *modules) for name, modules in places.items() if len(modules) > 1]
    assert not shared, show(shared)


def test_forbidden_words_do_not_occur() -> None:
    words = "|".join(FORBIDDEN).replace(" ", r"\s+")
    pattern = re.compile(rf"\b({words})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*TEXTS, *DATA, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, show(found)


def test_only_the_command_prints_and_exits() -> None:
    calls = [
        (module, ast.unparse(node.func))
        for module, tree in TREES.items()
        if module.split(".")[0] not in ("cli", "__main__") and module != "demo.train_seed"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]
    printing = [call for call in calls if call[1] in {"print", "sys.exit", "exit", "quit"}]
    assert not printing, show(printing)


def test_no_test_module_imports_another() -> None:
    found = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for folder in ("tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if any(part == "conftest" or part.startswith("test_") for part in name.split("."))
    ]
    assert not found, show(found)


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


def test_the_steps_are_imported_without_heavy_libraries() -> None:
    """A class that is made late, such as one of a heavy base class, must not be made by an import either."""
    code = "import sys\nimport selfdistill.pipeline.check\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*done.stdout.split()} & HEAVY


def test_docs_show_the_commands_own_help() -> None:
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.page(), "run `make docs`"


def test_public_names_do_not_depend_on_earlier_imports() -> None:
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


def test_no_backend_is_compared_by_name_outside_of_backends() -> None:
    found = []
    for name, tree in TREES.items():
        for node in ast.walk(tree) if not name.startswith("backends") else ():
            if isinstance(node, ast.Compare | ast.MatchValue):
                named = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)} & BACKENDS.keys()
                found += [f"{name}:{node.lineno} compares {named}"] if named else []
    assert found == [], "ask for a capability of the backend's class"
