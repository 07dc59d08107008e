"""Fixtures, the list of fast tests, and the environment of all tests: few threads, no network."""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.command import Done
from support.demo import STRONGEST_SETTINGS, seed_with
from support.server import KEY, Server

from selfdistill.backends import openai
from selfdistill.cli import main
from selfdistill.errors import SelfDistillError
from selfdistill.sandbox import check_sandbox
from selfdistill.store import shared

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The modules that `make check` runs: a few seconds each, and no model is loaded.
FAST = {
    "test_alpacaeval", "test_backends_fake", "test_check_data", "test_config", "test_data_columns", "test_data_files",
    "test_data_formats", "test_data_leaks", "test_grading_choices", "test_init", "test_judge", "test_progress",
    "test_prompts", "test_rows", "test_schema", "test_sentences", "test_shape", "test_stats", "test_tasks",
    "test_training_tasks", "test_baseline_arms",
}  # fmt: skip

_SIBLINGS = shared.siblings
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")

# No deadline: CI machines are slow.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_configure() -> None:
    if gone := [name for name in FAST if not Path(__file__).with_name(f"{name}.py").exists()]:
        raise pytest.UsageError(f"tests/conftest.py lists fast modules that do not exist: {', '.join(gone)}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast` the other modules are not imported: some of them import torch."""
    other = collection_path.name.startswith("test_") and collection_path.stem not in FAST
    return True if other and config.getoption("markexpr") == "fast" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in FAST and "real_data" not in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(autouse=True, scope="session")
def _alone() -> Iterator[None]:
    """Each directory of a test does its own work, although a neighbour with equal settings would lend its answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "siblings", lambda _directory: iter(()))
        yield


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories take over answers from each other, as they do for users."""
    monkeypatch.setattr(shared, "siblings", _SIBLINGS)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real public data; tests that need it are skipped without it."""
    folder = os.environ.get("SELFDISTILL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SELFDISTILL_DATA names no folder")
    return Path(folder)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command in this process (a fresh one takes seconds to import torch): its exit code and what it printed."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["selfdistill", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openai, "_FIRST_WAIT", 0.001)
    monkeypatch.setenv("TEST_KEY", KEY)
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.released.set()
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture(scope="session")
def strong_seed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seed_with(STRONGEST_SETTINGS, tmp_path_factory.mktemp("strong") / "seed")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up experiment with every figure, and its report. Tests do not change it."""
    from support.report_experiment import write_analysis

    from selfdistill.reports import write_report

    return write_report(write_analysis(tmp_path_factory.mktemp("whole"))).parent


@pytest.fixture(scope="session")
def bubblewrap() -> str:
    """The name of the sandbox. Tests that need it are skipped if it cannot run here."""
    try:
        check_sandbox("bubblewrap")
    except SelfDistillError as error:
        pytest.skip(f"no sandbox here: {error}")
    return "bubblewrap"


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running browser. A font family as the fixture's parameter replaces the fonts of the machine."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome here")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    environment: dict[str, str | float | bool] = {**os.environ}
    if font := getattr(request, "param", None):
        environment["FONTCONFIG_FILE"] = str(fonts_file(font, tmp_path_factory.mktemp("fonts")))
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, env=environment)
        yield running
        running.close()


def fonts_file(family: str, folder: Path) -> Path:
    """A fontconfig file with one family of the fonts in matplotlib."""
    import matplotlib

    for path in Path(matplotlib.get_data_path(), "fonts", "ttf").glob(f"{family.replace(' ', '')}*.ttf"):
        (folder / path.name).symlink_to(path)
    config = folder / "fonts.conf"
    config.write_text(f"<fontconfig><dir>{folder}</dir><cachedir>{folder / 'cache'}</cachedir></fontconfig>")
    return config


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens pages. Fails at the end if a page reported an error, ran foreign code or loaded something."""
    pages: list[Any] = []
    trouble: list[str] = []

    def open_page(path: Path, width: int = 1280, scheme: str = "light", fragment: str = "") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.on(
            "request", lambda request: None if request.url.startswith(path.as_uri()) else trouble.append(request.url)
        )
        page.goto(path.as_uri() + fragment)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.__xss") is None
        page.close()
    assert trouble == []
