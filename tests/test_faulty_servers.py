"""The openai backend against a server whose every right answer is known, through a proxy that hurts what goes by."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.proxy import FAULTS, Proxy, Server, ask, right_answer
from support.tiny import tiny_tokenizer

from selfdistill import Experiment, make_recipe, rewrite
from selfdistill.backends import open_backend, openai
from selfdistill.errors import ModelError
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.store.rows import read_lines
from selfdistill.types import Message, Prompt

ROWS = 60
CANARY = "sk-canary-5e0a94"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("CANARY_KEY", CANARY)
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def timeout(*faults: str) -> float:
    """Short where it is waited for; a busy machine is late with good answers too."""
    return 2 if {"hang", "slow drip"} & {*faults} else 30


@pytest.mark.parametrize("fault", FAULTS)
def test_one_request_in_ten_goes_wrong_and_every_row_is_right(server: Server, fault: str) -> None:
    with Proxy(server.port, [fault], 0.1) as proxy:
        assert ask(proxy.url, ROWS, timeout(fault)) == (0, 0)
    assert proxy.met[fault] >= 3
    assert len(proxy.requests) <= 1.5 * ROWS


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_all_kinds_of_faults_together_leave_every_row_right(server: Server, share: float) -> None:
    with Proxy(server.port, [*FAULTS], share) as proxy:
        assert ask(proxy.url, ROWS, 2, retries=30) == (0, 0)
    assert proxy.met.total() >= ROWS * share / 2
    assert share > 0.1 or len(proxy.requests) <= 1.5 * ROWS


def test_faults_of_the_completions_api_leave_every_row_right(server: Server, tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    prompts = [Prompt(f"{n:016x}", (Message("user", f"Say {n}"),)) for n in range(ROWS)]
    with Proxy(server.port, ["reset", "cut body", "sent twice"], 0.1) as proxy:
        model = ModelConfig(path=str(tmp_path), server={"url": proxy.url, "api": "completions"})
        with open_backend("openai", model) as backend:
            found = {answer.id: answer.text for answer in backend.generate(prompts, Sampling())}
    text = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert found == {p.id: right_answer(text.format(p.messages[0].content)) for p in prompts}
    assert proxy.met.total() >= 3


def test_the_key_is_in_no_answer_and_no_log(server: Server, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    said_back = ["429", "500, 502, 503", "invalid JSON"]
    for retries, faults in ((6, [*FAULTS]), (0, said_back)):
        with Proxy(server.port, faults, 0.25) as proxy:
            recipe = recipe_of(tmp_path, proxy.url, timeout=1, retries=retries)
            rewrite(Experiment(tmp_path / f"run-{retries}", recipe))
    assert {*proxy.met} == {*said_back}
    assert any("not now, Bearer ***" in text for text in errors(tmp_path / "run-0"))
    assert caplog.records
    assert CANARY not in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def kill(server: Server) -> None:
    server.stop()


def freeze(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)


def thaw(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(("hurt", "mend"), [(kill, Server.start), (freeze, thaw)], ids=["dies", "hangs"])
def test_a_server_that_goes_in_the_middle_ends_the_run_which_then_goes_on(
    tmp_path: Path, hurt: Callable[[Server], None], mend: Callable[[Server], None], concurrency: int
) -> None:
    server = Server()
    with Proxy(server.port, [], 0) as proxy:
        impatient = recipe_of(tmp_path, proxy.url, timeout=0.5, retries=1, concurrency=concurrency)
        at_the_end: list[int] = []

        def end(answers: int) -> None:
            if answers == 20:
                at_the_end.append(len(proxy.requests))
                hurt(server)

        proxy.after = end
        with pytest.raises(ModelError, match=r"The server at .* does not answer \(.*check that") as caught:
            rewrite(Experiment(tmp_path / "run", impatient))
        assert CANARY not in str(caught.value)
        kept = list(read_lines(tmp_path / "run/rewrite/completions.jsonl"))
        assert 20 <= len(kept) < 20 + concurrency
        # Two tries for each of those in flight, and one for each of ten more.
        assert len(proxy.requests) - at_the_end[0] <= 2 * (concurrency + 1) + 10 + concurrency
        proxy.after = lambda answers: None
        mend(server)
        before = len(proxy.requests)
        assert rewrite(Experiment(tmp_path / "run", recipe_of(tmp_path, proxy.url)))["rows"] == ROWS
    rows = list(read_lines(tmp_path / "run/rewrite/completions.jsonl"))
    assert len({row["id"] for row in rows}) == len(rows) == ROWS
    assert {row["finish"] for row in rows} == {"stop"}
    assert len(proxy.requests) - before == ROWS - len(kept)
    assert not {*proxy.requests[before:]} & {*proxy.requests[: 21 - concurrency]}, "what is kept is not asked again"
    server.stop()


def test_a_server_that_was_never_there_is_an_error_with_the_number_of_tries(tmp_path: Path) -> None:
    server = Server()
    server.stop()
    recipe = recipe_of(tmp_path, f"http://127.0.0.1:{server.port}/v1", retries=2)
    with pytest.raises(ModelError, match=r"does not answer \(.*, after 3 tries\)"):
        rewrite(Experiment(tmp_path / "run", recipe))
    server.start()
    assert rewrite(Experiment(tmp_path / "run", recipe))["rows"] == ROWS
    server.stop()


def recipe_of(folder: Path, url: str, **settings: Any) -> Any:
    (folder / "rows.jsonl").write_text(
        "".join(f'{{"question": "What is {n} plus {n}?", "answer": "#### {2 * n}"}}\n' for n in range(ROWS))
    )
    return make_recipe(
        {
            "model": {"path": "demo", "server": {"url": url, "key_env": "CANARY_KEY", **settings}},
            "data": {"path": str(folder / "rows.jsonl")},
            "rewrite": {"backend": "openai", "grader": "none", "min_accepted": 0},
            "evaluate": {"tasks": []},
            "gap": False,
        }
    )


def errors(run: Path) -> list[str]:
    return [row["error"] for row in read_lines(run / "rewrite/completions.jsonl") if row["error"]]
