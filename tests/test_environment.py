"""The pipeline where little is as usual, and with people around who mean no good: keys, paths, templates, pickles."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rows import sum_rows, write_rows
from support.server import Server, refusal, reply
from support.tiny import CHATML, tiny_model, tiny_tokenizer

from selfdistill import Experiment, make_recipe
from selfdistill.errors import ModelError
from selfdistill.models.loading import load_model
from selfdistill.models.renderer import Renderer
from selfdistill.recipe import ModelConfig

ROOT = Path(__file__).parents[1]
ODD_NAME = "-a b'\"$(touch x)\n\u202eé😀"
"""What a folder may be called: a dash in front, quotes, a line break, a direction mark, an emoji."""
CANARY = "sk-canary-8c1f52d09e"
FAKE = {
    "model": {"path": "demo", "dtype": "float32"},
    "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
    "train": {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
    "arms": {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}},
    "evaluate": {"backend": "fake", "tasks": ["heldout"]},
}


def written(folder: Path, **changes: Any) -> Path:
    """A recipe and its rows in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", sum_rows(24))
    recipe = {**FAKE, "data": {"path": str(folder / "rows.jsonl"), "heldout": 8}, **changes}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return folder / "recipe.yaml"


def command(*arguments: str, prefix: list[str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [*(prefix or []), sys.executable, "-m", "selfdistill", *arguments]
    options = {"text": True, "encoding": "utf-8", "errors": "backslashreplace", **options}
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=280, **options)


def results(directory: Path) -> dict[str, bytes]:
    """What must not depend on where and how the command is run."""
    wanted = ["data/train.jsonl", "rewrite/rewrites.jsonl", "arms/*/evaluate/*/answers.jsonl",
              "arms/*/evaluate/*/score.json"]  # fmt: skip
    return {str(p.relative_to(directory)): p.read_bytes() for pattern in wanted for p in directory.glob(pattern)}


def bare_environment(folder: Path) -> dict[str, str]:
    """No home, no terminal, plain ASCII locale, odd time zone, nothing to write to but `folder`."""
    (folder / "tmp").mkdir()
    environment = {
        "PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp"), "TZ": "Asia/Kathmandu",
        "LC_ALL": "C", "LANG": "tr_TR.UTF-8",
        "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "20",
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return environment


def test_a_run_comes_to_the_same_in_the_oddest_environment(tmp_path: Path) -> None:
    usual, odd = tmp_path / "usual", tmp_path / ODD_NAME
    # Asserts are left out here, and not there: what -O compiles couldn't be kept on a file system that is read-only.
    without_asserts = {**os.environ, "PYTHONOPTIMIZE": "1"}
    plain = command("run", str(written(usual)), "--dir", str(usual / "out"), env=without_asserts)
    assert plain.returncode == 0, plain.stderr
    recipe = written(odd)
    prefix = []
    if bwrap := shutil.which("bwrap"):  # everything but the folder is read-only, site-packages too, and no network
        prefix = [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-net"]
        prefix += ["--bind", str(odd), str(odd), "--chdir", str(odd), "--die-with-parent", "--"]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode:
            prefix = []
    environment = bare_environment(odd)
    done = command("run", recipe.name, "--dir=-o", cwd=odd, env=environment, prefix=prefix)
    assert done.returncode == 0, done.stderr
    assert results(odd / "-o") == results(usual / "out")
    assert len(results(odd / "-o")) == 6
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in odd.iterdir()} <= {"-o", "recipe.yaml", "rows.jsonl", "tmp"}, "something ran"
    json.loads((odd / "-o/manifest.json").read_text(encoding="utf-8"))


def test_a_key_is_in_no_file_and_no_message(tmp_path: Path, server: Server) -> None:
    """A run against a server that refuses, ends oddly, and says the key back, to its end; and one that only fails."""
    listed: list[str] = []

    def script(body: dict[str, Any], number: int) -> Any:
        if number == 0:
            listed.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout)
        if number % 4 == 1:
            return 400, refusal(f"bad request by {CANARY}")
        return reply("#### 7", finish=f"error of {CANARY}\n\x1b[2J") if number % 4 == 2 else reply("#### 7")

    server.script = script
    model = {**FAKE["model"], "server": {"url": server.url, "key_env": "CANARY_KEY", "retries": 0}}
    rewrite = {**FAKE["rewrite"], "backend": "openai", "template": "using", "grader": "none"}
    recipe = written(tmp_path / "run", model=model, rewrite=rewrite, gap=False)
    environment = {**os.environ, "CANARY_KEY": CANARY}
    one = command("--debug", "run", str(recipe), "--dir", str(tmp_path / "first" / "one"), env=environment)
    assert one.returncode == 0, one.stderr
    server.script = lambda body, number: (500, refusal(f"no {CANARY}"))
    other = command("--debug", "run", str(recipe), "--dir", str(tmp_path / "second" / "other"), env=environment)
    assert other.returncode != 0
    for text in (one.stdout, one.stderr, other.stdout, other.stderr, *listed):
        assert CANARY not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {CANARY}"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


class Boom:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.write_text, (self.mark, "run")


@pytest.fixture
def boom(tmp_path: Path) -> Iterator[bytes]:
    yield pickle.dumps(Boom(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists(), "a pickle was read"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00001.bin"])
def test_pickled_weights_are_refused(tiny: Path, tmp_path: Path, boom: bytes, name: str) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(boom)
    with pytest.raises(ModelError, match="no safetensors weights"):
        load_model(ModelConfig(path=str(folder)))


def test_a_pickled_adapter_is_refused(tiny: Path, tmp_path: Path, boom: bytes) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.bin").write_bytes(boom)
    with pytest.raises(ModelError, match="holds no adapter_model"):
        load_model(ModelConfig(path=str(tiny), dtype="float32"), str(folder))


def test_a_models_own_code_is_not_run(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"}
    config["model_type"] = "unheard_of"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    with pytest.raises(ModelError):
        load_model(ModelConfig(path=str(folder), dtype="float32"))
    assert not (tmp_path / "mark").exists()


def test_the_manifest_names_what_was_trusted(tmp_path: Path) -> None:
    values = {"model": "demo", "data": "rows.jsonl"}
    more = {
        "model": {"path": "demo", "trust_remote_code": True},
        "rewrite": {"grader": "own.py:grade"},
        "sandbox": "none",
    }
    for changes in ({}, more, {}):
        Experiment(tmp_path / "x", make_recipe({**values, **changes})).begin()
    manifest = json.loads((tmp_path / "x/manifest.json").read_text())
    assert manifest["trusted"] == ["model.trust_remote_code: demo", "rewrite.grader: own.py:grade", "sandbox: none"]
    Experiment(tmp_path / "y", make_recipe(values)).begin()
    assert "trusted" not in json.loads((tmp_path / "y/manifest.json").read_text())


@pytest.mark.parametrize(
    "body",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "{% set _ = messages.append(1) %}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ messages[0].content / 0 }}",
        "{% if %}",
    ],
)
def test_a_template_that_reaches_for_more_is_refused(body: str) -> None:
    with pytest.raises(ModelError, match="can't be used, even for one message"):
        Renderer(tiny_tokenizer(CHATML + body))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold]x[/bold]"


def test_the_terminal_shows_what_rows_and_paths_hold(tmp_path: Path) -> None:
    """`check` shows rows, prompts and names; control codes and markup among them are shown, not obeyed."""
    recipe = written(tmp_path / "x")
    rows = [{"question": f"What is {n} plus 1? {ESCAPES}", "answer": f"{ESCAPES} #### {n + 1}"} for n in range(20)]
    write_rows(tmp_path / "x/rows.jsonl", rows)
    found = command("check", "--no-probe", str(recipe), env={**os.environ, "FORCE_COLOR": "1"})
    lost = command("check", "--no-probe", str(recipe), f"data.path=/nowhere{ESCAPES}")
    unknown = command("check", "--no-probe", str(recipe), f"{ESCAPES}=1")
    for done in (found, lost, unknown):
        shown = done.stdout + done.stderr
        assert not any(code in shown for code in ("\x07", "\x1b]", "\x1b[2J", "\x9b", "\u202e")), shown
        assert "Traceback" not in shown
    assert "[bold]x[/bold]" in found.stdout
    assert "\\u001b[2J" in found.stdout
    assert lost.returncode == unknown.returncode == 2


def test_no_path_in_a_row_is_followed(tmp_path: Path) -> None:
    """Rows that name files, and an `extra` that looks like settings: they come out as the texts that they are."""
    recipe = written(tmp_path / "x", gap=False)
    secret = tmp_path / "secret"
    secret.write_text("SECRET-7d1")
    (tmp_path / "x/link").symlink_to(secret)
    names = [str(secret), f"file://{secret}", "../secret", "link", f"@{secret}", f"{{{{ open('{secret}').read() }}}}"]
    rows = [
        {"question": f"{n}. What is {name}?", "answer": f"{name}\n#### 1", "path": name, "id": name, "template": name}
        for name in names
        for n in range(4)
    ]
    write_rows(tmp_path / "x/rows.jsonl", rows)
    done = command("rewrite", str(recipe), "--dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    assert not any(b"SECRET-7d1" in path.read_bytes() for path in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "secret", "x"]
