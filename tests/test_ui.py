"""The workbench: who may use it, what it refuses, what it shows of a run, and a way from a data file to a verdict."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import tiny_model

pytest.importorskip("fastapi", reason="the extra ui is not installed")
from fastapi.testclient import TestClient

from selfdistill.cli import workbench
from selfdistill.store.experiment import Experiment
from selfdistill.store.marks import HandMark, read_marks
from selfdistill.ui import chat_worker, live
from selfdistill.ui.app import make_app
from selfdistill.ui.bench import Bench
from selfdistill.ui.chat import Asked
from selfdistill.ui.chat_worker import answers
from selfdistill.ui.curves import loss_svg

Command = Callable[..., Done]
TOKEN, PORT = "the-token", 4321
HOME = f"http://127.0.0.1:{PORT}"


def client(bench: Bench, token: str = TOKEN, **headers: str) -> TestClient:
    """A browser with the cookie for `token`, which sends what htmx sends."""
    found = TestClient(
        make_app(bench, TOKEN, PORT), base_url=HOME, headers={"origin": HOME, "hx-request": "true", **headers}
    )
    found.cookies.set(f"selfdistill-{PORT}", token, domain="127.0.0.1")
    return found


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, and an experiment with thirty rewrites of the fake backend."""
    from selfdistill import load_recipe, pipeline

    folder = tmp_path_factory.mktemp("bench")
    recipe = {
        "model": {"path": str(tiny_model(folder / "model")), "dtype": "float32"},
        "data": {"path": str(write_rows(folder / "rows.jsonl", sum_rows(30))), "heldout": 2},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
        "arms": {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}},
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
        "gap": False,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    pipeline.rewrite(Experiment(folder / "run", load_recipe(folder / "recipe.yaml")))
    return folder


@pytest.fixture
def bench(rewritten: Path, tmp_path: Path) -> Iterator[Bench]:
    for name in ("recipe.yaml", "run"):
        (shutil.copytree if name == "run" else shutil.copy)(rewritten / name, tmp_path / name)
    made = Bench(tmp_path / "recipe.yaml", tmp_path / "run")
    yield made
    made.close()
    if made.is_ours:
        made.stop()


# ---- access


def test_only_a_browser_with_the_token_is_answered(bench: Bench) -> None:
    for token in ("", "guess", TOKEN[:-1], TOKEN + "x", "töken"):
        stranger = TestClient(make_app(bench, TOKEN, PORT), base_url=HOME, follow_redirects=False)
        refused = [stranger.get("/", params={"token": token}), stranger.get("/run"), stranger.get("/static/htmx.js")]
        cookie = {"cookie": f"selfdistill-{PORT}={token}".encode(), "origin": HOME.encode()}
        refused += [stranger.get("/rewrites", headers=cookie), stranger.post("/run/start", headers=cookie)]
        assert {answer.status_code for answer in refused} == {403}
    guest = TestClient(make_app(bench, TOKEN, PORT), base_url=HOME, follow_redirects=False)
    answer = guest.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = guest.get("/run")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_another_host_and_another_page_are_refused(bench: Bench) -> None:
    assert client(bench, host=f"evil.example:{PORT}").get("/run").status_code == 403
    assert client(bench, host="127.0.0.1").get("/run").status_code == 403
    assert client(bench, host=f"localhost:{PORT}").get("/run").status_code == 200
    for origin in ("http://evil.example", "null", f"http://localhost:{PORT}"):
        assert client(bench, origin=origin).post("/run/start").status_code == 403
    without = client(bench)
    del without.headers["origin"]
    assert without.post("/run/start").status_code == 403
    assert not bench.is_running


def test_only_the_pages_of_the_report_are_served(bench: Bench) -> None:
    (bench.directory / "report.html").write_text("<p>report</p>", encoding="utf-8")
    page = client(bench)
    assert page.get("/report/report.html").text == "<p>report</p>"
    for name in (
        "answers.html",
        "recipe.yaml",
        "..%2Frecipe.yaml",
        "%2e%2e/recipe.yaml",
        "/etc/passwd",
        "report.html/x",
    ):
        assert page.get(f"/report/{name}").status_code == 404
    assert page.get("/static/workbench.css.js").status_code == 404


# ---- recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "holds no recipe"),
        ("model: demo\ntrain: {lr: fast}", "Line 2: `train.lr`"),
        ("model: demo\ntrain:\n  lrr: 1", "Line 3: unknown key `train.lrr` (did you mean `train.lr`?)"),
        ("model: [", "Line 1"),
        ("model: demo\ndata: rows.jsonl\nevaluate: {tasks: [nothing]}", "nothing"),
        ("", "holds no recipe"),
    ],
)
def test_nonsense_is_named_and_not_saved(bench: Bench, text: str, message: str) -> None:
    import html

    before, page = bench.recipe.read_bytes(), client(bench)
    state = re.findall(r'name="state" id="state" value="(\w+)"', page.get("/recipe").text)[0]
    assert message in html.unescape(page.post("/recipe/validate", data={"text": text}).text)
    refused = page.post("/recipe", data={"text": text, "state": state})
    assert refused.status_code == 409
    assert bench.recipe.read_bytes() == before


def test_two_browsers_do_not_overwrite_each_other(bench: Bench) -> None:
    one, other = client(bench), client(bench)
    state = re.findall(r'id="state" value="(\w+)"', one.get("/recipe").text)[0]
    text = bench.recipe.read_text(encoding="utf-8")
    first = one.post("/recipe", data={"text": f"# mine\r\n{text}", "state": state})
    assert first.status_code == 200
    assert bench.recipe.read_text(encoding="utf-8") == f"# mine\n{text}"
    second = other.post("/recipe", data={"text": f"# theirs\n{text}", "state": state})
    assert second.status_code == 409
    assert "was changed by someone else" in second.text
    assert bench.recipe.read_text(encoding="utf-8") == f"# mine\n{text}"
    newer = re.findall(r'id="state" value="(\w+)"', first.text)[0]
    assert one.post("/recipe", data={"text": text, "state": newer}).status_code == 200


# ---- run


def test_a_run_in_a_terminal_is_shown_and_no_second_one_starts(bench: Bench) -> None:
    page, experiment = client(bench), bench.experiment()
    assert "Not running." in page.get("/run").text
    with experiment.locked():  # as a command in a terminal does
        shown = page.get("/run").text
        assert "Running, started elsewhere." in shown
        assert 'hx-trigger="every 2s"' in shown
        assert f"kill -INT {os.getpid()}" in shown
        for job in ("run", "rewrite"):
            refused = page.post("/run/start", data={"job": job})
            assert refused.status_code == 409
            assert "Two can&#39;t work in one directory" in refused.text
        stopped = page.post("/run/stop")
        assert stopped.status_code == 409
        assert "stopped there, with Ctrl-C" in stopped.text
        assert "has read the marks" in page.get("/rewrites").text
    assert "every 2s" not in page.get("/run").text
    assert page.post("/run/start", data={"job": "nonsense"}).status_code == 409


@pytest.mark.parametrize(("seconds", "said"), [(0.2, ", less than a minute left."), (90.0, ", about 2 min left.")])
def test_the_time_left_of_a_run_is_never_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float, said: str
) -> None:
    monkeypatch.setattr(live, "expected_seconds", lambda *_: seconds)
    with bench.experiment().locked():
        assert said in client(bench).get("/run").text


def test_a_look_at_the_lock_does_not_stop_a_run(bench: Bench) -> None:
    from threading import Thread

    experiment, over = bench.experiment(), []
    looking = Thread(target=lambda: [bench.is_running for _ in iter(lambda: bool(over), True)])
    looking.start()
    try:
        for _ in range(200):
            with experiment.locked():
                pass
    finally:
        over.append(True)
        looking.join()


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_run_is_started_stopped_and_taken_up(bench: Bench) -> None:
    page = client(bench)
    assert "Running." in page.post("/run/start", data={"job": "run"}).text
    assert page.post("/run/start", data={"job": "run"}).status_code == 409
    wait_for(lambda: "train/sdft" in bench.manifest["stages"] or not bench.is_running)
    page.post("/run/stop")
    wait_for(lambda: not bench.is_running)
    shown = page.get("/run").text
    assert "Stopped. Finished work is kept in" in shown or "Finished." in shown
    page.post("/run/start", data={"job": "run"})
    wait_for(lambda: not bench.is_running)
    shown = page.get("/run").text
    assert "Finished." in shown
    assert "<polyline" in shown
    assert page.get("/report").text.count("/report/") == 3
    closed = page.get("/rewrites").text
    assert "sdft was trained with the rows as they are" in closed
    row = read_rows(bench.directory / "rewrite" / "rewrites.jsonl")[0]["id"]
    assert page.post("/rewrites/mark", data={"row": row, "choice": "original"}).status_code == 409
    assert read_marks(bench.directory) == {}


def test_a_run_that_fails_shows_its_last_words(bench: Bench) -> None:
    recipe = json.loads(bench.recipe.read_text(encoding="utf-8"))
    recipe["data"]["path"] = "gone.jsonl"
    bench.recipe.write_text(json.dumps(recipe), encoding="utf-8")
    page = client(bench)
    page.post("/run/start")
    wait_for(lambda: not bench.is_running)
    assert "Error:" in page.get("/run").text


# ---- rewrites


def test_rows_are_marked_and_the_marks_taken_back(bench: Bench) -> None:
    page = client(bench)
    rows = read_rows(bench.directory / "rewrite" / "rewrites.jsonl")
    kept = next(row for row in rows if row["source"] == "rewrite")["id"]
    cut = next(row for row in rows if row["completion"]["finish"] == "length")["id"]

    def mark(row: str, choice: str, text: str = "") -> Any:
        return page.post("/rewrites/mark", data={"row": row, "choice": choice, "text": text})

    assert "trains on the original" in mark(kept, "original").text
    assert "trains on the edit" in mark(kept, "edit", "It is\r\n#### 2").text
    assert read_marks(bench.directory) == {kept: HandMark("edit", "It is\n#### 2")}
    shown = page.get("/rewrites", params={"shown": "marked"}).text
    assert shown.count("<article") == 1
    assert "1 row by hand: 1 edit" in shown
    for row, choice, text, message in (
        (kept, "edit", " ", "The edit is empty"),
        (kept, "edit", "a <|im_end|> b", "chat marker in the text"),
        (cut, "good", "", "it was cut off"),
        ("0" * 16, "original", "", "There is no rewrite"),
        (kept, "worse", "", "load it again"),
    ):
        refused = mark(row, choice, text)
        assert refused.status_code == 409
        assert message in refused.text
    assert "trains on the rewrite" in mark(kept, "none").text
    assert read_marks(bench.directory) == {}


def test_pages_of_twenty_rows(bench: Bench) -> None:
    page, rows = client(bench), read_rows(bench.directory / "rewrite" / "rewrites.jsonl")
    pages = [page.get("/rewrites", params={"number": number}).text for number in (1, 2, 99)]
    assert [text.count("<article") for text in pages] == [20, len(rows) - 20, len(rows) - 20]
    rejected = page.get("/rewrites", params={"shown": "rejected"}).text
    assert rejected.count("<article") == sum(row["source"] == "original" for row in rows)


def test_rewrites_are_shown_as_they_arrive(rewritten: Path, tmp_path: Path, command: Command) -> None:
    assert command("preview", rewritten / "recipe.yaml", "--dir", tmp_path / "run", "-n", "5").code == 0
    bench = Bench(rewritten / "recipe.yaml", tmp_path / "run")
    page = client(bench)
    assert page.get("/rewrites").text.count("<article") == 5
    command("preview", rewritten / "recipe.yaml", "--dir", tmp_path / "run", "-n", "8")
    assert "Show 3 new rows" in page.get("/rewrites/state", params={"seen": 5}).text
    assert page.get("/rewrites").text.count("<article") == 8


def test_marks_go_on_in_a_new_directory(bench: Bench) -> None:
    page, old = client(bench), bench.directory
    row = read_rows(old / "rewrite" / "rewrites.jsonl")[0]["id"]
    page.post("/rewrites/mark", data={"row": row, "choice": "original"})
    assert page.post("/rewrites/move", data={"directory": str(old)}).status_code == 409
    moved = page.post("/rewrites/move", data={"directory": f"{old}-2"})
    assert moved.headers["hx-redirect"] == "/run"
    assert read_marks(Path(f"{old}-2")) == {row: HandMark("original")}
    assert "No rewrite has arrived yet" in page.get("/rewrites").text


# ---- data, chat, pieces


def test_a_look_shows_rows_and_prompts_and_writes_nothing(
    bench: Bench, rewritten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, before = client(bench), sorted(tmp_path.iterdir())
    shown = page.post("/data/look", data={"model": "demo", "data": str(rewritten / "rows.jsonl")}).text
    assert "question_answer" in shown
    assert "What is 3 plus 3?" in shown
    assert "Prompt: rewriting" in shown
    assert "⟦0 + 0 = 0." in shown
    assert sorted(tmp_path.iterdir()) == before
    for model, data in (("demo", "gone.jsonl"), ("nothing", "x"), ("", "")):
        values = {"model": model, "data": data}
        assert page.post("/data/look", data=values).status_code == 409
    kept = bench.recipe.read_bytes()
    values = {"model": "demo", "data": str(rewritten / "rows.jsonl")}
    assert page.post("/data/write", data=values).status_code == 409
    assert bench.recipe.read_bytes() == kept
    assert page.post("/data/write", data={**values, "overwrite": "yes"}).status_code == 200
    assert "model:\n  path: demo" in bench.recipe.read_text(encoding="utf-8")


def test_answers_stand_side_by_side(bench: Bench) -> None:
    question = {"prompt": "one\ntwo <b>", "system": "Be kind.", "runs": ["seed", "sdft"]}
    seed, sdft = answers(bench.directory, question)
    assert {"run": "seed"}.items() <= seed.items()
    assert "text" in seed or "error" in seed
    assert sdft["run"] == "sdft"
    page = client(bench)
    assert page.post("/chat", data={"prompt": "x", "run": "sdft"}).status_code == 409  # it is not trained yet
    assert page.post("/chat", data={"prompt": " ", "run": "seed"}).status_code == 409
    assert "waiting" in page.post("/chat", data={"prompt": "one\ntwo <b>", "run": "seed"}).text
    wait_for(lambda: bench.chat.asked and bench.chat.asked.is_answered)
    shown = page.get("/chat/answers").text
    assert "every 1s" not in shown
    assert "two &lt;b&gt;" in shown or "problem" in shown


def test_an_answer_is_shown_while_it_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_worker, "_BETWEEN", 0)
    saved = bench.directory / "recipe.yaml"
    recipe = yaml.safe_load(saved.read_text(encoding="utf-8"))
    recipe["evaluate"] |= {"backend": "hf", "sampling": {"preset": "greedy", "max_new_tokens": 12}}
    saved.write_text(json.dumps(recipe), encoding="utf-8")
    written: list[dict[str, Any]] = []
    (whole,) = answers(bench.directory, {"prompt": "one", "system": "", "runs": ["seed"]}, written.append)
    assert [each["tokens"] for each in written] == [*range(1, whole["tokens"] + 1)]
    assert all(each["writing"] and each["run"] == "seed" for each in written)
    assert "writing" not in whole
    bench.chat.asked = asked = Asked("one", "", ["seed", "sdft"])
    page = client(bench)
    assert re.search(r"no word yet, 0 s ….*waiting …", page.get("/chat/answers").text, re.DOTALL)
    asked.add({"run": "seed", "writing": True, "text": "It is <b", "tokens": 3})
    shown = page.get("/chat/answers").text
    assert "It is &lt;b" in shown
    assert "writing, 0 s …" in shown
    assert "every 1s" in shown
    for run in asked.runs:
        asked.add({"run": run, "text": "It is done.", "tokens": 5})
    assert "every 1s" not in page.get("/chat/answers").text


def test_pages_without_an_experiment(tmp_path: Path) -> None:
    page = client(Bench(tmp_path / "recipe.yaml", tmp_path / "run"))
    for path in ("/", "/recipe", "/run", "/rewrites", "/chat", "/report"):
        assert page.get(path).status_code == 200
    assert "There is no recipe yet" in page.post("/run/start").text
    assert page.get("/rewrites/state").status_code == 409


def test_loss_curves_start_at_zero_and_end_at_a_round_number() -> None:
    assert loss_svg({}, {}) == ""
    svg = str(loss_svg({"a<b": [(1, 2.3), (500, 0.4)], "one": [(3, 0.0)]}, {"a<b": 1}))
    assert "a&lt;b" in svg
    assert ">4<" in svg
    assert "step 500" in svg
    assert len(re.findall(r"[\d.]+,[\d.]+", str(loss_svg({"long": [(n, 1.0) for n in range(9999)]}, {})))) <= 200


def test_without_the_extra_one_sentence_says_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "find_spec", lambda _: None)
    done = command("ui", "--no-browser")
    assert done.code == 2
    assert "pip install 'selfdistill[ui]'" in done.said


# ---- a real browser


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a workbench that the command serves in a folder with a data file of word problems."""
    from random import Random

    from selfdistill.demo.styles import downstream
    from selfdistill.demo.world import draw

    rng = Random(3)
    items = [draw("maths_taught", rng) for _ in range(10)]
    made = [{"question": item.prompt, "answer": downstream(item.meaning)} for item in items]  # type: ignore[arg-type]
    write_rows(tmp_path / "my_data.jsonl", made)
    command = [sys.executable, "-m", "selfdistill", "ui", "--no-browser"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}\n", serving.stdout.readline())
        assert found
        yield found[0].strip()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 130


@pytest.mark.browser
@pytest.mark.parametrize("browser", [None], indirect=True)
def test_from_a_data_file_to_the_verdict(address: str, browser: Any, tmp_path: Path) -> None:
    page, trouble = browser.new_page(viewport={"width": 1280, "height": 800}), []
    page.set_default_timeout(300_000)
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith(address.partition("?")[0]) or trouble.append(request.url))
    page.goto(address)
    assert "token" not in page.url
    page.fill("[name=data]", "my_data.jsonl")
    page.click("button:text-is('Look')")
    page.wait_for_selector("h2:text-is('Plan')")
    page.click("button:has-text('Write recipe.yaml')")
    page.click("text=Go on to the recipe")
    text = page.input_value("textarea").partition("evaluate:")[0].replace("epochs: 2 ", "max_steps: 2 ")
    text = text.replace("  vanilla: {data: original}\n", "")
    text += "gap: false\nshift: {task: null}\nevaluate:\n  sampling: {preset: greedy, max_new_tokens: 24}\n"
    text += "  tasks: [heldout]\n"
    page.fill("textarea", text.replace("lr: ", "lrr: "))
    page.wait_for_selector("#valid .problem:has-text('did you mean `train.lr`')")
    page.fill("textarea", text)
    page.wait_for_selector("#valid .fine")
    page.click("button:text-is('Save')")
    page.click("text=Go on to the run")
    page.click("button:text-is('Only rewrite')")
    page.wait_for_selector("b:text-is('Not running.')")
    page.click("nav >> text=Rewrites")
    row = page.locator("article").first
    row.locator("summary").click()
    row.locator("textarea").fill("By hand.\n#### 7")
    row.locator("button:text-is('Use this edit')").click()
    row.locator("text=trains on the edit").wait_for()
    page.click("nav >> text=Run")
    page.click("button:text-is('Go on to the verdict')")
    page.wait_for_selector("b:text-is('Finished.')")
    assert page.locator(".curves polyline").count() == 1
    assert page.locator("[hx-trigger]").count() == 0  # the polling has ended
    page.click("nav >> text=Report")
    page.click("summary:text-is('Notes')")
    assert "1 row by hand: 1 edit." in page.inner_text("main")
    with page.expect_popup() as opened:
        page.click("text=Open the report")
    opened.value.wait_for_selector("h1")
    for width in (1280, 400):
        for name in ("Model and data", "Recipe", "Run", "Rewrites", "Chat", "Report"):
            page.set_viewport_size({"width": width, "height": 800})
            page.click(f"nav >> text={name}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert "By hand." in (tmp_path / "runs/recipe/arms/sdft/data.jsonl").read_text(encoding="utf-8")
    assert trouble == []
