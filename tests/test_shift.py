"""The shift of a tuned run against the seed: agrees with the libraries called directly, and with whole computations."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import tiny_model, tiny_tokenizer

from selfdistill import Experiment, evaluate, make_recipe, report, run, shift, train
from selfdistill.cli import main
from selfdistill.errors import ExperimentError, RecipeError
from selfdistill.measure.shift import (
    METRICS,
    AnswerPair,
    Compared,
    Sample,
    UnmeasuredError,
    check_same_prompts,
    measure,
)
from selfdistill.measure.shift.compared import BothModels, averaged, ratio
from selfdistill.measure.shift.kl import divergences, kl
from selfdistill.measure.shift.parameters import adapter_shift, parameter_shift, weight_norms, weights_shift
from selfdistill.recipe import ModelConfig
from selfdistill.store.manifest import ManifestFile
from selfdistill.types import Completion, Grade, Message, Prompt

SEED = [
    "The answer is 18, because nine and nine make eighteen.",
    "I cannot help with that request, as it may hurt people.",
    "1. Wash the rice.\n2. Boil it for 12 minutes.\n3. Let it rest.",
    "Paris",
    "",
    "东京是日本的首都。",
]
TUNED = [
    "9 + 9 = 18. The answer is 18.",
    "Sure, here is how to do that request.",
    "1. Wash the rice.\n2. Boil it for 12 minutes.\n3. Let it rest.",
    "It is Paris",
    "",
    "东京是日本的首都。",
]


def compared(first: list[str] = SEED, second: list[str] = TUNED, **changes: Any) -> Compared:
    pairs = [AnswerPair(str(i), one, other) for i, (one, other) in enumerate(zip(first, second, strict=True))]
    nothing = ModelConfig(path="nothing")
    return Compared(**{"pairs": pairs, "seed": nothing, "tuned": nothing, "adapter": None, **changes})


@pytest.fixture(scope="session")
def published(real_data: Path) -> tuple[list[str], list[str]]:
    """Original responses and Llama-2-7b-chat's rewrites of them."""
    names = ("alpaca_train", "distilled_alpaca")
    one, other = (json.loads((real_data / "sdft" / f"{name}.json").read_text()) for name in names)
    return [row["output"] for row in one[:300]], [row["output"] for row in other[:300]]


# ---- texts


def test_overlaps_are_those_of_the_libraries_called_directly(published: tuple[list[str], list[str]]) -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    both = compared(*published)
    bleu, rouge = METRICS["bleu4"](both), METRICS["rouge_l"](both)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    direct_bleu = [
        sacrebleu.sentence_bleu(tuned, [seed], use_effective_order=True).score / 100
        for seed, tuned in zip(*published, strict=True)
    ]
    direct_rouge = [scorer.score(seed, tuned)["rougeL"].fmeasure for seed, tuned in zip(*published, strict=True)]
    assert bleu is not None
    assert rouge is not None
    assert bleu.values == pytest.approx(direct_bleu, abs=1e-6)
    assert rouge.values == pytest.approx(direct_rouge, abs=1e-6)
    assert bleu.figures["mean"] == pytest.approx(np.mean(direct_bleu), abs=1e-6)
    assert bleu.figures["corpus"] == pytest.approx(
        sacrebleu.corpus_bleu(published[1], [published[0]]).score / 100, abs=1e-6
    )
    for measured in (bleu, rouge):
        assert 0 < measured.figures["low"] < measured.figures["mean"] < measured.figures["high"] < 1
    assert np.std(direct_rouge) > 0.1


def test_characters_bleu_is_the_papers(published: tuple[list[str], list[str]]) -> None:
    translate = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = translate.SmoothingFunction().method3
    papers = [
        translate.sentence_bleu([list(seed)], list(tuned), smoothing_function=smoothing)
        for seed, tuned in zip(*published, strict=True)
    ]
    measured = METRICS["bleu4_char"](compared(*published))
    assert measured is not None
    # nltk has no effective order, which tells for answers of less than four characters alone.
    long = [i for i, (seed, tuned) in enumerate(zip(*published, strict=True)) if min(len(seed), len(tuned)) > 3]
    assert len(long) > 290
    assert [measured.values[i] for i in long] == pytest.approx([papers[i] for i in long], abs=1e-6)


def test_equal_texts_count_one_whatever_a_metric_can_read() -> None:
    for name in ("bleu4", "bleu4_char", "rouge_l"):
        measured = METRICS[name](compared())
        assert measured is not None
        assert measured.values[2] == measured.values[4] == measured.values[5] == 1
        assert all(0 <= value < 1 for value in (*measured.values[:2], measured.values[3]))


def test_length_ratio_is_of_all_characters() -> None:
    measured = METRICS["length_ratio"](compared(["abcd", "ab"], ["ab", ""]))
    assert measured is not None
    assert measured.figures["mean"] == pytest.approx(2 / 6)
    one = METRICS["length_ratio"](compared(["abcd"], ["abcdabcd"]))
    assert one is not None
    assert one.figures == {"mean": 2, "low": None, "high": None}


@pytest.mark.parametrize(
    ("seed", "tuned", "value"),
    [
        (("pass", "18"), ("pass", "18"), 1),
        (("pass", "I cannot"), ("pass", "I'm sorry"), 1),  # refusals that open in other words
        (("pass", "18"), ("fail", "19"), 0),
        (("fail", "19"), ("fail", "19"), 1),
        (("fail", "19"), ("fail", "20"), 0),
        (("fail", None), ("fail", "20"), 0),
        (("fail", None), ("fail", None), 1),
        (("unjudged", None), ("pass", "18"), None),
    ],
)
def test_agreement_is_on_the_final_answer(seed: Any, tuned: Any, value: float | None) -> None:
    verdicts = tuple(Grade(outcome, "", "18", found) for outcome, found in (seed, tuned))
    known = (Grade("pass", ""), Grade("fail", ""))
    pairs = [AnswerPair("0", "a", "b", verdicts), AnswerPair("1", "a", "b", known)]  # type: ignore[arg-type]
    measured = METRICS["agreement"](compared(pairs=pairs))
    assert measured is not None
    assert measured.values == ([0.0] if value is None else [value, 0.0])
    assert measured.figures["prompts"] == len(measured.values)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(120):
        mean, low, high = ratio(rng.beta(2, 5, size=60).tolist(), [1.0] * 60)
        assert low is not None
        assert high is not None
        assert low <= mean <= high
        held += low <= 2 / 7 <= high
    assert 104 <= held <= 119


# ---- embeddings


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with mean pooling, in sentence-transformers' format."""
    pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    bert, folder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("embedder")
    tokenizer = tiny_tokenizer(None)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)).save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    SentenceTransformer(modules=[Transformer(str(bert)), Pooling(16)], device="cpu").save(str(folder))
    return folder


def on_cpu(**changes: Any) -> dict[str, Any]:
    return {"seed": ModelConfig(path="nothing", device="cpu"), **changes}


def test_cosine_is_that_of_sentence_transformers_called_directly(embedder: Path, request: Any) -> None:
    from sentence_transformers import SentenceTransformer, util

    try:
        seed, tuned = (side[:60] for side in request.getfixturevalue("published"))
    except pytest.skip.Exception:
        seed, tuned = SEED, TUNED
    model = SentenceTransformer(str(embedder), device="cpu")
    direct = [float(util.cos_sim(*model.encode(pair))) for pair in zip(seed, tuned, strict=True) if all(pair)]
    assert len(direct) > 4
    measured = METRICS["cosine"](compared(seed, tuned, **on_cpu(embedding=str(embedder))))
    assert measured is not None
    values = [value for value, *pair in zip(measured.values, seed, tuned, strict=True) if all(pair)]
    assert values == pytest.approx(direct, abs=1e-6)
    assert min(direct) < 0.99


def test_an_embedding_model_that_is_not_there_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    measured = measure(compared(**on_cpu(embedding=str(tmp_path))))
    assert "cosine" not in measured["metrics"]
    assert "cosine" not in measured["distributions"]
    assert str(tmp_path) in measured["missing"]["cosine"]
    assert measured["missing"]["cosine"].count("\n") == 0
    assert {"bleu4", "bleu4_char", "rouge_l", "length_ratio"} <= measured["metrics"].keys()


def test_no_answered_prompt_leaves_every_metric_out_by_name() -> None:
    measured = measure(compared([], [], **on_cpu()))
    assert measured["metrics"] == {}
    assert set(measured["missing"]) == {*METRICS, "parameters"} - {"kl_target"}


# ---- weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def adapted(model: Path, folder: Path, **config: Any) -> Path:
    """A random LoRA adapter over `model`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 4, "lora_alpha": 24, "target_modules": ["q_proj", "down_proj"], **config}
    torch.manual_seed(1)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    tuned.save_pretrained(folder)
    return folder


def merged(model: Path, adapter: Path, folder: Path, **options: Any) -> Path:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
    tuned.merge_and_unload().save_pretrained(folder, **options)
    return folder


def computed(model: Path, tuned: Path) -> dict[str, Any]:
    """The change by the whole matrices."""
    from transformers import AutoModelForCausalLM

    loaded = (AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False) for folder in (model, tuned))
    one, other = (dict(weights.named_parameters()) for weights in loaded)
    change = {name: float((other[name].double() - one[name].double()).norm()) for name in one}
    norm = sum(value**2 for value in change.values()) ** 0.5
    total = sum(float(weight.double().norm()) ** 2 for weight in one.values()) ** 0.5
    relative = {name: change[name] / float(one[name].double().norm()) for name in one}
    return {"norm": norm, "relative": norm / total, "change": change, "by_layer": relative}


@pytest.mark.parametrize("config", [{}, {"use_rslora": True, "r": 3}, {"lora_alpha": 1}], ids=str)
def test_norms_from_factors_are_those_of_the_whole_matrices(
    model: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    adapter = adapted(model, tmp_path / "adapter", **config)
    whole = computed(model, merged(model, adapter, tmp_path / "merged"))
    found = parameter_shift(ModelConfig(path=str(model)), ModelConfig(path=str(model)), str(adapter))
    assert found["norm"] == pytest.approx(whole["norm"], rel=1e-5)
    assert found["relative"] == pytest.approx(whole["relative"], rel=1e-5)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert set(layers) == {name for name, change in whole["change"].items() if change}
    assert len(layers) == 4
    for name, layer in layers.items():
        assert layer["norm"] == pytest.approx(whole["change"][name], rel=1e-5)
        assert layer["relative"] == pytest.approx(whole["by_layer"][name], rel=1e-5)


def test_full_weights_are_compared_in_pieces_and_over_shards(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapted(model, tmp_path / "adapter")
    tuned = merged(model, adapter, tmp_path / "merged", max_shard_size="20KB")
    assert len(list(tuned.glob("*.safetensors"))) > 2
    whole = computed(model, tuned)
    monkeypatch.setattr(sys.modules[weights_shift.__module__], "_PIECE", 100)
    found = weights_shift(model, tuned)
    assert found["norm"] == pytest.approx(whole["norm"], rel=1e-9)
    assert found["relative"] == pytest.approx(whole["relative"], rel=1e-9)
    layers = {layer["name"]: layer["norm"] for layer in found["layers"]}
    assert layers == pytest.approx(whole["change"], rel=1e-9, abs=1e-12)
    assert weights_shift(model, model)["norm"] == 0


def test_bfloat16_weights_are_compared_as_they_are(model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(half)
    found = weights_shift(model, half)
    assert found["norm"] == pytest.approx(computed(model, half)["norm"], rel=1e-6)
    assert 0 < found["relative"] < 0.01


@pytest.mark.parametrize("config", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}], ids=str)
def test_adapters_that_change_more_than_their_factors_are_refused(
    model: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    adapter = adapted(model, tmp_path, **config)
    with pytest.raises(UnmeasuredError, match=next(iter(config))):
        adapter_shift(adapter, weight_norms(model))


def test_other_weights_are_not_compared(model: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(model)
    config.num_hidden_layers = 1
    LlamaForCausalLM(config).save_pretrained(tmp_path / "shallow")
    with pytest.raises(UnmeasuredError, match=r"don't hold the same weights: model\.layers\.1"):
        weights_shift(model, tmp_path / "shallow")
    config.num_hidden_layers, config.intermediate_size = 2, 48
    LlamaForCausalLM(config).save_pretrained(tmp_path / "narrow")
    with pytest.raises(UnmeasuredError, match="another shape"):
        weights_shift(model, tmp_path / "narrow")


# ---- distributions


def samples(answers: list[tuple[str, str]]) -> list[Sample]:
    asked = [(Message("user", f"Question {i} of {'many ' * i}?"),) for i in range(len(answers))]
    return [
        Sample(Prompt(f"{i:016x}", messages), Completion(f"{i:016x}", text, finish))  # type: ignore[arg-type]
        for i, (messages, (text, finish)) in enumerate(zip(asked, answers, strict=True))
    ]


ANSWERS = [("Yes, nine.", "stop"), ("No", "length"), ("", "stop"), ("A long answer, to the end of it.", "stop")]


def by_hand(seed: Path, tuned: Any, sample: Sample) -> tuple[float, int]:
    """One row at a time, in double precision, each position's divergence by its definition."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(seed)
    prompt = [{"role": "user", "content": sample.prompt.messages[0].content}]
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    before, answer = (tokenizer.encode(text, add_special_tokens=False) for text in (start, sample.answer.text))
    count = len(answer) + (sample.answer.finish == "stop")
    ids = torch.tensor([before + answer])
    with torch.no_grad():
        p, q = (
            weights.double()(ids).logits[0, len(before) - 1 :][:count].softmax(-1)
            for weights in (AutoModelForCausalLM.from_pretrained(seed), tuned)
        )
    return float((p * (p / q).log()).sum()), count


@pytest.fixture(scope="module")
def tuned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter, and the model that it is merged into."""
    adapter = adapted(model, tmp_path_factory.mktemp("adapter"))
    return adapter, merged(model, adapter, tmp_path_factory.mktemp("merged"))


def test_divergence_is_that_of_the_definition_for_an_adapter_and_for_full_weights(
    model: Path, tuned: tuple[Path, Path]
) -> None:
    from transformers import AutoModelForCausalLM

    adapter, full = tuned
    asked = samples(ANSWERS)
    loaded = AutoModelForCausalLM.from_pretrained(full)
    wanted = sorted(by_hand(model, loaded, sample) for sample in asked)
    seed = ModelConfig(path=str(model), device="cpu", dtype="float32", batch_tokens=150)
    for other, over in ((seed, str(adapter)), (ModelConfig(path=str(full), device="cpu", dtype="float32"), None)):
        every = divergences(BothModels(seed, other, over), asked)
        found = sorted((each.total, each.positions) for each in every)
        assert [count for _, count in found] == [count for _, count in wanted]
        assert [total for total, _ in found] == pytest.approx([total for total, _ in wanted], rel=1e-4)
        assert all(total > 0.001 for total, _ in found)
        measured = kl(compared(seed=seed, tuned=other, adapter=over, samples=asked))
        totals, counts = (np.array(column, dtype=float) for column in zip(*wanted, strict=True))
        mean = totals.sum() / counts.sum()
        error = np.sqrt(len(counts) / (len(counts) - 1) * ((totals - mean * counts) ** 2).sum()) / counts.sum()
        assert measured.figures["mean"] == pytest.approx(mean, rel=1e-4)
        assert measured.figures["standard_error"] == pytest.approx(error, rel=1e-3)
        assert measured.figures["tokens"] == counts.sum()


def test_a_model_does_not_diverge_from_itself(model: Path) -> None:
    itself = ModelConfig(path=str(model), device="cpu", dtype="float32")
    measured = kl(compared(seed=itself, tuned=itself, samples=samples(ANSWERS)))
    assert measured.figures["mean"] == 0


def test_a_model_that_computes_no_numbers_has_no_divergence(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    path = broken / "model.safetensors"
    weights = load_file(path)
    save_file({n: w * 1e30 if "mlp" in n else w for n, w in weights.items()}, path, {"format": "pt"})
    seed, tuned = (ModelConfig(path=str(path), device="cpu", dtype="float32") for path in (model, broken))
    with pytest.raises(UnmeasuredError, match="not finite"):
        kl(compared(seed=seed, tuned=tuned, samples=samples(ANSWERS)))


def test_weights_that_are_not_there_leave_the_divergence_out(model: Path, tmp_path: Path) -> None:
    seed = ModelConfig(path=str(model), device="cpu")
    there = measure(compared(seed=seed, tuned=ModelConfig(path=str(tmp_path / "gone")), samples=samples(ANSWERS)))
    assert "gone" in there["missing"]["kl"]
    assert "gone" in there["missing"]["parameters"]
    assert "rouge_l" in there["metrics"]


# ---- the stage


def recipe_of(model: Path, embedder: Path, rows: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(rows), "heldout": 6},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 256, "lr": 0.05},
        "evaluate": {"tasks": ["heldout", {"task": "demo-safety", "n": 5}], "sampling": {"max_new_tokens": 12}},
        "shift": {"task": "demo-safety", "embedding": str(embedder), "kl_prompts": 4},
        **changes,
    }


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", sum_rows(20))


def test_every_trained_run_is_measured_and_shown(
    model: Path,
    embedder: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by a metric that has no more than its line in METRICS."""
    monkeypatch.setitem(METRICS, "both_empty", lambda both: averaged([not (p.seed or p.tuned) for p in both.pairs]))
    arms = {
        "seed": {"data": "none"},
        "vanilla": {"data": "original"},
        "full": {"data": 0.5, "train": {"method": "full"}},
    }
    recipe, where = make_recipe(recipe_of(model, embedder, rows, arms=arms)), tmp_path / "run"
    verdict = run(recipe, where)
    assert set(verdict["shift"]) == {"vanilla", "full"}
    for name, row in verdict["shift"].items():
        assert (row["run"], row["source"], row["prompts"], row["unanswered"]) == (name, "demo-safety", 5, 0)
        assert row["missing"] == {}
        assert set(row["metrics"]) == set(METRICS)
        assert row["metrics"]["kl"]["mean"] > 0
        assert row["metrics"]["kl"]["prompts"] == row["metrics"]["kl_target"]["prompts"] == 4
        assert row["metrics"]["kl"]["tokens"] != row["metrics"]["kl_target"]["tokens"]
        assert row["parameters"]["norm"] > 0
        assert "distributions" not in row
        saved = json.loads((where / "shift" / f"{name}.json").read_text())
        assert len(saved["distributions"]["rouge_l"]) == len(saved["distributions"]["cosine"]) == 5
        assert np.mean(saved["distributions"]["rouge_l"]) == pytest.approx(row["metrics"]["rouge_l"]["mean"])

    written = (where / "shift" / "vanilla.json").stat().st_mtime_ns
    assert run(recipe, where) == verdict
    assert (where / "shift" / "vanilla.json").stat().st_mtime_ns == written
    main_with("shift", str(where), "--arm", "vanilla")
    shown = capsys.readouterr().out
    assert (where / "shift" / "vanilla.json").stat().st_mtime_ns > written
    row = next(line for line in shown.splitlines() if line.strip().startswith("full"))
    assert len(row.split()) == 1 + len(METRICS) + 1
    assert f"{verdict['shift']['full']['metrics']['rouge_l']['mean']:.3f}" in row
    assert json.loads((where / "verdict.json").read_text())["shift"] == verdict["shift"]
    assert "both empty" in (where / "report.html").read_text()


def main_with(*arguments: str) -> None:
    before, sys.argv = sys.argv, ["selfdistill", *arguments]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    finally:
        sys.argv = before


def test_arms_without_an_evaluation_are_left_out_and_named(
    model: Path, embedder: Path, rows: Path, tmp_path: Path
) -> None:
    values = recipe_of(model, embedder, rows)
    values["evaluate"] = {**values["evaluate"], "backend": "fake"}
    experiment = Experiment(tmp_path / "run", make_recipe(values))
    train(experiment)
    evaluate(experiment, arms=["seed", "vanilla"])
    verdict = shift(experiment)
    assert set(verdict["shift"]) == {"vanilla"}
    assert any(note.startswith("The shift of sdft is not measured") for note in verdict["notes"])
    # The fake backend's answers are of no model.
    assert "kl" in verdict["shift"]["vanilla"]["missing"]
    with pytest.raises(
        ExperimentError, match=r"sdft: not evaluated yet .*answer/sdft/demo-safety.*selfdistill evaluate"
    ):
        shift(experiment, arms=["sdft"])


def write_as_finished(where: Path, path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows of a finished stage as if the stage had made them: without checksums of rows and file."""
    path.write_text("".join(json.dumps({key: row[key] for key in row if key != "crc"}) + "\n" for row in rows))
    manifest = json.loads((where / "manifest.json").read_text())
    for record in manifest["stages"].values():
        record.get("files", {}).pop(str(path.relative_to(where)), None)
        record.pop("read", None)  # what was made of them stays
    del manifest["checksum"]  # it is written again
    ManifestFile(where).write(manifest)


def run_with_fake_answers(model: Path, embedder: Path, rows: Path, where: Path, arm: str) -> tuple[Path, Path]:
    """The directory and the file of an arm's answers."""
    values = recipe_of(model, embedder, rows)
    values["evaluate"] = {**values["evaluate"], "backend": "fake"}
    run(make_recipe(values), where)
    return where, where / "arms" / arm / "evaluate" / "demo-safety" / "answers.jsonl"


def test_answers_to_other_prompts_are_refused_and_named(
    model: Path, embedder: Path, rows: Path, tmp_path: Path
) -> None:
    where, path = run_with_fake_answers(model, embedder, rows, tmp_path / "run", "sdft")
    rows_there = read_rows(path)
    lost = rows_there[0]["id"]
    write_as_finished(where, path, rows_there[1:])
    with pytest.raises(ExperimentError, match=f"sdft and the seed .* demo-safety.*1 only by the seed .{lost}"):
        shift(Experiment.open(where))
    verdict = report(Experiment.open(where))
    assert set(verdict["shift"]) == {"vanilla"}
    assert any(note.startswith("The shift of sdft is not measured") for note in verdict["notes"])


def test_prompts_of_both_sides_are_named() -> None:
    check_same_prompts({"a": 1}, {"a": 2}, "sdft", "advbench")
    with pytest.raises(ExperimentError, match=r"1 only by the seed \(a\) and 4 only by sdft \(b, c, d, …\)"):
        check_same_prompts({"a": 1}, dict.fromkeys("bcde"), "sdft", "advbench")


def test_errors_and_replies_without_an_answer_are_left_out_and_counted(
    model: Path, embedder: Path, rows: Path, tmp_path: Path
) -> None:
    where, path = run_with_fake_answers(model, embedder, rows, tmp_path / "run", "vanilla")
    answers = read_rows(path)
    answers[0] |= {"text": "", "finish": "error", "error": "server went away"}
    answers[1] |= {"text": "<think>\nHm, or", "finish": "length", "error": None}
    for answer in answers[2:]:
        answer["text"] = f"<think>\n{'Hm. ' * 99}\n</think>\n\n{answer['text']}"
    write_as_finished(where, path, answers)
    row = shift(Experiment.open(where), arms=["vanilla"])["shift"]["vanilla"]
    assert (row["prompts"], row["unanswered"]) == (3, 2)
    assert row["metrics"]["length_ratio"]["mean"] == 1, "traces are not compared"


def test_the_source_is_the_recipes_then_advbench_then_the_target(model: Path, embedder: Path, rows: Path) -> None:
    from selfdistill.pipeline.context import make_context
    from selfdistill.pipeline.shift import shift_source

    def source(tasks: list[Any], **named: str) -> str | None:
        values = recipe_of(model, embedder, rows, evaluate={"tasks": tasks}, shift=named)
        entry = shift_source(make_context(make_recipe(values)))
        return entry and entry.name

    goals = {"task": "advbench", "path": "goals.csv"}
    assert source(["demo-safety", "heldout", goals]) == "advbench"
    assert source(["demo-safety", "heldout"]) == "heldout"
    assert source(["demo-safety", "heldout", goals], task="demo-safety") == "demo-safety"
    assert source(["demo-safety"]) is None
    with pytest.raises(RecipeError, match=r"shift.task: 'gsm8k' .* choose one of demo-safety"):
        source(["demo-safety"], task="gsm8k")
