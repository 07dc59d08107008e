"""The hf backend on a random tiny Llama: what it feeds the model, what it makes of memory, context and interruption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_model

from selfdistill.backends import open_backend
from selfdistill.backends.batches import TokenRow, batches, groups
from selfdistill.backends.decoding import decode
from selfdistill.backends.hf import HFBackend, Task, side_by_side
from selfdistill.backends.sampling import choose, distribution, uniforms
from selfdistill.generation.resume import LazyBackend, complete
from selfdistill.models.cpu import ANSWER_ATTENTION, attend_on_cpu
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.store.rows import RowFile, read_lines
from selfdistill.types import Completion, Message, Prompt

GREEDY = Sampling(max_new_tokens=12)
DRAWN = Sampling(temperature=0.95, top_p=0.7, top_k=50, max_new_tokens=40)
PROMPTS = [Prompt(f"id{i}", (Message("user", "wör {x} " * (i * 7 % 11) + str(i)),)) for i in range(24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def config(folder: Path, batch_tokens: int = 2000) -> ModelConfig:
    return ModelConfig(path=str(folder), dtype="float32", device="cpu", batch_tokens=batch_tokens)


def answers(model: ModelConfig, prompts: list[Prompt], sampling: Sampling, done: Any = ()) -> list[Completion]:
    with open_backend("hf", model) as backend:
        return list(backend.generate(prompts, sampling, done))


def by_id(completions: list[Completion]) -> dict[str, Completion]:
    assert len({c.id for c in completions}) == len(completions)
    return {c.id: c for c in completions}


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_answers_depend_neither_on_batch_nor_on_order(folder: Path, sampling: Sampling) -> None:
    one_by_one = by_id(answers(config(folder, 1), PROMPTS, sampling))
    assert one_by_one == by_id(answers(config(folder, 1500), PROMPTS, sampling))
    assert one_by_one == by_id(answers(config(folder, 10**6), PROMPTS[::-1], sampling))
    assert set(one_by_one) == {prompt.id for prompt in PROMPTS}


def test_greedy_is_what_transformers_generates(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    renderer = load_renderer(config(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = by_id(answers(config(folder), PROMPTS[:6], GREEDY))
    for prompt in PROMPTS[:6]:
        ids = torch.tensor([renderer.ids(prompt.messages)])
        new = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0]
        text = renderer.tokenizer.decode(new[ids.shape[1] :]).removesuffix("<|im_end|>")
        assert ours[prompt.id].text == text


@pytest.mark.parametrize("own_attention", [False, True])
@pytest.mark.parametrize("kind", ["mistral", "gemma3", "qwen3", "llama grouped", "lfm2", "falcon_h1"])
def test_other_architectures_match_transformers_too(kind: str, own_attention: bool) -> None:
    import transformers as t

    small = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    model: Any = {
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**small, sliding_window=8)),
        "gemma3": lambda: t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(**small, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
        ),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**small)),
        "llama grouped": lambda: t.LlamaForCausalLM(t.LlamaConfig(**small)),
        "lfm2": lambda: t.Lfm2ForCausalLM(
            t.Lfm2Config(**small, layer_types=["conv", "full_attention"], block_multiple_of=8)
        ),
        "falcon_h1": lambda: t.FalconH1ForCausalLM(
            t.FalconH1Config(**small, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8)
        ),
    }[kind]()
    model.eval()
    rows = [
        TokenRow(str(i), [3 + (5 * i + j) % 60 for j in range(n)], 16 - 3 * (i % 4))
        for i, n in enumerate([25, 20, 20, 13, 9, 9, 7, 5, 4, 1])
    ]
    alone = []
    for row in rows:
        ids = torch.tensor([row.ids])
        all_ids = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=row.limit)
        alone.append(all_ids[0, len(row.ids) :].tolist())
    if own_attention:
        attend_on_cpu(model)
        assert model.config._attn_implementation == ANSWER_ATTENTION
    for places in (1, 2, 3, 7, 10):  # rows take the places of rows that have ended
        assert decode(model, rows, GREEDY, [2], places=places) == alone


def test_a_model_in_bfloat16_attends_in_float32(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.functional as functional

    seen = set[torch.dtype]()
    fused = functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        seen.update((query.dtype, key.dtype))
        return fused(query, key, *rest, **named)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    given = config(folder).model_copy(update={"dtype": "bfloat16"})
    assert all(answer.tokens for answer in answers(given, PROMPTS[:3], GREEDY))
    assert seen == {torch.float32}


def test_the_models_own_generation_settings_have_no_say(tmp_path: Path, folder: Path) -> None:
    other = tiny_model(tmp_path / "m")
    (other / "generation_config.json").write_text(
        '{"eos_token_id": 4, "repetition_penalty": 5.0, "temperature": 0.1, "do_sample": true, "min_new_tokens": 9,'
        ' "no_repeat_ngram_size": 1, "suppress_tokens": [70, 71, 72]}'
    )
    assert by_id(answers(config(other), PROMPTS, GREEDY)) == by_id(answers(config(folder), PROMPTS, GREEDY))


def test_the_model_is_fed_the_renderers_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    fed: list[tuple[list[int], list[int]]] = []  # the tokens of each row, and their positions
    beginning: list[int] = []
    forward = LlamaForCausalLM.forward

    def spy(self: Any, **inputs: Any) -> Any:
        read, shown = inputs["past_key_values"].get_seq_length(), inputs["attention_mask"].bool()
        if inputs["input_ids"].shape[0] == 1 and read == 0:
            beginning[:] = inputs["input_ids"][0].tolist()  # what all prompts begin with
        elif inputs["input_ids"].shape[1] > 1:
            for ids, positions, mask in zip(inputs["input_ids"], inputs["position_ids"], shown[:, read:], strict=True):
                fed.append((beginning[:read] + ids[mask].tolist(), [*range(read), *positions[mask].tolist()]))
        return forward(self, **inputs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", spy)
    answers(config(folder), PROMPTS, GREEDY)
    renderer = load_renderer(config(folder))
    assert sorted(ids for ids, _ in fed) == sorted(renderer.ids(prompt.messages) for prompt in PROMPTS)
    assert all(positions == list(range(len(ids))) for ids, positions in fed)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_an_interrupted_run_is_completed_with_the_same_answers(folder: Path, sampling: Sampling) -> None:
    model = config(folder, 900)
    whole = answers(model, PROMPTS, sampling)
    for cut in (1, 10, len(whole) - 1):
        done = {completion.id for completion in whole[:cut]}
        assert answers(model, PROMPTS, sampling, done) == whole[cut:]


def test_a_batch_that_is_wholly_done_is_not_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdistill.backends import hf

    computed: list[int] = []

    def counted(model: Any, rows: Any, *rest: Any) -> Any:
        computed.append(len(rows))
        return decode(model, rows, *rest)

    monkeypatch.setattr(hf, "decode", counted)
    whole = answers(config(folder, 900), PROMPTS, GREEDY)
    sizes, first = list(computed), computed[0]
    computed.clear()
    answers(config(folder, 900), PROMPTS, GREEDY, {completion.id for completion in whole[: first + 1]})
    assert computed == sizes[1:]
    computed.clear()
    assert answers(config(folder, 900), PROMPTS, GREEDY, {prompt.id for prompt in PROMPTS}) == []
    assert computed == []


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    with ThreadPoolExecutor(1) as new:  # the caller's own thread keeps its number, whatever others set
        assert new.submit(torch.get_num_threads).result() == 3
    torch.set_num_threads(before)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_batches_side_by_side_have_the_same_answers_in_the_same_order(
    folder: Path, sampling: Sampling, monkeypatch: pytest.MonkeyPatch, three_threads: None
) -> None:
    from selfdistill.backends import hf

    both, most, at_work = Barrier(2, timeout=60), 0, 0

    def met(*given: Any) -> Any:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        with suppress(BrokenBarrierError):
            both.wait()  # so that one that goes alone is seen
        try:
            assert torch.get_num_threads() == 1
            return decode(*given)
        finally:
            at_work -= 1
            both.abort()

    torch.set_num_threads(1)
    alone = answers(config(folder, 700), PROMPTS, sampling)
    torch.set_num_threads(3)
    monkeypatch.setattr(hf, "decode", met)
    assert answers(config(folder, 700), PROMPTS, sampling) == alone
    assert 2 <= most <= 3


def test_who_leaves_early_waits_for_no_batch(folder: Path, three_threads: None) -> None:
    seen: list[bool] = []
    tasks: list[Task[None]] = [lambda _: None, *[lambda abandoned: seen.append(abandoned.wait(60))] * 9]
    results = side_by_side(tasks, 3)
    next(iter(results))
    results.close()
    assert seen
    assert all(seen)
    abandoned = Event()
    abandoned.set()
    model = load_model(config(folder)).eval()
    assert decode(model, [TokenRow("a", [1, 2, 3], 400)], Sampling(max_new_tokens=400), (), abandoned) == [[ANY]]


def test_an_error_beside_others_is_raised(folder: Path, three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdistill.backends import hf

    monkeypatch.setattr(hf, "decode", lambda *given: [][len(given[1])])
    with pytest.raises(IndexError):
        answers(config(folder, 700), PROMPTS, GREEDY)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=60), st.integers(50, 500))
def test_groups_lose_no_row_and_are_formed_again_from_their_own_rows(sizes: list[tuple[int, int]], budget: int) -> None:
    rows = [TokenRow(str(n), [1] * length, limit) for n, (length, limit) in enumerate(sizes)]
    found = list(groups(rows, budget))
    assert sorted(row.id for group in found for row in group.rows) == sorted(row.id for row in rows)
    for group in found:
        lengths = [len(row.ids) for row in group.rows]
        assert lengths == sorted(lengths, reverse=True)
        assert group.places == 1 or group.places * max(len(row.ids) + row.limit for row in group.rows) <= budget
        assert list(groups(group.rows, budget, at_least=1)) == [group]
    assert len(found) >= min(2, len(list(batches(rows, budget))))


def test_batches_stay_under_the_budget_and_lose_no_row() -> None:
    rows = [TokenRow(str(i), [1] * (i * 37 % 90 + 1), 10 + i % 5) for i in range(200)]
    parts = list(batches(rows, 400))
    assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in rows)
    for part in parts:
        size = (max(len(r.ids) for r in part) + max(r.limit for r in part)) * len(part)
        assert size <= 400 or len(part) == 1
    assert len(parts) < 80
    assert [len(part) for part in batches(rows, 1)] == [1] * 200


def test_stops_lengths_and_token_counts_are_recorded(folder: Path) -> None:
    found = answers(config(folder), PROMPTS, Sampling(temperature=1.0, max_new_tokens=120))
    assert {c.finish for c in found} == {"stop", "length"}
    for completion in found:
        assert "<|im_end|>" not in completion.text
        assert completion.tokens == 120 if completion.finish == "length" else 0 < completion.tokens <= 120


def test_prompts_beyond_the_context_are_errors_and_others_go_on(tmp_path: Path) -> None:
    model = config(tiny_model(tmp_path / "m", context=64))
    frame = len(load_renderer(model).ids((Message("user", ""),)))
    prompts = [Prompt(str(n), (Message("user", "x" * (n - frame)),)) for n in (40, 60, 63, 64, 65)]
    found = by_id(answers(model, prompts, Sampling(max_new_tokens=20)))
    assert found["64"].finish == found["65"].finish == "error"
    assert found["65"].error == "prompt of 65 tokens exceeds the context of 64"
    for name, room in (("40", 20), ("60", 4), ("63", 1)):
        assert found[name].finish == "stop" or (found[name].finish, found[name].tokens) == ("length", room)


def test_a_prompt_that_the_template_refuses_is_an_error_of_its_own(tmp_path: Path) -> None:
    refuses = "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}"
    template = refuses + "{% for m in messages %}{{ m.content }}{% endfor %}"
    model = config(tiny_model(tmp_path / "m", chat_template=template))
    found = by_id(answers(model, [Prompt(text, (Message("user", text),)) for text in ("good", "bad", "")], GREEDY))
    assert found["good"].error is None
    assert found["bad"].error == "the chat template refuses the prompt: no"
    assert found[""].error == "the prompt is empty"


def test_no_prompts_no_answers(folder: Path) -> None:
    assert answers(config(folder), [], GREEDY) == []


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from transformers import LlamaForCausalLM

    expected = by_id(answers(config(folder, 10**6), PROMPTS, GREEDY))
    forward, tried = LlamaForCausalLM.forward, []

    def small_device(self: Any, **inputs: Any) -> Any:
        rows, tokens = inputs["input_ids"].shape
        tried.append(rows)
        if rows > 5 or (tokens > 1 and inputs["attention_mask"].shape[1] > 90):
            raise error
        return forward(self, **inputs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small_device)
    found = by_id(answers(config(folder, 10**6), PROMPTS, GREEDY))
    assert max(tried) == len(PROMPTS)
    failed = {name for name, completion in found.items() if completion.finish == "error"}
    lengths = {p.id: len(load_renderer(config(folder)).ids(p.messages)) for p in PROMPTS}
    assert failed == {name for name, length in lengths.items() if length > 90}
    assert 0 < len(failed) < len(PROMPTS)
    assert all("out of memory" in str(found[name].error) for name in failed)
    assert {n: c for n, c in found.items() if n not in failed} == {n: c for n, c in expected.items() if n not in failed}


def test_other_errors_are_not_taken_for_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    def broken(self: Any, **inputs: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        answers(config(folder), PROMPTS, GREEDY)


def test_an_adapter_changes_the_answers(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    with HFBackend(config(folder), str(tmp_path / "adapter")) as backend:
        with_adapter = by_id(list(backend.generate(PROMPTS[:4], GREEDY)))
        assert backend.loaded()[0].config._attn_implementation == ANSWER_ATTENTION
    assert with_adapter != by_id(answers(config(folder), PROMPTS[:4], GREEDY))


def test_the_draw_follows_the_distribution() -> None:
    """Chi-square against the softmax, under temperature alone and under all three rules."""
    torch.manual_seed(0)
    row, n = torch.randn(30) * 2, 20_000
    logits = row.expand(n, -1)
    draws = uniforms(7, [f"row {i}" for i in range(n)], 1)[:, 0]
    for sampling in (
        Sampling(temperature=1.3),
        Sampling(temperature=0.8, top_k=12, top_p=0.9),
        Sampling(temperature=1, top_p=0.5),
    ):
        counts = torch.bincount(choose(logits, sampling, draws), minlength=30).double()
        expected = n * _by_transformers(row, sampling).double()
        assert counts[expected == 0].sum() == 0
        kept = expected > 0
        chi_square = ((counts - expected)[kept] ** 2 / expected[kept]).sum().item()
        freedom = int(kept.sum()) - 1
        assert chi_square < freedom + 4 * math.sqrt(2 * freedom) + 4


@pytest.mark.parametrize("sampling", [DRAWN, Sampling(temperature=0.5, top_p=0.3), Sampling(temperature=2, top_k=3)])
def test_candidates_are_those_of_transformers(sampling: Sampling) -> None:
    torch.manual_seed(1)
    logits = torch.randn(16, 200) * 3
    candidates, weights = distribution(logits, sampling)
    assert candidates is not None
    ours = torch.zeros_like(logits).scatter(1, candidates, weights / weights.sum(dim=-1, keepdim=True))
    theirs = torch.stack([_by_transformers(row, sampling) for row in logits])
    torch.testing.assert_close(ours, theirs)


def _by_transformers(row: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = TemperatureLogitsWarper(float(sampling.temperature))(None, row[None])
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores.softmax(dim=-1)[0]


def test_a_rows_stream_is_its_own() -> None:
    streams = uniforms(0, ["a", "b", "c"], 100)
    assert torch.equal(uniforms(0, ["c", "a"], 30), streams[[2, 0], :30])
    assert not torch.equal(uniforms(1, ["a"], 100), streams[:1])
    assert len(torch.unique(streams)) == 300
    assert streams.min() >= 0
    assert streams.max() < 1


def test_the_extremes_of_a_draw_are_candidates() -> None:
    logits = torch.tensor([[0.0, 5.0, -200.0, 4.0]]).expand(2, -1)
    draws = torch.tensor([0.0, 1 - 2**-24])
    for sampling in (Sampling(temperature=1), Sampling(temperature=1, top_k=3), Sampling(temperature=1, top_p=0.9)):
        assert set(choose(logits, sampling, draws).tolist()) <= {0, 1, 3}


def test_what_is_done_leaves_batches_as_they_were(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file holds as many rows as are asked for, some of them of other settings."""
    prompts = [Prompt(f"{n:016x}", prompt.messages) for n, prompt in enumerate(PROMPTS)]
    formed: list[tuple[str, ...]] = []

    def watched(model: Any, batch: list[TokenRow], *rest: Any) -> list[list[int]]:
        formed.append(tuple(row.id for row in batch))
        return decode(model, batch, *rest)

    monkeypatch.setattr("selfdistill.backends.hf.decode", watched)
    whole = by_id(answers(config(folder, 600), prompts, DRAWN))
    at_first, done = set(formed), [prompt.id for prompt in prompts[::2]]
    assert len(at_first) > 1
    with RowFile(tmp_path / "rows.jsonl") as rows:
        for name in (*done, *(f"{n:016x}" for n in range(100, 130))):
            rows.append(replace(whole[prompts[0].id], id=name).to_json())
    for batches_formed in (at_first, set[tuple[str, ...]]()):
        formed.clear()
        with RowFile(tmp_path / "rows.jsonl") as rows, LazyBackend(lambda: HFBackend(config(folder, 600))) as backend:
            complete(prompts, len(prompts), backend, DRAWN, rows, lambda *_: None)
        assert set(formed) <= batches_formed
    left = {row["id"]: Completion.from_json(row) for row in read_lines(tmp_path / "rows.jsonl")}
    assert all(left[name] == answer for name, answer in whole.items() if name not in done)
