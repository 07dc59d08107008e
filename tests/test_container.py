"""The Dockerfile without a container: its steps build the wheel and install it in a bare environment, whose command
then works. Steps that need a root user are left out; the packages that are needed are linked, not installed again."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
NEED_ROOT = ("apt-get ", "useradd ")


def instructions(word: str) -> list[str]:
    return re.findall(rf"^{word} (.+)$", DOCKERFILE, flags=re.MULTILINE)


def link_packages(folder: Path) -> None:
    """Everything that is installed here, but not this package."""
    folder.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if path.suffix == ".pth" and path.name[0] != "_":
            for line in path.read_text(encoding="utf-8").splitlines():
                _link_all(Path(line), folder)
    _link_all(Path(sysconfig.get_paths()["purelib"]), folder)


def _link_all(source: Path, folder: Path) -> None:
    ours = ("selfdistill", "_selfdistill", "__editable__", "_editable", "pip", "__pycache__")
    for path in source.iterdir() if source.is_dir() and source.name == "site-packages" else ():
        if not path.name.startswith(ours) and path.suffix != ".pth" and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the image's commands after all steps."""
    pytest.importorskip("hatch_fancy_pypi_readme")
    root = tmp_path_factory.mktemp("image")
    link_packages(root / "packages")
    shutil.copytree(ROOT, root / "source", ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "dist", "build"))
    arguments = {**dict(line.split("=", 1) for line in instructions("ARG")), "TORCH": ""}
    environment = {**os.environ, **{name: text.strip('"') for name, text in arguments.items()}}
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for step in instructions("RUN"):
        if step.startswith(NEED_ROOT):
            continue
        words = re.sub(r"(?<![\w.])/(build|source|dist|opt)\b", lambda found: f"{root}/{found[1]}", step)
        words = re.sub(r"^python ", f"{sys.executable} ", words)
        done = subprocess.run(["sh", "-c", words], env=environment, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
        if made := re.search(r"-m venv (\S+)", words):
            (site,) = Path(made[1]).glob("lib/python*/site-packages")
            for old in site.glob("setuptools*"):  # before Python 3.12 an environment begins with an old one
                shutil.rmtree(old)
            (site / "packages.pth").write_text(f"{root / 'packages'}\n")
        if "pip wheel" in step:
            shutil.copy(ROOT / "constraints.txt", root / "dist")
    return root / "opt/selfdistill/bin"


def call(folder: Path, where: Path, *words: str) -> str:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=environment, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_steps_install_the_wheel_and_its_command_works(installed: Path, tmp_path: Path) -> None:
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    (first,) = map(json.loads, instructions("CMD"))
    assert "reproduce" in call(installed, tmp_path, *entry, *first)
    assert "humaneval" in call(installed, tmp_path, *entry, "list")
    where = call(installed, tmp_path, "python", "-c", "import selfdistill; print(selfdistill.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent)
    recipe = {
        "model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 20}, "gap": False,
        "rewrite": {"backend": "fake", "min_accepted": 0}, "arms": {"seed": {"data": "none"}},
        "evaluate": {"backend": "fake", "tasks": [{"task": "demo-lists", "n": 10}]},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    value = json.loads(call(installed, tmp_path, *entry, "run", "r.yaml", "--json"))
    assert value["verdict"]["tasks"][0]["n"] == 10
    assert (tmp_path / "runs/r/report.html").is_file()


def test_the_steps_that_are_not_run_here_and_the_user() -> None:
    left_out = [step.split()[0] for step in instructions("RUN") if step.startswith(NEED_ROOT)]
    assert left_out == ["apt-get", "useradd"]
    assert not re.search(r"\\$", DOCKERFILE, flags=re.MULTILINE), "one step per line, as this test reads them"
    assert DOCKERFILE.index("USER user") > max(found.start() for found in re.finditer("^RUN", DOCKERFILE, re.MULTILINE))


def test_the_readme_of_an_index_has_no_link_that_leads_nowhere(installed: Path) -> None:
    (metadata,) = installed.parent.glob("lib/python*/site-packages/selfdistill-*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    assert "Description-Content-Type: text/markdown" in text
    assert "Project-URL: Paper, https://arxiv.org/abs/2402.13669" in text
    readme = text.partition("\n\n")[2]
    assert readme.startswith("# selfdistill")
    assert [link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith("https:")] == []
    assert len(readme) > 3000
    assert "![" not in readme
