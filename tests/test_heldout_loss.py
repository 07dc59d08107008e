"""The held-out loss: its value by the definition, its comparisons, and where it is shown."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import t as student
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill import Experiment, check, make_recipe, report, run
from selfdistill.errors import RecipeError
from selfdistill.measure.row_losses import Losses, LossPair, compare_losses, mean_loss
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.store.manifest import ManifestFile

HELD = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=256)


def recipe_of(model: Path, folder: Path, **evaluate: Any) -> dict[str, Any]:
    """Ungraded rows; the last of them is longer than the model's context, and held out in a file of its own."""
    rows = sum_rows(24 + HELD)
    long = {"question": "What is a thousand?", "answer": "one and " * 60}
    held = write_rows(folder / "held.jsonl", [*rows[24:], long])
    return {
        "model": {"path": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(write_rows(folder / "rows.jsonl", rows[:24]))},
        "rewrite": {"backend": "fake", "grader": "none", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 2, "lr": 0.02, "batch_size": 4, "max_length": 128},
        "gap": False,
        "shift": {"kl_prompts": 0},
        "evaluate": {
            "tasks": [{"task": "heldout", "path": str(held), "max_new_tokens": 2}],
            **evaluate,
        },
    }


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished experiment with two runs per arm, and its verdict."""
    folder = tmp_path_factory.mktemp("done")
    return folder / "run", run(make_recipe({**recipe_of(model, folder), "seeds": [0, 1]}), folder / "run")


def by_definition(model: Path, adapter: Path | None, rows: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """The mean −log p of the tokens of each reference and its end of turn, and their number."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    network = PeftModel.from_pretrained(network, adapter).eval() if adapter else network
    tokenizer = AutoTokenizer.from_pretrained(model)
    found = []
    for row in rows:
        messages = [{"role": "user", "content": row["question"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        response = tokenizer(row["answer"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        nats = [-logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(response)]
        found.append((math.fsum(nats) / len(nats), len(nats)))
    return found


def test_the_loss_is_that_of_its_definition(done: tuple[Path, dict[str, Any]], model: Path) -> None:
    where, verdict = done
    held = read_rows(where.parent / "held.jsonl")[:HELD]
    (found,) = verdict["heldout_loss"]
    assert found["task"] == "heldout"
    for arm, runs in (("seed", ["seed"]), ("vanilla", ["vanilla", "vanilla@1"])):
        means = []
        for name in runs:
            rows = read_rows(where / "arms" / name / "evaluate" / "heldout" / "loss.jsonl")
            expected = by_definition(model, where / "arms" / name / "model" if arm == "vanilla" else None, held)
            assert [(row["nll"], row["tokens"]) for row in rows[:HELD]] == [
                (pytest.approx(nll, abs=1e-4), tokens) for nll, tokens in expected
            ]
            assert rows[HELD]["error"] == "longer than the model's context"
            means.append(sum(nll * tokens for nll, tokens in expected) / sum(tokens for _, tokens in expected))
        own = found["arms"][arm]
        assert (own["n"], own["unscored"]) == (HELD, {"longer than the model's context": 1})
        assert own["tokens"] == sum(tokens for _, tokens in expected)
        assert own["value"] == pytest.approx(sum(means) / len(means), abs=1e-4)
        assert own["low"] < own["value"] < own["high"]
        assert own.get("runs", [own["value"]]) == pytest.approx(means, abs=1e-4)
    pairs = {(row["arm"], row["against"], row["runs"], row["n"]) for row in found["comparisons"]}
    assert pairs == {("vanilla", "seed", 2, HELD), ("sdft", "seed", 2, HELD), ("sdft", "vanilla", 2, HELD)}


def test_without_a_grader_the_loss_is_the_measure_of_the_target(done: tuple[Path, dict[str, Any]]) -> None:
    where, verdict = done
    page = (where / "report.html").read_text(encoding="utf-8")
    row = next(row for row in verdict["heldout_loss"][0]["comparisons"] if row["arm"] == "vanilla")
    size = f"{row['difference']:+.3f}".replace("-", "−")
    assert f"held-out loss per token against seed: vanilla {row['word']} ({size})" in page
    assert ">Held-out loss</h2>" in page
    assert any(f"vanilla against seed: {row['word']} ({size}," in said for said in verdict["summary"])
    assert any("it favours arms that train on originals" in note for note in verdict["notes"])
    assert any("1 of 9 (longer than the model's context)" in note for note in verdict["notes"])


def test_an_interrupted_measurement_goes_on(model: Path, tmp_path: Path, done: tuple[Path, dict[str, Any]]) -> None:
    recipe = make_recipe({**recipe_of(model, tmp_path), "seeds": [0, 1]})
    where, scores = tmp_path / "run", "arms/vanilla/evaluate/heldout/likelihoods.jsonl"

    def stop(label: str, done: int, _total: int, _note: str = "") -> None:
        if (label, done) == ("loss vanilla heldout", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, where, stop)
    before = (where / scores).read_bytes()
    assert 0 < len(before.splitlines()) < HELD
    verdict = run(recipe, where)
    assert (where / scores).read_bytes().startswith(before)
    assert len(read_rows(where / scores)) == HELD + 1
    measured, whole = verdict["heldout_loss"][0]["arms"], done[1]["heldout_loss"][0]["arms"]
    assert measured["seed"] == whole["seed"]
    assert measured["vanilla"]["value"] == pytest.approx(whole["vanilla"]["value"], abs=1e-5)
    kept = (where / scores).stat().st_mtime_ns
    run(recipe, where)
    assert (where / scores).stat().st_mtime_ns == kept


def test_runs_that_were_scored_in_different_dtypes_are_not_compared(
    tmp_path: Path, done: tuple[Path, dict[str, Any]]
) -> None:
    where, verdict = done
    arms = verdict["heldout_loss"][0]["arms"]
    assert {arms[arm]["dtype"] for arm in arms} == {"float32"}
    shutil.copytree(where, tmp_path / "run")
    manifest = ManifestFile(tmp_path / "run")
    stages = json.loads(json.dumps(manifest.read()["stages"]))
    stages["loss/sdft@1/heldout"]["counts"]["dtype"] = "bfloat16"  # as if a GPU had scored it
    manifest.write({**manifest.read(), "stages": stages})
    again = report(Experiment.open(tmp_path / "run"))
    found = again["heldout_loss"][0]
    assert {arm: own["dtype"] for arm, own in found["arms"].items()} == {
        "seed": "float32",
        "vanilla": "float32",
        "sdft": "bfloat16, float32",
    }
    assert [(row["arm"], row["against"]) for row in found["comparisons"]] == [("vanilla", "seed")]
    assert found["other_dtypes"] == [["sdft", "seed"], ["sdft", "vanilla"]]
    assert any(
        "are not compared: sdft (bfloat16, float32) against seed (float32), sdft" in note for note in again["notes"]
    )


def test_the_recipe_decides_where_it_is_measured(model: Path, tmp_path: Path) -> None:
    def measured(values: dict[str, Any]) -> set[str]:
        stages = stages_of(make_context(make_recipe(values)))
        return {stage.name for stage in stages if stage.name.startswith("loss/")}

    values = recipe_of(model, tmp_path)
    every = {"loss/seed/heldout", "loss/vanilla/heldout", "loss/sdft/heldout"}
    assert measured(values) == every
    assert measured({**values, "evaluate": {**values["evaluate"], "heldout_loss": False}}) == set()
    graded = {**values, "rewrite": {**values["rewrite"], "grader": "final_number"}}
    assert measured(graded) == set()
    assert measured({**values, "rewrite": {**values["rewrite"], "grader": "facts"}}) == every
    for task in ("dolly", "alpaca", "lima", "openhermes"):  # graded by facts
        plain = {key: value for key, value in values["rewrite"].items() if key not in ("grader", "template")}
        assert measured({**values, "task": task, "rewrite": plain}) == every, task
    assert measured({**graded, "evaluate": {**values["evaluate"], "heldout_loss": True}}) == every
    # The answers to ungraded rows need not be paid for.
    unasked = {**values, "data": {**values["data"], "heldout": 3}, "evaluate": {"tasks": ["overrefusal"]}}
    assert measured(unasked) == every
    with pytest.raises(RecipeError, match=r"heldout_loss has no rows: set data\.heldout"):
        measured({**values, "evaluate": {"tasks": ["overrefusal"], "heldout_loss": True}})
    said = "original responses of heldout, for each run"
    assert any(said in line for line in check(make_recipe(values)).plan)


def test_an_engine_without_weights_here_is_named(model: Path, tmp_path: Path) -> None:
    values = recipe_of(model, tmp_path, backend="fake")
    assert any("loss will not be measured" in line for line in check(make_recipe(values)).warnings)
    verdict = run(make_recipe({**values, "arms": {"seed": {"data": "none"}}}), tmp_path / "run")
    assert verdict["heldout_loss"] == []
    assert any("held-out loss was not measured" in note for note in verdict["notes"])


def test_held_out_rows_that_are_not_asked_are_scored_and_shown(
    model: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    values = recipe_of(model, tmp_path)
    values["data"] |= {"heldout": 5}
    values["evaluate"] = {"tasks": [{"task": "overrefusal", "n": 2, "max_new_tokens": 2}]}
    values["arms"] = {"seed": {"data": "none"}, "vanilla": {"data": "original"}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    code, out, err = command("run", path, "--dir", tmp_path / "run")
    assert code == 0, err
    (found,) = json.loads((tmp_path / "run" / "verdict.json").read_text())["heldout_loss"]
    assert [own["n"] for own in found["arms"].values()] == [5, 5]
    assert "Held-out loss in nats per token" in out
    assert f"{found['arms']['seed']['value']:.3f}" in out


# ---- the comparison of given losses


def losses(values: list[float], tokens: list[int]) -> Losses:
    return {str(place): {"nll": nll, "tokens": n} for place, (nll, n) in enumerate(zip(values, tokens, strict=True))}


def test_a_difference_is_that_of_the_means_over_tokens_with_an_interval_over_rows() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 200, 30)
    seed = rng.normal(2, 0.5, 30)
    arms = {"better": seed - rng.normal(0.3, 0.1, 30), "worse": seed + rng.normal(0.2, 0.1, 30),
            "level": seed + rng.normal(0, 0.3, 30), "same": seed}  # fmt: skip
    runs = {arm: [losses(list(nll), list(tokens))] for arm, nll in {**arms, "seed": seed}.items()}
    pairs = [LossPair(arm, "seed", runs[arm], runs["seed"], False) for arm in arms]
    rows = {row["arm"]: row for row in compare_losses(pairs)}
    words = {arm: row["word"] for arm, row in rows.items()}
    assert words == {"better": "lower", "worse": "higher", "level": "can't tell", "same": "can't tell"}
    change = (arms["level"] - seed) * tokens
    mean = change.sum() / tokens.sum()
    without = (change.sum() - change) / (tokens.sum() - tokens)
    error = math.sqrt(float(((without - mean) ** 2).sum()))  # HC3: the jackknife's without (n − 1) / n
    half = student.ppf(0.975, 29) * error
    level = rows["level"]
    assert (level["difference"], level["n"], level["tokens"]) == (pytest.approx(mean), 30, tokens.sum())
    assert (level["low"], level["high"]) == (pytest.approx(mean - half), pytest.approx(mean + half))
    assert level["p_holm"] >= level["p_value"]
    assert (rows["same"]["difference"], rows["same"]["p_value"]) == (0, 1)


def test_holm_counts_the_arms_and_one_row_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    seed, tokens = rng.normal(2, 0.5, 40), [20] * 40
    shift = seed + rng.normal(0, 1, 40)
    shift += seed.mean() - shift.mean() - 2.2 * float((shift - seed).std(ddof=1)) / math.sqrt(40)  # p is about 0.03
    pair = LossPair("one", "seed", [losses(list(shift), tokens)], [losses(list(seed), tokens)], False)
    assert [row["word"] for row in compare_losses([pair])] == ["lower"]
    assert {row["word"] for row in compare_losses([pair] * 3)} == {"can't tell"}
    single = [losses([1.0], [3])]
    assert compare_losses([LossPair("one", "seed", single, single, False)]) == []
    assert mean_loss(single) == {"n": 1, "tokens": 3, "unscored": {}, "value": 1.0, "low": None, "high": None}


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    seed, tokens = rng.normal(2, 0.5, 50), [10] * 50
    near = [losses(list(seed - 0.2 + offset), tokens) for offset in (0.0, 0.001, -0.001)]
    far = [losses(list(seed - 0.2 + offset), tokens) for offset in (0.0, 0.3, -0.3)]
    other = [losses(list(seed), tokens)]
    pairs = [LossPair("near", "seed", near, other, False), LossPair("far", "seed", far, other, False)]
    rows = compare_losses(pairs)
    assert [(row["word"], row["runs"]) for row in rows] == [("lower", 3), ("can't tell", 3)]
    assert rows[0]["difference"] == pytest.approx(rows[1]["difference"])
