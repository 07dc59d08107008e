"""The vllm backend: a real engine on the demo seed, on CPU, where vLLM is installed; see docs/engines.md."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import absl.logging  # noqa: F401  (its handler keeps stderr, and closes it where it has been replaced)
import pytest
from support.demo import demo_prompts, make_adapter

from selfdistill.backends import open_backend
from selfdistill.backends.cache import EngineCache
from selfdistill.errors import ModelError, StageError
from selfdistill.pipeline import run
from selfdistill.pipeline.check import check
from selfdistill.recipe import EngineConfig, ModelConfig, Recipe, Sampling, TaskEntry
from selfdistill.tasks import get_task
from selfdistill.types import Completion, Message, Prompt

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
slow_start = pytest.mark.timeout(600)

DEMO = ModelConfig(path="demo", dtype="float32", device="cpu")
GREEDY = Sampling(max_new_tokens=64)
DRAWN = Sampling(temperature=2.0, top_p=0.98, top_k=50, max_new_tokens=40)
ROWS = 32
# Two engines round differently where two tokens are as good as equally likely.
NEARLY_ALL = ROWS - 2


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return demo_prompts(ROWS)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of different ranks and targets, in folders of one name."""
    return [
        make_adapter(tmp_path_factory.mktemp("one") / "model", 4, "all-linear"),
        make_adapter(tmp_path_factory.mktemp("two") / "model", 12, ["q_proj", "v_proj"]),
    ]


@pytest.fixture(scope="module")
def shared(adapters: list[str]) -> Iterator[EngineCache]:
    """One engine for the tests below, as stages share one among runs."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    names = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    with EngineCache([(DEMO, None), *((DEMO, folder) for folder in adapters)]) as cache:
        yield cache
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def answers(
    backend: str,
    prompts: list[Prompt],
    sampling: Sampling,
    adapter: str | None = None,
    model: ModelConfig = DEMO,
    cache: EngineCache | None = None,
) -> dict[str, Completion]:
    with open_backend(backend, model, adapter, cache) as opened:
        found = list(opened.generate(prompts, sampling))
    assert len({completion.id for completion in found}) == len(found)
    return {completion.id: completion for completion in found}


def equal(some: dict[str, Completion], others: dict[str, Completion]) -> int:
    assert some.keys() == others.keys()
    return sum(some[name] == others[name] for name in some)


@slow_start
def test_greedy_answers_are_those_of_hf_with_and_without_adapters(
    shared: EngineCache, prompts: list[Prompt], adapters: list[str]
) -> None:
    own = {adapter: answers("hf", prompts, GREEDY, adapter) for adapter in (None, *adapters)}
    assert equal(own[None], own[adapters[0]]) < NEARLY_ALL > equal(own[None], own[adapters[1]])
    assert equal(own[adapters[0]], own[adapters[1]]) < NEARLY_ALL
    for adapter in (None, *adapters, adapters[0], None):
        assert equal(answers("vllm", prompts, GREEDY, adapter, cache=shared), own[adapter]) >= NEARLY_ALL, adapter
    assert {completion.finish for completion in own[None].values()} == {"stop", "length"}


@slow_start
def test_one_engine_serves_the_seed_and_all_adapters(shared: EngineCache, adapters: list[str]) -> None:
    engines = []
    for adapter in (None, *adapters):
        with open_backend("vllm", DEMO, adapter, cache=shared) as backend:
            engines.append(backend.loaded()[0])  # type: ignore[attr-defined]
    assert len(set(map(id, engines))) == 1


@slow_start
def test_sampled_answers_depend_on_seed_and_row_and_not_on_order(shared: EngineCache, prompts: list[Prompt]) -> None:
    drawn = answers("vllm", prompts, DRAWN, cache=shared)
    assert equal(drawn, answers("vllm", prompts[::-1], DRAWN, cache=shared)) >= NEARLY_ALL
    assert equal(drawn, answers("vllm", prompts, DRAWN.model_copy(update={"seed": 1}), cache=shared)) < ROWS * 3 // 4
    twins = [Prompt(str(number), prompts[0].messages) for number in range(96)]  # more at once than one step takes in
    assert len({completion.text for completion in answers("vllm", twins, DRAWN, cache=shared).values()}) > 10
    refused = answers("vllm", prompts[:2], DRAWN.model_copy(update={"temperature": 50.0}), cache=shared)
    assert all("temperature" in (completion.error or "") for completion in refused.values())


@slow_start
def test_the_engine_is_given_the_renderers_tokens(
    shared: EngineCache, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*prompts, Prompt("prefill", (*prompts[0].messages, Message("assistant", "The answer <s>")))]
    with open_backend("vllm", DEMO, cache=shared) as backend:
        engine, _, renderer = backend.loaded()  # type: ignore[attr-defined]
        given: list[list[int]] = []
        add = engine.llm.llm_engine.engine_core.add_request
        monkeypatch.setattr(
            engine.llm.llm_engine.engine_core, "add_request", lambda r: (given.append(r.prompt_token_ids), add(r))
        )
        list(backend.generate(asked, GREEDY))
    assert given == [renderer.ids(prompt.messages) for prompt in asked]


@slow_start
def test_answers_come_one_by_one_and_what_nobody_waits_for_is_dropped(
    shared: EngineCache, prompts: list[Prompt]
) -> None:
    with open_backend("vllm", DEMO, cache=shared) as backend:
        whole = {completion.id: completion for completion in backend.generate(prompts, GREEDY)}
        stream = backend.generate(prompts, GREEDY)
        first = next(stream)
        assert first.id in whole
        stream.close()  # type: ignore[attr-defined]
        done = {prompt.id for prompt in prompts[:20]}
        rest = list(backend.generate(prompts, GREEDY, done))
        assert {completion.id for completion in rest} == whole.keys() - done


@slow_start
def test_prompts_are_read_only_so_far_ahead_of_the_answers(shared: EngineCache, prompts: list[Prompt]) -> None:
    read = 0

    def many() -> Iterator[Prompt]:
        nonlocal read
        for read in range(1, 100_001):
            yield Prompt(str(read), prompts[0].messages)

    with open_backend("vllm", DEMO, cache=shared) as backend:
        stream = backend.generate(many(), Sampling(max_new_tokens=1))
        next(stream)
        assert read <= 2 * backend.loaded()[0].llm.llm_engine.vllm_config.scheduler_config.max_num_seqs  # type: ignore[attr-defined]
        stream.close()  # type: ignore[attr-defined]


@slow_start
def test_a_prompt_that_cant_be_answered_is_an_error_as_from_hf(shared: EngineCache, prompts: list[Prompt]) -> None:
    long = Prompt("long", (Message("user", "word " * 3000),))
    with open_backend("vllm", DEMO, cache=shared) as backend:
        room = 2048 - 8  # so many tokens, of which a prompt leaves eight
        ids = backend.loaded()[2].ids  # type: ignore[attr-defined]
        words = next(n for n in range(2048, 0, -1) if len(ids((Message("user", "a " * n),))) <= room)
    tight = Prompt("tight", (Message("user", "a " * words),))
    asked = [long, tight, prompts[0]]
    assert answers("vllm", asked, GREEDY, cache=shared) == answers("hf", asked, GREEDY)


@slow_start
def test_an_adapter_that_cant_be_loaded_is_told_and_the_engine_goes_on(
    shared: EngineCache, adapters: list[str], prompts: list[Prompt], tmp_path: Path
) -> None:
    broken = tmp_path / "adapter"
    broken.mkdir()
    (broken / "adapter_config.json").write_text((Path(adapters[0]) / "adapter_config.json").read_text())
    (broken / "adapter_model.safetensors").write_bytes(b"no weights")
    with (
        pytest.raises(ModelError, match=r"adapter in .*; train the arm again") as caught,
        open_backend("vllm", DEMO, str(broken), cache=shared),
    ):
        pass
    assert len(str(caught.value)) < 1000
    assert len(answers("vllm", prompts[:2], GREEDY, adapters[0], cache=shared)) == 2


@slow_start
def test_knowledge_tasks_ask_the_same_engine_and_find_what_hf_finds(
    shared: EngineCache, adapters: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    from selfdistill.harness import evaluate, load_benchmark, open_lm

    rows = [
        {
            "sentence": f"The {c} cup beat the mug, as _ was light.",
            "option1": "the cup",
            "option2": "mug",
            "answer": "1",
        }
        for c in ("red", "green", "blue", "white")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark(get_task("winogrande"), TaskEntry(task="winogrande", path=str(tmp_path / "rows.jsonl")))
    found: dict[str, list[float]] = {}
    for name in ("hf", "vllm"):
        with open_backend(name, DEMO, adapters[0], cache=shared) as backend:
            lm = open_lm(name, DEMO, lambda opened=backend: opened)  # type: ignore[misc]
            evaluate(benchmark, lm, tmp_path / name)
        answers = map(json.loads, (tmp_path / name / "answers.jsonl").read_text().splitlines())
        found[name] = [likelihood for answer in answers for likelihood in answer["log_likelihoods"]]
    assert found["vllm"] == pytest.approx(found["hf"], abs=1e-3)
    assert len(set(found["hf"])) == 8


@needs_vllm
@slow_start
def test_guessing_from_the_prompt_changes_no_greedy_answer(
    prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    guessing = DEMO.model_copy(update={"engine": EngineConfig(speculate="reference")})
    assert equal(answers("vllm", prompts, GREEDY, model=guessing), answers("hf", prompts, GREEDY)) >= NEARLY_ALL


@needs_vllm
@slow_start
def test_a_model_that_thinks_answers_as_with_hf(prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    thinking = DEMO.model_copy(update={"path": "demo-thinking"})
    long = GREEDY.model_copy(update={"max_thinking_tokens": 100})
    own = answers("hf", prompts, long, model=thinking)
    assert equal(answers("vllm", prompts, long, model=thinking), own) >= NEARLY_ALL
    thoughts = [each for each in own.values() if "</think>" in each.text]
    assert len(thoughts) > ROWS / 2
    assert all(each.thinking_tokens for each in thoughts)


@needs_vllm
@slow_start
def test_an_engine_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    greedy_for_memory = DEMO.model_copy(update={"engine": EngineConfig(memory_fraction=1)})
    with pytest.raises(ModelError, match=r"vailable memory.*model\.engine\.memory_fraction.*log is") as caught:
        answers("vllm", [], GREEDY, model=greedy_for_memory)
    text = str(caught.value)
    assert len(text) < 700
    assert "Traceback" not in text
    log = Path(text.rpartition(" is ")[2].rstrip("."))
    assert "Traceback" in log.read_text()
    log.unlink()


@needs_vllm
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (EngineConfig(quantization="nonsense"), r"Unknown quantization method: nonsense\. Must be one of \['awq'"),
        (EngineConfig(quantization="awq"), r"Cannot find the config file for awq\)"),
        (
            EngineConfig(tensor_parallel=3),
            r"Total number of attention heads \(4\) must be divisible by tensor parallel size \(3\)\)",
        ),
    ],
)
def test_a_setting_that_vllm_refuses_is_told_in_its_words(options: EngineConfig, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"did not start with .* \({reason}.*change the setting in") as caught:
        answers("vllm", [], GREEDY, model=DEMO.model_copy(update={"engine": options}))
    Path(str(caught.value).rpartition(" is ")[2].rstrip(".")).unlink()


@needs_vllm
def test_another_device_than_vllms_is_refused() -> None:
    with pytest.raises(ModelError, match=r"computes on \w+, and model\.device is mps"):
        answers("vllm", [], GREEDY, model=DEMO.model_copy(update={"device": "mps"}))


def test_without_vllm_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdistill.backends.vllm_engine.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'selfdistill\[vllm\]'"):
        answers("vllm", [], GREEDY, model=DEMO.model_copy(update={"dtype": "float16"}))


def test_check_and_run_say_what_the_engine_needs_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdistill.backends.vllm_engine.find_spec", lambda name: None)
    recipe = Recipe.model_validate(
        {
            "model": {"path": "demo"},
            "task": "demo-maths",
            "data": {"path": "demo-maths", "n": 4},
            "evaluate": {"backend": "vllm", "tasks": ["demo-maths"]},
            "arms": {
                "seed": {"data": "none"},
                "high": {"data": "original", "train": {"adapter": {"r": 1024}}},
                "low": {"data": "original"},
            },
        }
    )
    missing = " ".join(check(recipe).missing)
    assert "needs vLLM; install it with `pip install 'selfdistill[vllm]'`" in missing
    assert (
        "The arm high trains an adapter of rank 1024, and the backend vllm takes up to 512; lower train.adapter.r"
        in missing
    )
    assert "arm low" not in missing
    with pytest.raises(StageError, match=r"needs vLLM; .* rank 1024"):
        run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.jsonl"))
    on_hf = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"backend": "hf"})})
    assert check(on_hf).missing == []


def test_an_adapter_of_too_high_a_rank_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"r": 8, "rank_pattern": {"q_proj": 1024}, "target_modules": "all-linear"})
    )
    with pytest.raises(ModelError, match=r"rank 1024.*up to 512.*hf"), open_backend("vllm", DEMO, str(tmp_path)):
        pass


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json; train"), open_backend("vllm", DEMO, str(tmp_path)):
        pass
