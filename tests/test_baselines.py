"""Baselines: every kind of arm end to end, what each trains on, and the numbers behind masking and interpolation."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.rows import read_rows, write_rows
from support.tiny import tiny_model

from selfdistill import make_recipe, run
from selfdistill.errors import ExperimentError, ModelError, RecipeError, StageError
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.pipeline.check import check, evaluation
from selfdistill.pipeline.choose import best
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.store.experiment import Experiment
from selfdistill.store.rows import RowFile
from selfdistill.training import train
from selfdistill.training.interpolate import interpolate
from selfdistill.training.sequences import IGNORED, TrainingData, mask_unlikely, prepare
from selfdistill.types import Example, Message

TRAIN = {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 256}
SEED = {"seed": {"data": "none"}}
ARMS: dict[str, Any] = {
    **SEED,
    "vanilla": {"data": "original"},
    "sdft": {"data": "rewrites"},
    "self": {"data": "self"},
    "cascade": {"data": "cascade"},
    "best": {"data": "rewrites", "best_of": 3},
    "masked": {"data": "original", "train": {"mask_above": 5.0}},
    "dft": {"data": "original", "train": {"extra": {"loss_type": "dft"}}},
    "half-way": {"data": "interpolate", "of": "sdft", "alpha": 0.5},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions. The fake backend answers a prompt without a reference with its last line: half are right."""
    made = [
        {
            "question": f"Say what {n} plus {n} is.\nIt may be {2 * n if n % 2 else 2 * n + 1}",
            "answer": f"{n} + {n} = {2 * n}.\n#### {2 * n}",
        }
        for n in range(40)
    ]
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", made)


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [{"instruction": f"Tell of the number {n}.", "output": f"Number {n} is a number."} for n in range(30)]
    return write_rows(tmp_path_factory.mktemp("general") / "general.jsonl", made)


def recipe_of(model: Path, rows: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(rows), "heldout": 8},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": TRAIN,
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
        **changes,
    }


@pytest.fixture(scope="module")
def done(model: Path, rows: Path, general: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """All kinds of arms, run to the verdict."""
    where = tmp_path_factory.mktemp("done") / "run"
    arms = {**ARMS, "replayed": {"data": "original", "replay": {"path": str(general), "share": 0.25}}}
    return where, run(make_recipe(recipe_of(model, rows, arms=arms)), where)


def sources(where: Path, arm: str) -> Counter[str]:
    """What the rows of an arm say, which the manifest counts alike."""
    counted = Counter(row["source"] for row in read_rows(where / "arms" / arm / "data.jsonl"))
    told = json.loads((where / "manifest.json").read_text())["stages"][f"train/{arm}"]["counts"]["sources"]
    assert told == counted
    return counted


def test_every_kind_of_arm_stands_in_one_verdict(done: tuple[Path, Any]) -> None:
    verdict = done[1]
    assert verdict["arms"] == [*ARMS, "replayed"]
    (task,) = verdict["tasks"]
    assert set(task["scores"]) == set(verdict["arms"])
    against = {(row["arm"], row["against"]) for row in verdict["comparisons"]}
    assert against >= {(arm, "seed") for arm in verdict["arms"] if arm != "seed"}
    for note in ("self trains on", "replayed trains on 32 originals, 8 rows of other data."):
        assert any(note in told for told in verdict["notes"])
    # Whatever is made of the originals is compared with what trains on them as they are.
    assert {arm for arm, other in against if other == "vanilla"} == {*verdict["arms"]} - {"seed", "vanilla"}


def test_self_answers_stand_where_they_pass_and_gold_elsewhere(done: tuple[Path, Any]) -> None:
    where, _ = done
    answers = {row["id"]: row for row in read_rows(where / "rewrite" / "self" / "rewrites.jsonl")}
    assert {row["source"] for row in answers.values()} == {"self", "original"}
    for row in answers.values():
        assert (row["source"] == "self") == (row["grade"]["outcome"] == "pass")
    for row in read_rows(where / "arms" / "self" / "data.jsonl"):
        chosen = answers[row["id"]]
        own = chosen["completion"]["text"] if row["source"] == "self" else chosen["example"]["reference"]
        assert row["response"] == own
        assert "It may be" in row["prompt"][0]["content"]  # asked as it is trained: no reference was shown
    assert sources(where, "self").total() == 32


def test_a_cascade_prefers_own_answers_then_rewrites_then_gold(done: tuple[Path, Any]) -> None:
    where, _ = done
    own = {row["id"]: row for row in read_rows(where / "rewrite" / "self" / "rewrites.jsonl")}
    guided = {row["id"]: row for row in read_rows(where / "rewrite" / "rewrites.jsonl")}
    for row in read_rows(where / "arms" / "cascade" / "data.jsonl"):
        name, source, text = row["id"], row["source"], row["response"]
        if own[name]["source"] == "self":
            assert (source, text) == ("self", own[name]["completion"]["text"])
        elif guided[name]["source"] == "rewrite":
            assert (source, text) == ("rewrite", guided[name]["completion"]["text"])
        else:
            assert (source, text) == ("original", guided[name]["example"]["reference"])
    counted = sources(where, "cascade")
    assert min(counted["self"], counted["rewrite"]) > 0
    assert counted["original"] < sources(where, "sdft")["original"]


def test_the_best_of_k_is_the_likeliest_that_passes(done: tuple[Path, Any], model: Path) -> None:
    import torch

    where, _ = done
    folders = [where / "rewrite" / name for name in ("", "sample-1", "sample-2")]
    sets = [{row["id"]: row for row in read_rows(folder / "rewrites.jsonl")} for folder in folders]
    config = ModelConfig(path=str(model), dtype="float32")
    weights, renderer = load_model(config).eval(), load_renderer(config)

    def nll(row: dict[str, Any]) -> float:
        prompt = tuple(Message(**message) for message in row["example"]["prompt"])
        sequence = renderer.response_row(prompt, row["completion"]["text"])
        ids = torch.tensor([sequence.input_ids])
        with torch.no_grad():
            logits = weights(ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        return float(each[torch.tensor(sequence.trained[1:])].mean())

    samples = Counter[int]()
    for row in read_rows(where / "rewrite" / "best-3.jsonl"):
        passed = [each[row["id"]] for each in sets if each[row["id"]]["source"] == "rewrite"]
        if not passed:
            assert row["source"] == "original"
            continue
        samples[row["sample"]] += 1
        assert nll(row) == pytest.approx(min(map(nll, passed)), abs=1e-5)
        if len(passed) > 1:
            assert row["nll"] == pytest.approx(nll(row), abs=1e-5)
    assert len(samples) > 1
    # More draws, so fewer rows without a rewrite that passes.
    assert sources(where, "best")["rewrite"] > sources(where, "sdft")["rewrite"]


def test_a_tie_goes_to_the_first_and_what_has_no_score_comes_last(tmp_path: Path) -> None:
    from selfdistill.pipeline.choose import to_score

    def row(text: str, source: str = "rewrite") -> dict[str, Any]:
        example = {"id": "0" * 16, "prompt": [{"role": "user", "content": "?"}], "reference": "r", "extra": {}}
        outcome = "pass" if source == "rewrite" else "fail"
        verdict = {"outcome": outcome, "reason": "", "expected": None, "found": None}
        completion = {"id": "1" * 16, "text": text, "finish": "stop", "tokens": 1, "error": None}
        return {"id": "0" * 16, "source": source, "example": example, "completion": completion, "grade": verdict}

    rows = [row("a"), row("no", "original"), row("b"), row("c"), row("d")]
    with RowFile(tmp_path / "scores.jsonl") as scores:
        for example, nll in zip(to_score(rows, "m"), (None, 1.0, 1.0, 2.0), strict=True):
            scores.append({"id": example.id, "nll": nll, "tokens": 1})
    with RowFile(tmp_path / "scores.jsonl", reading=True) as scores:
        chosen = best(rows, scores, "m")
        assert (chosen["completion"]["text"], chosen["sample"], chosen["nll"]) == ("b", 2, 1.0)
        assert best([row("no", "original"), row("x")], scores, "m")["sample"] == 1
        assert best([row("no", "original")], scores, "m")["source"] == "original"


def test_replay_adds_its_share_of_rows_as_they_are(done: tuple[Path, Any], general: Path) -> None:
    where, _ = done
    assert sources(where, "replayed") == {"original": 32, "replay": 8}
    texts = {row["output"] for row in read_rows(general)}
    replayed = [row for row in read_rows(where / "arms" / "replayed" / "data.jsonl") if row["source"] == "replay"]
    assert {row["response"] for row in replayed} <= texts
    plain = read_rows(where / "arms" / "vanilla" / "data.jsonl")
    assert read_rows(where / "arms" / "replayed" / "data.jsonl")[: len(plain)] == plain


def test_replay_never_brings_in_what_is_held_out(model: Path, rows: Path, tmp_path: Path) -> None:
    arms = {**SEED, "replayed": {"data": "original", "replay": {"path": str(rows), "share": 1.0}}}
    run(make_recipe(recipe_of(model, rows, arms=arms)), tmp_path / "run")
    held = {row["messages"][0]["content"] for row in read_rows(tmp_path / "run" / "data" / "heldout.jsonl")}
    trained = {row["prompt"][0]["content"] for row in read_rows(tmp_path / "run" / "arms" / "replayed" / "data.jsonl")}
    assert not held & trained
    later = ["Thanks.", "You are welcome."]
    chats = [
        {"instruction": later[0], "output": later[1], "history": [[row["question"], row["answer"]]]}
        for row in read_rows(rows)
    ]
    write_rows(tmp_path / "chats.jsonl", chats)
    arms["replayed"]["replay"] = {"path": str(tmp_path / "chats.jsonl"), "share": 1.0}
    run(make_recipe(recipe_of(model, rows, arms=arms)), tmp_path / "chats")
    trained_rows = read_rows(tmp_path / "chats" / "arms" / "replayed" / "data.jsonl")
    assert sum(row["source"] == "replay" for row in trained_rows) == 2 * 32
    assert not held & {row["prompt"][0]["content"] for row in trained_rows}, "also in an earlier turn"
    arms["replayed"]["replay"] = {"path": str(rows), "share": 1.1}
    with pytest.raises(StageError, match=r"has 32 rows to replay, and a share of 1.1 of 32 rows is 35"):
        run(make_recipe(recipe_of(model, rows, arms=arms)), tmp_path / "more")


def test_a_second_run_does_nothing_and_a_changed_arm_is_named(
    done: tuple[Path, Any], model: Path, rows: Path, general: Path, tmp_path: Path
) -> None:
    where = tmp_path / "run"
    shutil.copytree(done[0], where)
    arms = {**ARMS, "replayed": {"data": "original", "replay": {"path": str(general), "share": 0.25}}}
    made = {path: path.stat().st_mtime_ns for path in where.glob("**/*") if path.suffix in (".jsonl", ".safetensors")}
    assert run(make_recipe(recipe_of(model, rows, arms=arms)), where) == done[1]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for arm, change, message in (
        ("best", {"best_of": 2}, r"train/best: arms\.best\.best_of \(3 → 2\)"),
        ("half-way", {"alpha": 0.25}, r"train/half-way: arms\.half-way\.alpha \(0.5 → 0.25\)"),
        ("half-way", {"of": "vanilla"}, r"train/half-way: arms\.half-way\.of \(sdft → vanilla\)"),
        ("masked", {"train": {"mask_above": 4.0}}, r"train/masked: arms\.masked\.train\.mask_above \(5.0 → 4.0\)"),
        ("dft", {"train": {}}, r"train/dft: train\.extra\.loss_type \(dft → unset\)"),
        ("replayed", {"replay": {"path": str(general), "share": 0.5}}, r"replay.share \(0.25 → 0.5\)"),
    ):
        changed = {**arms, arm: {**arms[arm], **change}}
        with pytest.raises(ExperimentError, match=message):
            run(make_recipe(recipe_of(model, rows, arms=changed)), where)
    hygienic = recipe_of(model, rows, arms=arms)
    hygienic["rewrite"] = {**hygienic["rewrite"], "filters": {"min_length_ratio": None, "max_repeats": 3}}
    with pytest.raises(ExperimentError, match=r"settings for train/\w+: rewrite\.filters\.max_repeats \(8 → 3\)"):
        run(make_recipe(hygienic), where)


def test_nothing_is_generated_that_no_arm_needs(model: Path, rows: Path, tmp_path: Path) -> None:
    arms = {**SEED, "self": {"data": "self"}}
    run(make_recipe(recipe_of(model, rows, arms=arms, evaluate={"tasks": []})), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "rewrite").iterdir()) == ["self"]
    arms["few"] = {"data": "rewrites", "best_of": 2}
    run(make_recipe(recipe_of(model, rows, arms=arms, evaluate={"tasks": []})), tmp_path / "run")
    assert (tmp_path / "run" / "rewrite" / "sample-1").is_dir()
    assert not (tmp_path / "run" / "rewrite" / "sample-2").exists()
    assert not (tmp_path / "run" / "rewrite" / "cascade.jsonl").exists()


def test_prompts_that_repeat_are_asked_once_and_graded_each(model: Path, tmp_path: Path) -> None:
    """Without the reference two rows with one question have one prompt, and each its own answer to be right about."""
    made = [{"question": f"Which?\nIt is {n // 2}", "answer": f"#### {n // 2 + n % 2}"} for n in range(24)]
    path = write_rows(tmp_path / "rows.jsonl", made)
    values = recipe_of(model, path, arms={**SEED, "self": {"data": "self"}}, data={"path": str(path)})
    values["evaluate"] = {"tasks": []}
    run(make_recipe(values), tmp_path / "run")
    folder = tmp_path / "run" / "rewrite" / "self"
    assert len(read_rows(folder / "completions.jsonl")) == 12
    answers = read_rows(folder / "rewrites.jsonl")
    assert len(answers) == 24
    by_reference = {row["example"]["reference"]: row["source"] for row in answers if "It is 5" in str(row["example"])}
    assert by_reference == {"#### 5": "self", "#### 6": "original"}


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"data": "interpolate", "of": "vanilla"}, "needs `of`, the arm to go towards, and `alpha`"),
        ({"data": "interpolate", "of": "vanila", "alpha": 0.5}, "names no arm that is trained; choose vanilla"),
        ({"data": "interpolate", "of": "seed", "alpha": 0.5}, "names no arm that is trained"),
        ({"data": "interpolate", "of": "vanilla", "alpha": 1.5}, "alpha"),
        (
            {"data": "interpolate", "of": "vanilla", "alpha": 0.5, "train": {"lr": 1e-5}},
            "leave out n, replay and train",
        ),
        ({"data": "original", "alpha": 0.5}, "belong to `data: interpolate`"),
        ({"data": "original", "best_of": 4}, "`best_of` chooses among rewrites"),
        ({"data": "self", "best_of": 4}, "`best_of` chooses among rewrites"),
        ({"data": "rewrites", "best_of": 1}, "best_of"),
        ({"data": "none", "replay": {"path": "d", "share": 0.1}}, "`data: none` trains nothing"),
        ({"data": "original", "replay": {"share": 0.1}}, "name the data to replay"),
        ({"data": "original", "replay": {"path": "d"}}, "share"),
        ({"data": "original", "train": {"mask_above": 0}}, "mask_above"),
        ({"data": "selfie"}, "choose none, original, rewrites, self, cascade, interpolate, checkpoint, or a mix ratio"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(arm: dict[str, Any], message: str) -> None:
    values = {"model": "m", "data": "d", "arms": {**SEED, "vanilla": {"data": "original"}, "odd": arm}}
    with pytest.raises(RecipeError, match=message):
        make_recipe(values)


def test_what_the_rest_of_the_recipe_rules_out_is_refused(model: Path, rows: Path) -> None:
    arms = {**SEED, "best": {"data": "rewrites", "best_of": 2}}
    with pytest.raises(RecipeError, match="greedy rewrites would all be the same"):
        make_recipe(recipe_of(model, rows, arms=arms, rewrite={"sampling": {"preset": "greedy"}}))
    arms = {**SEED, "old": {"data": "original", "replay": {"task": "humaneval", "share": 0.1}}}
    with pytest.raises(RecipeError, match="names no training data to replay"):
        _ = stages_of(make_context(make_recipe(recipe_of(model, rows, arms=arms))))


def test_check_tells_what_each_arm_trains_on(model: Path, rows: Path, general: Path) -> None:
    arms = {**ARMS, "replayed": {"data": "original", "replay": {"path": str(general), "share": 0.25}}}
    told = "\n".join(check(make_recipe(recipe_of(model, rows, arms=arms))).plan)
    for expected in (
        "self: the seed's own answers that pass, else originals",
        "cascade: the seed's own answers, else rewrites, else originals",
        "best: the likeliest of 3 rewrites",
        "half-way: 0.5 of the way from the seed to sdft, untrained",
        f"replayed: original, with 25 % as many rows of {general}",
        "masked: original, no loss on tokens over 5 nats",
        "dft loss",
    ):
        assert expected in told, told


def test_check_warns_where_no_grader_tells_right_from_wrong_and_of_an_embedding_that_is_not_there(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    values = recipe_of(model, rows, arms={**SEED, "own": {"data": "self"}}, shift={"embedding": str(tmp_path / "no")})
    warned = " ".join(check(make_recipe(values)).warnings)
    assert "No grader" not in warned
    assert f"there is no folder {tmp_path / 'no'}" in warned
    values["rewrite"] = {"backend": "fake"}
    assert "right or wrong, and own would train on it" in " ".join(check(make_recipe(values)).warnings)


def test_check_names_what_the_shift_will_lack(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**changes: Any) -> list[str]:
        found = check(make_recipe(recipe_of(model, rows, **changes)))
        return [line for line in found.warnings if line.startswith("The shift will lack")]

    monkeypatch.setattr(evaluation, "find_spec", lambda _: True)
    (line,) = told(shift={"embedding": "org/nowhere"})
    assert line.startswith(
        "The shift will lack the cosine of embeddings. The embedding model org/nowhere can't be loaded"
    )
    assert "was not downloaded before, and can't be looked up on the hub); set shift.embedding to a folder" in line
    (line,) = told(shift={"embedding": str(tmp_path)})
    assert "the folder holds no modules.json" in line
    (tmp_path / "modules.json").write_text("[]")
    assert told(shift={"embedding": str(tmp_path)}) == []
    assert told(arms=SEED, shift={"embedding": "org/nowhere"}) == []
    monkeypatch.setattr(evaluation, "find_spec", lambda _: None)
    assert told(shift={"embedding": str(tmp_path)}) == [
        "The shift will lack BLEU, ROUGE, the cosine of embeddings; pip install 'selfdistill[shift]' installs the "
        "packages."
    ]


def examples(count: int = 6) -> list[Example]:
    return [Example.of((Message("user", f"What is {n}?"),), f"It is {n}, I think.") for n in range(count)]


def test_masked_tokens_get_no_loss_and_no_gradient(model: Path) -> None:
    """Against a direct computation: labels, counts and loss of the tokens at most `above` nats, and only these."""
    import torch

    from selfdistill.measure.likelihood import score_tokens

    config, above = ModelConfig(path=str(model), dtype="float32"), 6.0
    weights, renderer = load_model(config).eval(), load_renderer(config)
    data = prepare(examples(), renderer, 256, False)
    plain = prepare(examples(), renderer, 256, False)
    mask_unlikely(data, score_tokens((ids.tolist() for ids in data.input_ids), weights, 512), above)
    masked = 0
    for ids, labels, before in zip(data.input_ids, data.labels, plain.labels, strict=True):
        with torch.no_grad():
            logits = weights(torch.tensor([ids.tolist()])).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:].tolist()), reduction="none").numpy()
        expected = np.where(nll > above, IGNORED, before[1:])
        assert (labels[1:] == expected).all()
        masked += int(((before[1:] != IGNORED) & (nll > above)).sum())
    assert 0 < masked < plain.trained_tokens
    assert (data.masked_tokens, data.trained_tokens) == (masked, plain.trained_tokens - masked)
    # The logits of what is masked get no gradient.
    logits = torch.randn(len(data.labels[0]), 300, requires_grad=True)
    labels = torch.tensor(data.labels[0].tolist())
    torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED).backward()
    assert logits.grad is not None
    silent = logits.grad[:-1].abs().sum(1) == 0
    assert (silent == (labels[1:] == IGNORED)).all()


def test_masking_trains_on_fewer_tokens_and_says_how_many(model: Path, tmp_path: Path) -> None:
    settings = TrainConfig(**TRAIN)
    config = ModelConfig(path=str(model), dtype="float32")
    plain = train(examples(), config, settings, tmp_path / "plain")
    masked = train(examples(), config, settings.model_copy(update={"mask_above": 6.0}), tmp_path / "masked")
    assert masked.masked_tokens > 0
    assert masked.trained_tokens + masked.masked_tokens == plain.trained_tokens
    assert masked.loss < plain.loss  # the dear tokens are what is left out
    assert masked.fingerprint != plain.fingerprint
    few = [Example.of((Message("user", f"q{n}"),), "abcdefgh"[n]) for n in range(8)]
    rows = {"mask_above": 4.9, "batch_size": 1, "micro_batch_size": 1, "max_steps": -1, "epochs": 1}
    single = train(few, config, settings.model_copy(update=rows), tmp_path / "single")
    assert single.trained_tokens < single.steps  # of some steps nothing is left to train on
    with pytest.raises(StageError, match="leaves no token to train on; raise it"):
        train(examples(), config, settings.model_copy(update={"mask_above": 1e-6}), tmp_path / "none")
    with pytest.raises(StageError, match="can't be scored"):
        mask_unlikely(TrainingData(labels=[np.array([1, 2])]), [_unscored()], 1.0)


def _unscored() -> Any:
    from selfdistill.measure.likelihood import Scored

    return Scored("0", None, 1, error="out of memory")


def test_without_masking_a_training_is_what_it_was(model: Path) -> None:
    assert TrainConfig().deciding("train")["mask_above"] is None
    assert TrainConfig(mask_above=1.0).deciding("train")["mask_above"] == 1.0


def test_dft_weights_each_token_by_its_own_probability(model: Path, tmp_path: Path) -> None:
    """arXiv 2508.05629: p · log p with p held constant, so that the gradient is p times that of the likelihood."""
    import torch

    config = ModelConfig(path=str(model), dtype="float32")
    changes = {"batch_size": 6, "micro_batch_size": 6, "max_steps": 1, "dtype": "float32"}
    settings = TrainConfig(**{**TRAIN, **changes, "extra": {"loss_type": "dft"}})
    result = train(examples(), config, settings, tmp_path / "dft")
    weights, renderer = load_model(config).eval(), load_renderer(config)
    data = prepare(examples(), renderer, 256, False)
    losses = []
    for ids, labels in zip(data.input_ids, data.labels, strict=True):
        with torch.no_grad():
            logits = weights(torch.tensor([ids.tolist()])).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:].tolist()), reduction="none").numpy()
        losses += list((nll * np.exp(-nll))[labels[1:] != IGNORED])
    assert result.loss == pytest.approx(float(np.mean(losses)), rel=1e-4)
    assert result.settings["extra"] == {"loss_type": "dft"}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_scaled_adapter_is_the_mix_of_seed_and_merged_weights(model: Path, tmp_path: Path, alpha: float) -> None:
    import torch

    config = ModelConfig(path=str(model), dtype="float32")
    settings = TrainConfig(**{**TRAIN, "max_steps": 3, "lr": 0.01})
    train(examples(), config, settings, tmp_path / "tuned")
    counts = interpolate(config, tmp_path / "tuned" / "model", alpha, tmp_path / "between")
    assert counts["changed"] * 2 == counts["tensors"] > 0
    seed = load_model(config).state_dict()
    tuned: Any = load_model(config, str(tmp_path / "tuned" / "model"))
    between: Any = load_model(config, str(tmp_path / "between"))
    merged, made = tuned.merge_and_unload().state_dict(), between.merge_and_unload().state_dict()
    assert max(float((merged[name] - seed[name]).abs().max()) for name in seed) > 1e-3
    for name in seed:
        torch.testing.assert_close(made[name], (1 - alpha) * seed[name] + alpha * merged[name], atol=1e-6, rtol=0)


def test_full_weights_are_mixed_file_by_file(model: Path, tmp_path: Path) -> None:
    import torch

    config = ModelConfig(path=str(model), dtype="float32")
    other = ModelConfig(path=str(tiny_model(tmp_path / "tuned", seed=1)), dtype="float32")
    load_model(other).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    interpolate(config, tmp_path / "shards", 0.25, tmp_path / "between")
    seed, tuned = load_model(config).state_dict(), load_model(other).state_dict()
    made = load_model(config.model_copy(update={"path": str(tmp_path / "between")})).state_dict()
    for name in seed:
        torch.testing.assert_close(made[name], 0.75 * seed[name] + 0.25 * tuned[name], atol=1e-6, rtol=0)
    wider = tiny_model(tmp_path / "wider", special=("<more>",))
    with pytest.raises(ModelError, match=r"embed_tokens.weight has the shape"):
        interpolate(config, wider, 0.5, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_an_adapter_that_is_more_than_lora_is_not_scaled(model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "dora").mkdir()
    (tmp_path / "dora" / "adapter_config.json").write_text('{"use_dora": true}')
    save_file({"base_model.q_proj.lora_A.weight": torch.ones(2, 2)}, tmp_path / "dora" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="not a plain LoRA adapter"):
        interpolate(ModelConfig(path=str(model)), tmp_path / "dora", 0.5, tmp_path / "out")


def test_interpolated_runs_follow_the_training_seeds_and_full_training(model: Path, rows: Path, tmp_path: Path) -> None:
    import torch

    arms = {**SEED, "full": {"data": "original", "train": {"method": "full"}},
            "wise": {"data": "interpolate", "of": "full", "alpha": 0.5}}  # fmt: skip
    recipe = make_recipe(recipe_of(model, rows, arms=arms, seeds=[0, 1]))
    verdict = run(recipe, tmp_path / "run")
    (task,) = verdict["tasks"]
    assert set(task["runs"]["wise"]) == {"wise", "wise@1"}
    config = ModelConfig(path=str(model), dtype="float32")
    seed = load_model(config).state_dict()
    for end in ("", "@1"):
        tuned, made = (
            load_model(config.model_copy(update={"path": str(tmp_path / "run" / "arms" / f"{arm}{end}" / "model")}))
            for arm in ("full", "wise")
        )
        for name, value in tuned.state_dict().items():
            torch.testing.assert_close(made.state_dict()[name], (seed[name] + value) / 2, atol=1e-6, rtol=0)
    assert make_context(recipe).baseline_arm("wise") == "full"


def test_an_interpolated_arm_alone_trains_what_it_is_made_from(model: Path, rows: Path, tmp_path: Path) -> None:
    from selfdistill import train as train_arms

    arms = {**SEED, "vanilla": {"data": "original"}, "self": {"data": "self"},
            "wise": {"data": "interpolate", "of": "vanilla", "alpha": 0.1}}  # fmt: skip
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, rows, arms=arms)))
    train_arms(experiment, arms=["wise"])
    made = {path.parent.name for path in (tmp_path / "run" / "arms").glob("*/model")}
    assert made == {"vanilla", "wise"}
    shutil.rmtree(tmp_path / "run" / "arms" / "vanilla" / "model")
    shutil.rmtree(tmp_path / "run" / "arms" / "wise")
    train_arms(experiment, arms=["wise"])  # what is gone is made again
    assert {path.parent.name for path in (tmp_path / "run" / "arms").glob("*/model")} == made
