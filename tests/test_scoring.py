"""Scores against transformers' own loss on the same tokens; and that neither batch nor interruption changes them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import CHATML, NO_SYSTEM, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from selfdistill.backends.hf import HFBackend
from selfdistill.errors import StageError
from selfdistill.measure.likelihood import Scored, score, score_missing
from selfdistill.models.renderer import Renderer, TrainingRow
from selfdistill.recipe import ModelConfig
from selfdistill.store.rows import RowFile
from selfdistill.tasks import get_task
from selfdistill.types import Conversation, Example, Message

# As some reasoning models' do: what was thought in earlier turns is left out of a later prompt.
FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('/')[-1] if m.role == 'assistant' and not loop.last else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = (
    Message("system", "Be brief."),
    Message("user", "What is two plus two?"),
    Message("assistant", "thought/Four."),
    Message("user", "And three more?"),
    Message("assistant", "more thought/Seven, as four and three are seven."),
    Message("user", "Thanks."),
    Message("assistant", ""),
)
EXAMPLES = [
    Example.of((Message("user", "Say it. " * (n % 5)),), "word " * (7 * n % 23) + f"number {n}") for n in range(40)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def config(path: Path, batch_tokens: int = 16384) -> ModelConfig:
    return ModelConfig(path=str(path), dtype="float32", device="cpu", batch_tokens=batch_tokens)


def scores(path: Path | str, examples: list[Example], batch_tokens: int = 16384) -> dict[str, Scored]:
    with HFBackend(config(Path(path), batch_tokens)) as backend:
        return {scored.id: scored for scored in score(examples, *backend.loaded(), batch_tokens)}


def own_loss(model: PreTrainedModel, row: TrainingRow) -> tuple[float, int]:
    """transformers' loss on a training sequence by itself, and the number of tokens it is the mean of."""
    labels = [token if trained else -100 for token, trained in zip(row.input_ids, row.trained, strict=True)]
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([labels])).loss
    return float(loss), sum(row.trained[1:])


@pytest.mark.parametrize("name", ["demo-maths", "demo-tool"])
def test_scores_are_the_loss_of_transformers_on_the_training_rows_of_the_demo(name: str) -> None:
    task = get_task(name)
    assert task.train is not None
    conversations = list(islice(task.load(task.train, None), 12))
    examples = [example for conversation in conversations for example in conversation.examples()]
    found = scores("demo", examples)
    with HFBackend(config(Path("demo"))) as backend:
        model, renderer = backend.loaded()
        for example in examples:
            row = renderer.response_row(example.prompt, example.reference)
            loss, tokens = own_loss(model, row)
            scored = found[example.id]
            assert scored.tokens == tokens
            assert scored.nll == pytest.approx(loss, abs=1e-4)
            assert len(scored.values) == tokens
            assert sum(scored.values) / tokens == pytest.approx(scored.nll)


@pytest.mark.parametrize("template", [CHATML, FORGETS, NO_SYSTEM + CHATML], ids=["chatml", "forgets", "no-system"])
def test_a_later_turn_costs_what_training_on_it_costs(tmp_path: Path, template: str) -> None:
    folder = tiny_model(tmp_path / "m", chat_template=template)
    examples = Conversation(CHAT).examples()
    turns = scores(folder, examples)
    with HFBackend(config(folder)) as backend:
        model, renderer = backend.loaded()
        for example in examples:
            loss, tokens = own_loss(model, renderer.response_row(example.prompt, example.reference))
            assert turns[example.id].tokens == tokens
            assert turns[example.id].nll == pytest.approx(loss, rel=1e-5)


def test_the_batch_changes_nothing(folder: Path) -> None:
    alone = scores(folder, EXAMPLES, batch_tokens=1)
    for examples, size in ((EXAMPLES, 16384), (EXAMPLES, 300), (EXAMPLES[::-1], 700)):
        together = scores(folder, examples, size)
        assert together.keys() == alone.keys()
        for name, scored in together.items():
            assert scored.values == pytest.approx(alone[name].values, abs=1e-5)
    assert scores(folder, EXAMPLES, 300) == scores(folder, EXAMPLES, 300)


@pytest.mark.parametrize("kind", ["gpt2", "mistral", "bloom", "mamba"])
def test_padding_changes_nothing_whatever_the_architecture(kind: str, tmp_path: Path) -> None:
    """Learned positions, a window narrower than the rows, positions in the attention, and no attention at all."""
    from transformers import AutoConfig

    tokenizer = tiny_tokenizer()
    small = {"vocab_size": len(tokenizer), "initializer_range": 0.3}
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512},
        "mistral": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "num_key_value_heads": 2, "sliding_window": 8, "max_position_embeddings": 512},
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 4},
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small, **sizes[kind])).eval()
    renderer = Renderer(tokenizer)
    together = list(score(EXAMPLES[:12], model, renderer, 16384))
    assert len(together) == 12
    for scored in together:
        example = next(example for example in EXAMPLES if example.id == scored.id)
        loss, tokens = own_loss(model, renderer.response_row(example.prompt, example.reference))
        assert scored.tokens == tokens
        assert scored.nll == pytest.approx(loss, abs=1e-4)


def test_what_is_longer_than_the_context_says_so_and_what_just_fits_is_scored(tmp_path: Path) -> None:
    short = Example.of((Message("user", "Hi"),), "Hello.")
    prompt = Renderer(tiny_tokenizer()).response_row(short.prompt, "")
    room = 96 - len(prompt.input_ids)
    fits, longer = (Example.of(short.prompt, "x" * length) for length in (room, room + 1))
    found = scores(tiny_model(tmp_path / "m", context=96), [short, fits, longer])
    assert found[longer.id] == Scored(longer.id, None, room + 2, error="longer than the model's context")
    for example in (short, fits):
        scored = found[example.id]
        assert scored.error is None
        assert scored.nll is not None
        assert scored.nll > 0
    assert found[fits.id].tokens == room + 1


def test_an_empty_response_is_its_end_of_turn(folder: Path) -> None:
    empty = Example.of((Message("user", "Say nothing."),), "")
    scored = scores(folder, [empty, *EXAMPLES[:3]])[empty.id]
    assert scored.tokens == 1
    assert scored.values == (scored.nll,)


def test_a_prompt_that_the_template_refuses_is_reported(tmp_path: Path) -> None:
    refuses = "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    bad = Example.of((Message("user", "bad"),), "Yes.")
    found = scores(tiny_model(tmp_path / "m", chat_template=refuses), [bad, EXAMPLES[0]])
    assert found[bad.id].error == "the chat template refuses the prompt: no"
    assert found[EXAMPLES[0].id].nll is not None


def test_a_model_of_nans_gives_no_figures(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    with HFBackend(config(folder)) as backend:
        model, renderer = backend.loaded()
        torch.nn.init.constant_(model.get_output_embeddings().weight, float("nan"))
        found = list(score(EXAMPLES[:2], model, renderer, 16384))
    assert {(scored.nll, scored.error) for scored in found} == {(None, "no finite likelihood")}


def test_a_batch_that_does_not_fit_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = EXAMPLES[:12]
    expected = scores(folder, some)
    forward, tried = LlamaForCausalLM.forward, []

    def small_device(self: Any, **inputs: Any) -> Any:
        rows, length = inputs["input_ids"].shape
        tried.append(rows)
        if rows > 6 or length > 140:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, **inputs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small_device)
    found = scores(folder, some)
    assert max(tried) > 6
    failed = {name for name, scored in found.items() if scored.error}
    assert 0 < len(failed) < len(some)
    assert {found[name].error for name in failed} == {"out of memory"}
    assert {name: s.tokens for name, s in found.items()} == {name: s.tokens for name, s in expected.items()}
    for name in found.keys() - failed:
        assert found[name].values == pytest.approx(expected[name].values, abs=1e-5)


def test_other_errors_are_not_taken_for_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, **inputs: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        scores(folder, EXAMPLES)


@pytest.mark.parametrize("after", [0, 1, 13, 39])
def test_an_interrupted_pass_ends_with_the_bytes_of_an_uninterrupted_one(
    folder: Path, tmp_path: Path, after: int
) -> None:
    doubled = [*EXAMPLES, *EXAMPLES[:5]]

    def run(path: Path, stop: int | None = None) -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []

        def progress(done: int, total: int, note: str = "") -> None:
            told.append((done, total))
            if done == stop:
                raise KeyboardInterrupt

        with RowFile(path) as rows:
            score_missing(lambda: iter(doubled), config(folder, 400), rows, progress)
        return told

    assert run(tmp_path / "whole.jsonl")[-1] == (40, 40)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again.jsonl", after)
    assert run(tmp_path / "again.jsonl")[0] == (after, 40)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len((tmp_path / "whole.jsonl").read_text().splitlines()) == 40


def test_nothing_missing_loads_no_model(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with RowFile(path) as rows:
        score_missing(lambda: iter(EXAMPLES[:3]), config(folder), rows, lambda *_: None)
    nowhere = replace_path(config(folder), tmp_path / "nowhere")
    with RowFile(path) as rows:
        score_missing(lambda: iter(EXAMPLES[:2]), nowhere, rows, lambda *_: None)


def replace_path(model: ModelConfig, path: Path) -> ModelConfig:
    return model.model_copy(update={"path": str(path)})


def test_scores_are_written_without_the_values_of_tokens() -> None:
    scored = Scored("0" * 16, 1.5, 2, (1.0, 2.0))
    assert scored.to_json() == {"id": "0" * 16, "nll": 1.5, "tokens": 2}
    failed = Scored("0" * 16, None, 9, error="out of memory")
    assert failed.to_json() == {"id": "0" * 16, "nll": None, "tokens": 9, "error": "out of memory"}


def test_a_stream_is_scored_as_it_comes(folder: Path) -> None:
    taken = 0

    def stream() -> Iterator[Example]:
        nonlocal taken
        for n in range(3000):
            taken += 1
            yield Example.of((Message("user", "Hi"),), str(n))

    with HFBackend(config(folder)) as backend:
        first = next(score(stream(), *backend.loaded(), 16384))
    assert first.nll is not None
    assert taken <= 1024


def test_scores_that_decide_are_computed_in_the_recipes_dtype(folder: Path, tmp_path: Path) -> None:
    """Whatever the model answers in; a score that only describes is of the model as it answers."""
    half = config(folder).model_copy(update={"dtype": "bfloat16"})
    found = {}
    for name, model, deciding in (
        ("float32", config(folder), False),
        ("deciding", half, True),
        ("describing", half, False),
        ("in half", half.model_copy(update={"score_dtype": "bfloat16"}), True),
    ):
        with RowFile(tmp_path / f"{name}.jsonl") as rows:
            score_missing(lambda: EXAMPLES[:8], model, rows, lambda *_: None, deciding)
        with RowFile(tmp_path / f"{name}.jsonl", reading=True) as rows:
            found[name] = [(rows.get(example.id) or {})["nll"] for example in EXAMPLES[:8]]
    assert found["deciding"] == pytest.approx(found["float32"], abs=1e-5)
    for name in ("describing", "in half"):
        assert found[name] != pytest.approx(found["float32"], abs=1e-4)


@pytest.mark.parametrize("where", ["loading", "scoring"])
def test_too_little_memory_for_scores_that_decide_stops_with_the_line_to_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from selfdistill.measure import likelihood as scoring

    def full(*arguments: Any, **rest: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scoring, "load_model" if where == "loading" else "_token_nlls", full)
    with RowFile(tmp_path / "rows.jsonl") as rows, pytest.raises(StageError, match=r"model\.score_dtype=bfloat16"):
        score_missing(lambda: EXAMPLES[:8], config(folder), rows, lambda *_: None, deciding=True)
