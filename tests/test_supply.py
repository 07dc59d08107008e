"""What is shipped and what it stands on: wheel and sdist, the lock, licences, no assert that carries behaviour."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tools import make_licences

ROOT = Path(__file__).parents[1]


def build(where: Path, when: int) -> dict[str, Path]:
    """The wheel and the sdist of a copy of the sources, whose files are as old as `when` says."""
    source = where / "source"
    for name in ("src", "tests/data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "requirements.lock"):
        shutil.copy(ROOT / name, source / name)
    (source / "src/selfdistill/grading/__pycache__").mkdir()
    (source / "src/selfdistill/grading/__pycache__/numbers.cpython-311.pyc").write_bytes(b"stray")
    (source / "runs").mkdir()
    (source / "runs/secret.jsonl").write_text("{}")
    (source / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    for path in source.rglob("*"):
        os.utime(path, (when, when))
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(where / "dist")]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    return {path.suffix: path for path in (where / "dist").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    pytest.importorskip("hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme")
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("another")
    return build(folders[0], 1_000_000_000), build(folders[1], 1_600_000_000)


def test_whoever_builds_a_commit_makes_the_same_files(built: tuple[dict[str, Path], dict[str, Path]]) -> None:
    one, other = built
    assert set(one) == {".whl", ".gz"}
    for kind, path in one.items():
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other[kind].read_bytes()).digest(), kind


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[dict[str, Path], dict[str, Path]]) -> None:
    path = built[0][".whl"]
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    source = ROOT / "src"
    files = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {name for name in names if ".dist-info/" not in name} == files
    kinds = {Path(name).suffix for name in files}
    assert kinds <= {".py", ".typed", ".yaml", ".json", ".jsonl", ".jinja", ".safetensors", ".css", ".js"}, kinds
    assert {"selfdistill/demo/seed/model.safetensors", "selfdistill/demo/recipe.yaml"} <= set(names)
    assert path.stat().st_size < 5 << 20  # two seed models of about 2 MB each


def test_the_sdist_holds_no_stray_files(built: tuple[dict[str, Path], dict[str, Path]]) -> None:
    with tarfile.open(built[0][".gz"]) as sdist:
        names = [member.name.partition("/")[2] for member in sdist.getmembers()]
        assert all(member.isfile() for member in sdist.getmembers())
    tops = {name.partition("/")[0] for name in names}
    assert tops <= {"src", "tests", "pyproject.toml", "README.md", "LICENSE", "constraints.txt", "requirements.lock",
                    "PKG-INFO", ".gitignore"}  # fmt: skip
    assert not any(name.endswith(".pyc") for name in names)


def test_the_wheel_installs_and_its_command_starts(
    built: tuple[dict[str, Path], dict[str, Path]], tmp_path: Path
) -> None:
    where = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(where)]
    subprocess.run([*pip, str(built[0][".whl"])], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(where)}
    code = (
        "import selfdistill\nfrom selfdistill.recipe import ModelConfig\n"
        "from selfdistill.models.loading import check_model_files\n"
        "check_model_files(ModelConfig(path='demo')); print(selfdistill.__file__)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(where)
    command = [sys.executable, str(where / "bin/selfdistill"), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "reproduce" in done.stdout


def locked() -> dict[str, tuple[str, int]]:
    """Of each package of the lock its version, and how many digests it has."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert len(entries) == sum(1 for line in text.splitlines() if re.match(r"[A-Za-z]", line)), "a line without digests"
    return {canonicalize_name(name): (pin, digests.count("sha256:")) for name, pin, digests in entries}


def test_the_lock_holds_every_dependency_at_the_version_that_is_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    tested = {canonicalize_name(name): pin for name, pin in pins.items()}
    found = locked()
    assert all(count > 0 for _, count in found.values())
    differing = {name for name, (pin, _) in found.items() if name in tested and tested[name] != pin}
    assert not differing, "run `make lock`"
    groups = make_licences.groups()
    needed = {*groups["Always"], *groups["Extra `shift`"]}
    assert needed <= set(found), "run `make lock`"
    assert "http" not in (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("httpx", "").replace(
        "httpcore", ""
    )


def test_every_package_of_a_development_install_is_pinned() -> None:
    """Without a pin of every package pip tries versions for a long time, and CI tests other ones from day to day."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {"dev", *make_licences.EXTRAS}
    wanted = [line for name in installed for line in project["optional-dependencies"][name]]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line and not line.startswith("#")}
    found = make_licences.needed([*project["dependencies"], *wanted], set())
    assert found.keys() - pinned - {"selfdistill"} == set()


def test_every_licence_is_known_and_goes_with_ours() -> None:
    for heading, packages in make_licences.groups().items():
        weak = make_licences.WEAK if "knowledge" in heading else set()
        for name, its in packages.items():
            expression = make_licences.licence(its)
            assert expression, f"{name} names no licence"
            assert make_licences.trouble(expression) <= weak, f"{name}: {expression}"


@pytest.mark.parametrize(
    ("expression", "trouble"),
    [
        ("MIT", set()),
        ("GPL-3.0-only", {"GPL-3.0-only"}),
        ("MIT AND GPL-2.0-only", {"GPL-2.0-only"}),
        ("GPL-2.0-only OR Apache-2.0", set()),
        ("Proprietary", {"Proprietary"}),
    ],
)
def test_a_licence_that_is_not_known_is_seen(expression: str, trouble: set[str]) -> None:
    assert make_licences.trouble(expression) == trouble


def test_the_page_of_licences_is_up_to_date() -> None:
    if version("transformers") not in (ROOT / "constraints.txt").read_text(encoding="utf-8"):
        pytest.skip("other versions than the tested ones are installed")
    assert make_licences.PAGE.read_text(encoding="utf-8") == make_licences.page(), "run `make licences`"


def test_all_data_that_is_shipped_has_its_licence_on_the_page() -> None:
    page = make_licences.PAGE.read_text(encoding="utf-8")
    data = [*ROOT.glob("src/selfdistill/**/*.jsonl"), *ROOT.glob("src/selfdistill/**/*.safetensors")]
    data += [*ROOT.glob("src/selfdistill/**/*.yaml"), *ROOT.glob("tests/data/*")]
    listed = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    for path in data:
        assert any(str(path.relative_to(ROOT)).startswith(name) for name in listed), path


def test_no_assert_carries_behaviour() -> None:
    """Python started with -O leaves asserts out, so those in the package only tell the type checker what is so."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                said = ast.unparse(node.test)
                assert re.fullmatch(r"[\w.]+ is not None|isinstance\([\w.]+, [\w.| ]+\)", said), (
                    f"{path}:{node.lineno}: raise an error where {said} may be false"
                )
