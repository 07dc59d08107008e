"""The ray backend on a real local cluster of two nodes: replicas that are killed, nodes that are lost, resume."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support import telling
from support.tiny import tiny_model

from selfdistill.backends import BACKENDS, check_backend, open_backend
from selfdistill.backends.cache import EngineCache
from selfdistill.backends.ray.pool import Pool, Work
from selfdistill.errors import ModelError, RecipeError
from selfdistill.recipe import ModelConfig, RayConfig, Sampling, make_recipe
from selfdistill.types import Completion, Message, Prompt

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

GREEDY = Sampling(max_new_tokens=12)
DRAWN = Sampling(temperature=0.95, top_p=0.7, top_k=50, max_new_tokens=12)
PROMPTS = [Prompt(f"{i:016x}", (Message("user", "wör {x} " * (i * 7 % 11) + str(i)),)) for i in range(60)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with room for one replica each; what a replica needs to know of `telling` is told to its process."""
    from ray.cluster_utils import Cluster

    changed = pytest.MonkeyPatch()
    changed.setenv("RAY_USAGE_STATS_ENABLED", "0")
    changed.setenv("PYTHONPATH", str(Path(__file__).parent))
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=1)
    telling.register()
    ray.init(
        address=started.address,
        log_to_driver=False,
        logging_level="CRITICAL",
        runtime_env={"worker_process_setup_hook": telling.register},
    )
    yield started
    ray.shutdown()
    started.shutdown()
    del BACKENDS["telling"]
    changed.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def on_replicas(backend: str, path: Path | str = "demo", replicas: int = 2, **changes: Any) -> ModelConfig:
    config = RayConfig(backend=backend, replicas=replicas, gpus=0)
    return ModelConfig(path=str(path), dtype="float32", device="cpu", batch_tokens=600, ray=config, **changes)


def asked(*contents: str) -> list[Prompt]:
    return [Prompt(f"{i:016x}", (Message("user", content),)) for i, content in enumerate(contents)]


def by_id(completions: list[Completion]) -> dict[str, Completion]:
    assert len({completion.id for completion in completions}) == len(completions)
    return {completion.id: completion for completion in completions}


def answers(
    name: str,
    model: ModelConfig,
    prompts: list[Prompt],
    sampling: Sampling,
    done: Any = (),
    adapter: str | None = None,
    cache: EngineCache | None = None,
) -> dict[str, Completion]:
    with open_backend(name, model, adapter, cache) as backend:
        return by_id(list(backend.generate(prompts, sampling, done)))


def workers() -> set[int]:
    """The processes of this test's replicas."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "".join(child.cmdline()).startswith("ray::Replica"):
                found.add(child.pid)
    return found


def all_up() -> set[int]:
    """Both replicas, of which the second may start a while after the first has answered."""
    return _wait_for(2)


def all_gone() -> bool:
    """Whether the replicas are, at most a moment after they were told to end."""
    return not _wait_for(0)


def _wait_for(count: int) -> set[int]:
    deadline = time.monotonic() + 30
    while len(found := workers()) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def make_adapter(model: Path, folder: Path) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules="all-linear"))
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.3)
    adapted.save_pretrained(str(folder))
    return str(folder)


def test_answers_are_those_of_hf_with_adapter_resumed_and_when_a_replica_is_killed(
    cluster: Any, folder: Path, tmp_path: Path
) -> None:
    model, adapter = on_replicas("hf", folder), make_adapter(folder, tmp_path / "adapter")
    long = Prompt("f" * 16, (Message("user", "word " * 600),))
    prompts = [*PROMPTS[:30], long, *PROMPTS[30:]]
    own = {adapted: answers("hf", model, prompts, DRAWN, adapter=adapted) for adapted in (None, adapter)}
    assert own[None] != own[adapter]
    assert own[None][long.id].finish == "error"
    with EngineCache([(model, None), (model, adapter)]) as cache:
        for adapted in (None, adapter):
            assert answers("ray", model, prompts, DRAWN, adapter=adapted, cache=cache) == own[adapted]
        done = {prompt.id for prompt in prompts[::3]}
        resumed = answers("ray", model, prompts, DRAWN, done, cache=cache)
        assert resumed == {name: answer for name, answer in own[None].items() if name not in done}
        with open_backend("ray", model, cache=cache) as backend:
            stream = backend.generate(prompts, DRAWN)
            first = next(stream)
            before = all_up()
            os.kill(min(before), signal.SIGKILL)
            assert by_id([first, *stream]) == own[None]
        assert len(before) == 2
    assert all_gone()


def test_both_nodes_answer_and_prompts_are_read_only_so_far_ahead(cluster: Any) -> None:
    read = 0

    def many() -> Iterator[Prompt]:
        nonlocal read
        for read in range(1, 100_001):
            yield Prompt(f"{read:016x}", PROMPTS[0].messages)

    with open_backend("ray", on_replicas("telling")) as backend:
        stream = backend.generate(many(), GREEDY)
        pids, answered = set[str](), 0
        while len(pids) < 2:
            pids.add(next(stream).text)
            answered += 1
        assert read < answered + 10 * 64
        stream.close()  # type: ignore[attr-defined]
        assert all_gone()
        again = list(backend.generate(PROMPTS, GREEDY))
    assert len(again) == len(PROMPTS)


def test_replicas_stay_up_where_runs_share_them(cluster: Any) -> None:
    model = on_replicas("telling")
    with EngineCache([(model, None), (model, "/")]) as cache:
        seed = answers("ray", model, PROMPTS, GREEDY, cache=cache)
        up = all_up()
        adapted = answers("ray", model, PROMPTS, GREEDY, adapter="/", cache=cache)
        assert up == workers()
        silent = answers("ray", model, asked("say nothing"), GREEDY, cache=cache)
    assert {int(answer.text.split()[0]) for answer in (*seed.values(), *adapted.values())} <= up
    assert {answer.text.split()[1] for answer in adapted.values()} == {"/"}
    assert [answer.error for answer in silent.values()] == ["the backend gave no answer"]
    assert all_gone()


def test_a_prompt_that_kills_is_an_error_and_the_others_are_answered(cluster: Any) -> None:
    prompts = asked(*["fine"] * 100, "die", *["fine"] * 100)
    found = answers("ray", on_replicas("telling", replicas=1), prompts, GREEDY)
    assert found.keys() == {prompt.id for prompt in prompts}
    failed = [answer for answer in found.values() if answer.finish == "error"]
    assert [answer.id for answer in failed] == [prompts[100].id]
    assert failed[0].transient
    assert failed[0].error == "3 replicas died over it (its process or node died, as when memory runs out)"


def test_what_leaves_a_replica_without_a_word_is_told(cluster: Any) -> None:
    prompts = asked("fine", "leave", "fine")
    failed = [a for a in answers("ray", on_replicas("telling"), prompts, GREEDY).values() if a.finish == "error"]
    assert [(answer.id, answer.error) for answer in failed] == [
        (prompts[1].id, "3 replicas died over it (SystemExit('of a model'))")
    ]


def test_a_name_of_a_chat_template_is_no_path(
    cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chat").write_text("a file that has nothing to do with it")
    monkeypatch.chdir(tmp_path)
    own = answers("hf", on_replicas("hf", folder), PROMPTS[:4], GREEDY)
    assert answers("ray", on_replicas("hf", folder), PROMPTS[:4], GREEDY) == own


def test_one_command_is_on_one_cluster(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdistill.backends.ray.pool._joined", RayConfig())
    judge = on_replicas("fake")
    elsewhere = judge.model_copy(update={"ray": judge.ray.model_copy(update={"address": "127.0.0.1:9"})})
    with pytest.raises(ModelError, match=r"on a Ray of its own, and another model names the cluster at 127"):
        answers("ray", elsewhere, PROMPTS, GREEDY)
    assert len(answers("ray", judge, PROMPTS, GREEDY)) == len(PROMPTS)


def test_a_batch_that_kills_fails_whole_and_others_are_answered(cluster: Any) -> None:
    batches = [asked(*["fine"] * 4), asked(*["fine"] * 2, "fail"), asked(*["fine"] * 4)]
    named = [[Prompt(f"{n}{prompt.id[1:]}", prompt.messages) for prompt in batch] for n, batch in enumerate(batches)]
    pool = Pool(on_replicas("telling").ray)
    try:
        pool.load(on_replicas("telling"), None)
        done = frozenset({named[2][0].id})
        works = [Work(tuple(batch), GREEDY, done & {prompt.id for prompt in batch}) for batch in named]
        found = by_id(list(pool.answer(iter(works))))
    finally:
        pool.stop()
    assert found.keys() == {prompt.id for batch in named for prompt in batch} - done
    errors = {name: answer.error for name, answer in found.items() if answer.finish == "error"}
    # What was answered before the batch failed is kept.
    assert errors == {named[1][2].id: "3 replicas died over it (the GPU fell off the bus)"}


def test_a_replica_that_always_dies_is_told(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdistill.backends.ray.pool._DEATHS", 2)
    with pytest.raises(ModelError, match=r"given up, having died 2 times in a row .*The answers that came are kept"):
        answers("ray", on_replicas("telling", replicas=1), asked(*["die"] * 64), GREEDY)


def test_a_node_that_is_lost_costs_no_answer(cluster: Any) -> None:
    node = cluster.add_node(num_cpus=1, resources={"here": 1})
    prompts = asked(*["fine"] * 3000)
    with open_backend("ray", on_replicas("telling", replicas=3)) as backend:
        stream = backend.generate(prompts, GREEDY)
        found = list(islice(stream, 600))
        cluster.remove_node(node, allow_graceful=False)
        found += stream
    assert by_id(found).keys() == {prompt.id for prompt in prompts}
    assert {answer.finish for answer in found} == {"stop"}


def test_what_does_not_fit_the_cluster_is_a_sentence(cluster: Any, tmp_path: Path) -> None:
    model = on_replicas("fake")
    greedy = model.model_copy(update={"ray": RayConfig(backend="fake", gpus=2)})
    with pytest.raises(ModelError, match=r"No node that is up .* has the 2 GPUs and 1 CPUs of a replica; set model"):
        answers("ray", greedy, PROMPTS, GREEDY)
    missing = r"There is no model folder .*\(This was on the node .*; every node needs models and adapters at the same"
    with pytest.raises(ModelError, match=missing):
        answers("ray", on_replicas("hf", "/no/such/model"), PROMPTS, GREEDY)
    with pytest.raises(ModelError, match=missing):
        answers("ray", on_replicas("telling", "no such model"), PROMPTS, GREEDY)


def write_data(path: Path, count: int = 300) -> Path:
    rows = [{"instruction": f"What is {n} and {n}?", "output": f"It is {2 * n}, as said {n}."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def overrides(data: Path, backend: str) -> list[str]:
    return [f"data.path={data}", "rewrite.grader=none", f"rewrite.backend={backend}", "gap=false", "model.ray.gpus=0",
            "model.ray.backend=fake", "model.ray.replicas=2", "rewrite.min_accepted=0"]  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {path: demo, device: cpu}\narms: {seed: {data: none}}\nevaluate: {tasks: []}\n")
    return path


def test_the_command_makes_the_same_files_and_goes_on_with_the_backend_itself(
    cluster: Any, recipe: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    data = write_data(tmp_path / "data.jsonl")
    for backend in ("fake", "ray"):
        done = command("rewrite", recipe, *overrides(data, backend), "--dir", tmp_path / backend)
        assert done.code == 0, done.said
    files = [(tmp_path / backend / "rewrite") for backend in ("fake", "ray")]
    assert (files[0] / "rewrites.jsonl").read_bytes() == (files[1] / "rewrites.jsonl").read_bytes()
    lines = [sorted((file / "completions.jsonl").read_bytes().splitlines()) for file in files]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 300
    # An answer is that of the backend on the replicas, so another number of them, or none, is the same experiment.
    again = command("rewrite", recipe, *overrides(data, "fake"), "--dir", tmp_path / "ray")
    assert again.code == 0, again.said
    other = command("rewrite", recipe, *overrides(data, "hf"), "--dir", tmp_path / "ray")
    assert other.code == 2
    assert "backend (fake → hf)" in other.said


def test_check_tells_what_is_missing(
    recipe: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data.jsonl")
    fine = command("check", "--no-probe", recipe, *overrides(data, "ray"))
    assert fine.code == 0, fine.said
    assert "backend ray (2 × fake)" in fine.said
    greedy = command("check", "--no-probe", recipe, *overrides(data, "ray"), "model.ray.gpus=64")
    assert "model.ray asks for 128 GPUs, and there are" in greedy.said
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'selfdistill[ray]'" in command("check", "--no-probe", recipe, *overrides(data, "ray")).said
    with (
        pytest.raises(ModelError, match=r"pip install 'selfdistill\[ray\]'"),
        open_backend("ray", on_replicas("fake")),
    ):
        pass


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        recipe = {"model": {"path": "demo", "ray": {"address": address}}, "task": "demo-maths", "data": {"n": 20}}
        (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "rewrite": {"backend": "ray"}}))
        words = ["rewrite", str(tmp_path / "recipe.yaml"), "--dir", str(tmp_path / "run")]
        # In a process of its own, which isn't connected to another. Ray itself would try for a quarter of an hour.
        done = subprocess.run([sys.executable, "-m", "selfdistill", *words], stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 2
    assert f"{address} can't be joined" in done.stderr.decode()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ray": {"backend": "ray"}}, "not ray"),
        ({"ray": {"backend": "openai"}}, "a server takes many requests at once"),
        ({"ray": {"backend": "none"}}, "There is no backend 'none'"),
        ({"ray": {"gpus": 1.5}}, "whole number"),
        ({"ray": {"address": "ray://head:10001"}}, "on a machine of the cluster"),
        ({"ray": {"backend": "vllm"}, "engine": {"tensor_parallel": 2}}, "set ray.gpus"),
    ],
)
def test_settings_that_dont_go_together_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        check_backend("ray", make_recipe({"model": {"path": "demo", **settings}, "data": {"path": "x"}}).model)


def test_a_ray_of_our_own_ends_with_the_command_when_it_is_interrupted(recipe: Path, tmp_path: Path) -> None:
    data, folder = write_data(tmp_path / "data.jsonl", 30_000), tmp_path / "run"
    words = ["rewrite", recipe, *overrides(data, "ray"), "--dir", folder]
    run = subprocess.Popen(
        [sys.executable, "-m", "selfdistill", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True,
    )  # fmt: skip
    file = folder / "rewrite" / "completions.jsonl"
    while run.poll() is None and not (file.is_file() and file.stat().st_size):
        time.sleep(0.02)
    assert run.poll() is None, run.communicate()[0]
    started = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert f"Stopped. Finished work is kept in {folder}. To continue: " in said
    chatter = [line for line in said.lower().splitlines() if "to continue: " not in line]
    assert "ray" not in "".join(chatter).replace("rays", ""), said
    assert len(started) > 3
    assert psutil.wait_procs(started, timeout=20)[1] == []
    assert 0 < len(file.read_bytes().splitlines()) < 30_000
