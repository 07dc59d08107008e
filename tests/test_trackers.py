"""Trackers get a training's log, the scores and the verdict, read back with each tracker's own reader."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.tiny import tiny_model

from selfdistill import load_recipe, run
from selfdistill.pipeline import report
from selfdistill.recipe import ModelConfig, TrainConfig, make_recipe
from selfdistill.store.experiment import Experiment
from selfdistill.store.rows import write_lines
from selfdistill.training import trackers, train
from selfdistill.training.launch import launch
from selfdistill.training.sequences import trained_row
from selfdistill.types import Example, Message

INSTALLED = [name for name in trackers.TRACKERS if find_spec(name)]
ROWS = [Example.of((Message("user", f"What follows {i}?"),), f"After {i} comes {i + 1}.") for i in range(4)]
QUICK: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "micro_batch_size": 2, "dtype": "float32"}
SMALL = [
    "data.n=8", "train.max_steps=2", "evaluate.tasks=[{task: demo-maths, n: 6}, {task: demo-lists, n: 6}]",
    "shift.task=null", "gap=false",
]  # fmt: skip


def locally(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Every tracker writes below `root`, and asks no server."""
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("WANDB_MODE", "offline")
    patch.setenv("WANDB_DIR", str(root))
    patch.setenv("MLFLOW_TRACKING_URI", (root / "mlruns").as_uri())
    patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    patch.setenv("TRACKIO_DIR", str(root / "trackio"))
    if "mlflow" in INSTALLED:
        import mlflow

        mlflow.set_tracking_uri((root / "mlruns").as_uri())


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment that reported to every tracker that is installed, in a folder with what they wrote."""
    from selfdistill.demo import RECIPE

    if not INSTALLED:
        pytest.skip("no tracker is installed")
    root = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        locally(root, patch)
        run(load_recipe(RECIPE, [*SMALL, f"train.report_to={json.dumps(INSTALLED)}"]), root / "small")
        yield root / "small"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    locally(tmp_path, monkeypatch)
    return ModelConfig(path=str(tiny_model(tmp_path / "seed")), device="cpu")


# ---- what each tracker holds of a run: its last numbers and its words


def tensorboard(experiment: Path, name: str) -> tuple[dict[str, float], dict[str, str]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(experiment / "tensorboard" / name)).Reload()
    numbers = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    texts = [tag for tag in events.Tags()["tensors"] if tag.startswith("verdict/")]
    words = {tag.removesuffix("/text_summary"): events.Tensors(tag)[-1].tensor_proto.string_val[0] for tag in texts}
    return numbers, {tag: word.decode() for tag, word in words.items()}


def mlflow(experiment: Path, name: str) -> tuple[dict[str, float], dict[str, str]]:
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment.name)
    assert found is not None
    (own,) = [each for each in client.search_runs([found.experiment_id]) if each.info.run_name == name]
    numbers = {(f"train/{tag}" if tag == "loss" else tag): value for tag, value in own.data.metrics.items()}
    return numbers, dict(own.data.tags)


def wandb(experiment: Path, name: str) -> tuple[dict[str, float], dict[str, str]]:
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {}
    for path in sorted(
        (experiment.parent / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns
    ):
        records = [wandb_internal_pb2.Record.FromString(data) for data in records_of(path.read_bytes())]
        (own,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
        if (own.run_group, own.display_name) != (experiment.name, name):
            continue
        for record in records:
            items = record.history.item if record.HasField("history") else record.summary.update
            found |= {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}
    numbers = {tag: value for tag, value in found.items() if isinstance(value, int | float)}
    return numbers, {tag: value for tag, value in found.items() if isinstance(value, str)}


def records_of(log: bytes) -> Iterator[bytes]:
    """The records of a W&B file: LevelDB's log format after a header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(log):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


def trackio(experiment: Path, name: str) -> tuple[dict[str, float], dict[str, str]]:
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[str, Any] = {}
    for row in SQLiteStorage.get_logs(experiment.name, name):
        found |= row
    numbers = {tag: value for tag, value in found.items() if isinstance(value, int | float)}
    return numbers, {tag: value for tag, value in found.items() if isinstance(value, str)}


READERS: dict[str, Callable[..., tuple[dict[str, float], dict[str, str]]]] = {
    "tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb, "trackio": trackio,
}  # fmt: skip


# ---- tests


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_tracker_holds_the_log_the_scores_and_the_verdict(name: str, tracked: Path) -> None:
    pytest.importorskip(name)
    verdict = json.loads((tracked / "verdict.json").read_text())
    losses = [json.loads(line)["loss"] for line in (tracked / "arms/sdft/train.jsonl").read_text().splitlines()]
    numbers, words = READERS[name](tracked, "sdft")
    assert numbers["train/loss"] == pytest.approx(losses[-1], abs=1e-4)
    for task in verdict["tasks"]:
        score = task["scores"]["sdft"]
        assert numbers[f"eval/{task['task']}"] == pytest.approx(score["value"], abs=1e-6)
        assert numbers[f"eval_low/{task['task']}"] == pytest.approx(score["low"], abs=1e-6)
        (change,) = [row for row in verdict["comparisons"] if (row["task"], row["arm"], row["against"])
                     == (task["task"], "sdft", "seed")]  # fmt: skip
        assert words[f"verdict/{task['task']}"] == change["word"]
    assert words["verdict/scope"] == "in this training run"
    seed, _ = READERS[name](tracked, "seed")
    assert seed["eval/demo-maths"] == pytest.approx(verdict["tasks"][0]["scores"]["seed"]["value"], abs=1e-6)
    assert "train/loss" not in seed


def test_nothing_is_sent_twice(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trackers.TRACKERS:
        monkeypatch.setitem(trackers.TRACKERS, name, Failing())
    report(Experiment.open(tracked))


def test_report_to_is_outside_of_the_fingerprint() -> None:
    assert TrainConfig(report_to=["wandb"]).deciding("train") == TrainConfig().deciding("train")


def test_a_server_that_is_down_costs_one_warning(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = pytest.importorskip("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING, logger="selfdistill"):
        result = train(ROWS, model, TrainConfig(**QUICK, report_to=["mlflow"]), tmp_path / "exp" / "arms" / "sdft")
    assert result.steps == 3
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("selfdistill")]
    assert said.startswith("The tracker mlflow failed (")
    assert said.endswith("the run goes on without it.")


def test_mlflow_that_goes_down_during_the_training_costs_one_warning(
    model: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    mlflow = pytest.importorskip("mlflow")

    def go_down(step: int, steps: int, loss: float | None) -> None:
        if step == 1:
            mlflow.set_tracking_uri("http://127.0.0.1:9")

    with caplog.at_level(logging.WARNING, logger="selfdistill"):
        train(ROWS, model, TrainConfig(**QUICK, report_to=["mlflow"]), tmp_path / "exp" / "arms" / "sdft", go_down)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("selfdistill")]
    assert said.startswith("The tracker mlflow failed (")
    assert "ERROR mlflow" not in capfd.readouterr().err


class Failing:
    """A tracker whose server goes down after the first step."""

    def lacks(self) -> str | None:
        return None

    def begin(self, run: trackers.TrackedRun) -> None: ...

    def callback(self) -> Any:
        from transformers import TrainerCallback

        class Broken(TrainerCallback):
            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                raise ConnectionError("connection reset")

        return Broken()

    def scores(self, run: trackers.TrackedRun, numbers: Any, words: Any) -> None:
        pytest.fail("sent again")

    def end(self) -> None:
        raise ConnectionError("connection reset")


def test_a_server_that_goes_down_during_the_training_costs_one_warning(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "trackio", Failing())
    with caplog.at_level(logging.WARNING, logger="selfdistill"):
        train(ROWS, model, TrainConfig(**QUICK, report_to=["trackio"]), tmp_path / "run")
    assert len([record for record in caplog.records if "trackio failed (connection reset)" in record.getMessage()]) == 1


def test_launched_workers_report_once(model: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, directory = tmp_path / "data.jsonl", tmp_path / "exp" / "arms" / "sdft"
    write_lines(data, [trained_row(row, row.reference, "original") for row in ROWS])
    settings = TrainConfig(**QUICK, launch={"processes": 2}, report_to=["tensorboard", "trackio"])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, logger="selfdistill"):
        patch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9")
        launch(data, model, settings, directory)
    events = EventAccumulator(str(tmp_path / "exp" / "tensorboard" / "sdft")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert len(list((tmp_path / "exp" / "tensorboard" / "sdft").iterdir())) == 1
    said = [record.getMessage() for record in caplog.records if "The tracker" in record.getMessage()]
    (only,) = said
    assert only.startswith("The tracker trackio failed (")  # its server is down


def test_a_resumed_training_reaches_the_same_run(tmp_path: Path) -> None:
    first = trackers.tracked_run(tmp_path / "exp" / "arms" / "sdft")
    again = trackers.tracked_run(tmp_path / "exp" / "arms" / "sdft", step=7)
    assert (first.experiment, first.name, first.id) == ("exp", "sdft", again.id)
    assert trackers.tracked_run(tmp_path / "exp" / "arms" / "vanilla").id != first.id


def test_a_missing_package_is_found_before_the_run(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    (tmp_path / "data.jsonl").write_text('{"question": "One?", "answer": "One."}\n' * 3)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: demo\ndata: {path: data.jsonl}\ntrain: {report_to: [wandb, mlflow]}\n")
    for words in (["check", recipe], ["run", recipe, "--dir", tmp_path / "run"]):
        done = command(*words)
        assert done.code == 2 if words[0] == "run" else done.code
        assert "`pip install selfdistill[wandb]` installs it" in done.said
        assert "`pip install selfdistill[mlflow]` installs it" in done.said
    assert not (tmp_path / "run" / "arms").exists()


def test_a_tracker_that_does_not_exist_is_refused() -> None:
    from selfdistill.errors import RecipeError

    with pytest.raises(RecipeError, match="trackio"):
        make_recipe({"model": "demo", "task": "demo-maths", "train": {"report_to": ["tensorbord"]}})
