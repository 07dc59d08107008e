"""The gap before training: of an experiment's rewrites, and of a dataset by itself."""

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill import Experiment, gap, make_recipe, rewrite
from selfdistill import pipeline as stages
from selfdistill.backends.hf import HFBackend
from selfdistill.measure.gap import Gap
from selfdistill.measure.likelihood import score
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.gap import gap_stage
from selfdistill.recipe import ModelConfig
from selfdistill.reports.gap_sentences import RECORD, record_sentences
from selfdistill.types import Example, Rewrite

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=256)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty rows, two of them the same, one longer than the model's context."""
    rows = sum_rows(28)
    long = {"question": "What is a thousand?", "answer": "one and " * 60 + "\n#### 1000"}
    return write_rows(tmp_path / "rows.jsonl", [*rows, rows[0], long])


def recipe_of(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(data)},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 1, "max_length": 256, "allow_unusable_rows": True},
        **changes,
    }


def own_score(model: Path, prompt: Example, text: str) -> tuple[float | None, int]:
    config = ModelConfig(path=str(model), dtype="float32", device="cpu")
    with HFBackend(config) as backend:
        (scored,) = score([Example.of(prompt.prompt, text)], *backend.loaded(), 16384)
    return scored.nll, scored.tokens


def test_every_rewritten_row_has_its_scores(model: Path, data: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, data)))
    rewrite(experiment)
    rewrites = [Rewrite.from_json(row) for row in read_rows(tmp_path / "run" / "rewrite" / "rewrites.jsonl")]
    rows = read_rows(tmp_path / "run" / "rewrite" / "gap.jsonl")
    assert [row["id"] for row in rows] == [each.example.id for each in rewrites]
    assert len(rows) == 29
    assert {row["chosen"] for row in rows} == {"original", "rewrite"}
    for row, each in zip(rows, rewrites, strict=True):
        assert row["chosen"] == each.source
        assert (row["rewrite"] is None) == (each.source == "original")
    row, each = next((row, each) for row, each in zip(rows, rewrites, strict=True) if row["rewrite"])
    for side, text in (("original", each.example.reference), ("rewrite", each.response)):
        nll, tokens = own_score(model, each.example, text)
        assert row[side] == {"nll": pytest.approx(nll, abs=1e-4), "tokens": tokens}


def test_the_counts_are_those_of_the_rows(model: Path, data: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, data)))
    rewrite(experiment)
    counts, rows = experiment.counts("gap"), read_rows(tmp_path / "run" / "rewrite" / "gap.jsonl")
    sides = {
        "original": [row["original"] for row in rows],
        "rewritten": [row["rewrite"] for row in rows if row["rewrite"]],
        "chosen": [row[row["chosen"]] for row in rows],
    }
    for name, responses in sides.items():
        scored = [(each["nll"], each["tokens"]) for each in responses if each["nll"] is not None]
        found = counts[name]
        assert (found["rows"], found["tokens"]) == (len(scored), sum(tokens for _, tokens in scored))
        assert found["nll"] == pytest.approx(statistics.fmean(nll for nll, _ in scored))
        assert found["median"] == pytest.approx(statistics.median(nll for nll, _ in scored))
        mean = sum(nll * tokens for nll, tokens in scored) / found["tokens"]
        assert found["token_nll"] == pytest.approx(mean)
        assert found["perplexity"] == pytest.approx(math.exp(mean))
        assert list(found["quantiles"].values()) == sorted(found["quantiles"].values())
    assert counts["original"]["unscored"] == {"longer than the model's context": 1}
    by_id = {row["id"]: row["original"]["nll"] for row in rows if row["original"]["nll"] is not None}
    assert counts["off_distribution"] == sorted(by_id, key=lambda name: -by_id[name])[:10]
    assert stages.report(experiment)["gap"] == counts


def test_what_is_measured_is_not_measured_again_and_another_grader_scores_only_what_is_new(
    model: Path, data: Path, tmp_path: Path
) -> None:
    values, where = recipe_of(model, data), tmp_path / "run"
    scores, result = where / "rewrite" / "likelihoods.jsonl", where / "rewrite" / "gap.jsonl"
    values["rewrite"] |= {"grader": "exact", "min_accepted": 0}  # accepts no rewrite that says a word more
    rewrite(Experiment(where, make_recipe(values)))
    before = scores.read_bytes(), result.stat().st_mtime_ns
    rewrite(Experiment(where, make_recipe(values)))
    assert (scores.read_bytes(), result.stat().st_mtime_ns) == before
    assert all(row["rewrite"] is None for row in read_rows(result))
    values["rewrite"] |= {"grader": "final_number"}
    rewrite(Experiment(where, make_recipe(values)))
    assert any(row["rewrite"] is not None for row in read_rows(result))
    assert scores.read_bytes().startswith(before[0])
    ids = [row["id"] for row in read_rows(scores)]
    assert len(ids) == len(set(ids)) > len(before[0].splitlines())


def test_an_interrupted_measurement_goes_on(model: Path, data: Path, tmp_path: Path) -> None:
    recipe = make_recipe(recipe_of(model, data))

    def stop(label: str, done: int, _total: int, _note: str = "") -> None:
        if (label, done) == ("gap", 9):
            raise KeyboardInterrupt

    rewrite(Experiment(tmp_path / "whole", recipe))
    with pytest.raises(KeyboardInterrupt):
        rewrite(Experiment(tmp_path / "again", recipe), stop)
    assert not (tmp_path / "again" / "rewrite" / "gap.jsonl").exists()
    rewrite(Experiment(tmp_path / "again", recipe))
    for name in ("likelihoods.jsonl", "gap.jsonl"):
        assert (tmp_path / "again" / "rewrite" / name).read_bytes() == (
            tmp_path / "whole" / "rewrite" / name
        ).read_bytes()


@pytest.mark.parametrize("what", ["gap: false", "openai"])
def test_the_gap_can_be_left_out_and_needs_local_weights(what: str, model: Path, data: Path, tmp_path: Path) -> None:
    values = recipe_of(model, data)
    if what == "openai":
        values["model"] |= {"server": {"url": "http://127.0.0.1:9/v1"}}
        values["rewrite"] |= {"backend": "openai"}
        assert gap_stage(make_context(make_recipe(values))) is None
        return
    where = tmp_path / "run"
    experiment = Experiment(where, make_recipe(values, ["gap=false"]))
    rewrite(experiment)
    assert not (where / "rewrite" / "gap.jsonl").exists()
    assert stages.report(experiment)["gap"] is None
    rewrite(Experiment(where, make_recipe(values)))
    assert (where / "rewrite" / "gap.jsonl").is_file()


def test_a_conversation_counts_each_of_its_turns(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "Hi"), ("assistant", "Hello."), ("user", "Two?"), ("assistant", "Two it is."))
    ]
    path.write_text(json.dumps({"messages": chat}) + "\n")
    found = gap(make_recipe({"model": {"path": str(model), "dtype": "float32"}, "data": str(path)}))
    assert (found.rows, found.original["rows"]) == (1, 2)
    # A byte is a token, and the end of turn is one.
    assert found.original["tokens"] == len("Hello.") + len("Two it is.") + 2
    assert {example.reference for _, example in found.off_distribution} == {"Hello.", "Two it is."}


def test_no_scored_row_is_no_figure() -> None:
    counts = Gap().to_json()
    assert counts["original"]["nll"] is None
    assert counts["off_distribution"] == []
    json.dumps(counts, allow_nan=False)


@pytest.mark.parametrize("run", RECORD, ids=lambda run: run.data)
def test_the_demos_gap_is_the_one_on_record(run: Any) -> None:
    recipe = {"model": {"path": "demo", "dtype": "float32"}, "task": run.data, "data": {"n": 120}}
    assert gap(make_recipe(recipe)).original["token_nll"] == pytest.approx(run.original, rel=0.06)


def test_the_record_is_that_of_the_log() -> None:
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    maths, tools = RECORD
    assert (
        f"maths {maths.original} as it is, {maths.rewritten} rewritten; tools {tools.original} and {tools.rewritten}."
        in log
    )
    words = {3: "three", 8: "eight"}
    said = " ".join(log.split())
    assert f"SDFT forgets {words[maths.sdft[0]]} of the {words[maths.others]} other tasks" in said
    assert f"by {maths.sdft[1]} points on average over the {words[maths.others]}" in said
    assert f"vanilla forgets all {words[maths.vanilla[0]]}, by {maths.vanilla[1]}" in said
    record = " ".join(record_sentences())
    assert f"with {maths.sdft[1]} points over all {maths.others}" in record
    assert "one toy model" in " ".join(record_sentences())


def test_the_gap_command_needs_no_experiment(model: Path, data: Path, command: Callable[..., Done]) -> None:
    with data.open("a") as file:
        file.write('{"question": "Why?"}\n')
    everything = gap(make_recipe(recipe_of(model, data), ["data.on_bad_row=skip"])).original
    assert everything["rows"] == 28  # the same row twice is one, and one is too long
    before = sorted(data.parent.iterdir())
    code, out, _ = command("gap", "--model", model, "--data", data, "model.dtype=float32", "model.device=cpu")
    assert code == 0
    assert "30 of 30 rows, 1 more can't be used" in " ".join(out.split())
    assert f"{everything['token_nll']:.2f} nats, perplexity {everything['perplexity']:.4g}" in out
    assert f"median {everything['median']:.2f}" in out
    assert "1 not scored: longer than the model's context." in out
    assert f"{everything['quantiles']['0.95']:.2f} at 95 %" in out
    assert "one toy model" in out
    assert "1.25 nats per token for the originals, 0.17 rewritten" in out
    assert sorted(data.parent.iterdir()) == before
    code, out, _ = command("gap", "--model", model, "--data", data, "--n", 5)
    assert (code, "5 of 30 rows" in out) == (0, True)
    assert "What is" in out


def test_the_responses_furthest_off_the_distribution_come_first_and_take_one_line(
    model: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Say\n{n}\x1b[31m", "completion": "a\n" * n + "end"} for n in range(1, 25)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = command("gap", "--model", model, "--data", path, "model.dtype=float32")
    shown = [line for line in out.splitlines() if " → " in line]
    figures = [float(line.split()[0]) for line in shown]
    assert len(figures) == 10
    assert figures == sorted(figures, reverse=True)
    assert "\x1b[31m" not in out


@pytest.mark.parametrize(
    ("model_path", "data_path", "said"),
    [("nowhere/at/all", None, "There is no model folder"), (None, "nothing.jsonl", "nothing.jsonl"),
     (None, "humaneval", "for evaluation only")],
)  # fmt: skip
def test_what_a_user_can_fix_is_one_sentence(
    model_path: str | None, data_path: str | None, said: str, model: Path, data: Path,
    command: Callable[..., Done],
) -> None:  # fmt: skip
    code, _, err = command("gap", "--model", model_path or model, "--data", data_path or data)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_rewriting_says_what_the_gap_is(model: Path, data: Path, tmp_path: Path, command: Callable[..., Done]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(model, data)), encoding="utf-8")
    code, out, _ = command("rewrite", path, "--dir", tmp_path / "run")
    counts = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]["gap"]["counts"]
    before, kept, after = (counts[name]["token_nll"] for name in ("original", "rewritten", "chosen"))
    assert code == 0
    assert (
        f"gap: under the seed, the originals cost {before:.2f} nats per token, the kept rewrites {kept:.2f}, the "
        f"responses that SDFT trains on {after:.2f}; 1 of the originals not scored (longer than the model's context)"
    ) in " ".join(out.split())
