"""A hub that can't be reached is asked once, and nothing waits for it again."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants
from support.command import Done

from selfdistill.models import hub


def silent_hub(monkeypatch: pytest.MonkeyPatch) -> tuple[list[bytes], socket.socket]:
    """A hub that takes connections and never answers: what was asked of it, and its socket."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []
    kept: list[socket.socket] = []

    def listen() -> None:
        try:
            while True:
                kept.append(listening.accept()[0])
                asked.append(kept[-1].recv(1000))
        except OSError:
            pass

    threading.Thread(target=listen, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(hub, "_answers", {})
    monkeypatch.setattr(hub, "_TIMEOUT", 0.3)
    return asked, listening


def test_an_unreachable_hub_is_asked_once_and_what_it_hides_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = {"model": "org/model", "data": {"path": "org/rows"}, "evaluate": {"tasks": ["gsm8k", "advbench"]}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    asked, listening = silent_hub(monkeypatch)
    with listening:
        done = command("check", tmp_path / "r.yaml")
        started = command("run", tmp_path / "r.yaml", "--dir", tmp_path / "run")
    assert (done.code, len(asked)) == (2, 1)
    last = "4 things could not be verified, as the hub can't be reached; check the network and run this again."
    assert done.out.splitlines()[-1] == last
    assert "Next:" not in done.out
    assert caplog.text.count("can't be reached (no answer in 0.3 s), so only what was downloaded before is used.") == 1
    assert "Retrying" not in caplog.text + done.err
    assert (started.code, len(asked)) == (2, 1)
    assert "The hub dataset org/rows can't be loaded" in started.said


def test_a_hub_that_answers_again_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, listening = silent_hub(monkeypatch)
    with listening:
        hub.ask_hub()
        assert constants.HF_HUB_OFFLINE
        monkeypatch.setattr(hub, "_AGAIN", 0.0)
        monkeypatch.setattr(hub, "_problem", lambda _endpoint: None)
        hub.ask_hub()
        assert not constants.HF_HUB_OFFLINE
        assert not datasets.config.HF_HUB_OFFLINE
