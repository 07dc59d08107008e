"""Files that came to harm are found, named, put aside, and only that part is done again; the long form is in chaos/."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill import Experiment, make_recipe, regrade, report, rewrite, run
from selfdistill.errors import ExperimentError
from selfdistill.recipe import ModelConfig, Recipe, TrainConfig
from selfdistill.store.manifest import ManifestFile
from selfdistill.store.rows import file_checksum
from selfdistill.training import train
from selfdistill.types import Example, Message


def values(folder: Path) -> dict[str, Any]:
    return {
        "model": {"path": str(folder / "model"), "dtype": "float32"},
        "data": {"path": str(folder / "rows.jsonl"), "heldout": 4},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
        "arms": {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}},
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe and the directory of its finished run."""
    folder = tmp_path_factory.mktemp("made")
    tiny_model(folder / "model")
    write_rows(folder / "rows.jsonl", sum_rows(20))
    recipe = make_recipe(values(folder))
    run(recipe, folder / "run")
    return recipe, folder / "run"


def contents(where: Path) -> dict[str, list[bytes]]:
    """Every result, its lines in any order: rows that are made again are appended. train.json holds seconds."""
    patterns = ["data/*.jsonl", "rewrite/*.jsonl", "arms/**/*.jsonl", "arms/*/model/*", "**/score.json", "shift/*"]
    found = {path for pattern in patterns for path in where.glob(pattern) if path.name != "train.jsonl"}
    return {str(path.relative_to(where)): sorted(path.read_bytes().splitlines()) for path in found}


def flip(path: Path, share: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 4
    path.write_bytes(content)


@pytest.fixture
def copied(made: tuple[Recipe, Path], tmp_path: Path) -> tuple[Recipe, Path, Path]:
    """The recipe, its finished directory, and a copy of the directory to damage."""
    return *made, shutil.copytree(made[1], tmp_path / "run")


def changed_times(where: Path, before: dict[Path, int]) -> set[str]:
    return {str(path.relative_to(where)) for path, time in before.items() if path.stat().st_mtime_ns != time}


@pytest.mark.parametrize(
    ("name", "also"),
    [
        # What is made again beside the file itself: what the same stage makes.
        ("data/train.jsonl", {"data/heldout.jsonl", "data/bad_rows.jsonl"}),
        ("rewrite/rewrites.jsonl", set()),
        ("rewrite/gap.jsonl", set()),
        ("items/heldout.jsonl", set()),
        ("arms/sdft/data.jsonl", {"arms/sdft/train.json"}),
        ("arms/sdft/evaluate/heldout/grades.jsonl", {"arms/sdft/evaluate/heldout/score.json"}),
        ("arms/sdft/evaluate/heldout/score.json", {"arms/sdft/evaluate/heldout/grades.jsonl"}),
        ("shift/sdft.json", set()),
    ],
)
def test_a_damaged_file_is_named_and_made_again_and_nothing_else(
    copied: tuple[Recipe, Path, Path], caplog: pytest.LogCaptureFixture, name: str, also: set[str]
) -> None:
    recipe, whole, where = copied
    flip(where / name)
    damaged = (where / name).read_bytes()
    times = {
        path: path.stat().st_mtime_ns
        for pattern in ("data/*", "items/*", "rewrite/*", "arms/**/*", "shift/*")
        for path in where.glob(pattern)
        if path.is_file()
    }
    verdict = run(recipe, where)
    assert verdict == json.loads((whole / "verdict.json").read_text())
    assert contents(where).items() >= contents(whole).items()
    assert f"{name} is not as it was written; put aside" in caplog.text
    assert (where / f"{name}.damaged").read_bytes() == damaged
    assert changed_times(where, times) <= {name} | also
    caplog.clear()
    run(recipe, where)
    assert not caplog.records


@pytest.mark.parametrize(
    "name", ["rewrite/completions.jsonl", "rewrite/likelihoods.jsonl", "arms/sdft/evaluate/heldout/answers.jsonl"]
)
def test_of_appended_rows_only_the_damaged_is_asked_again(
    copied: tuple[Recipe, Path, Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    recipe, whole, where = copied
    lines = (where / name).read_bytes().splitlines(keepends=True)
    flipped = lines[1].replace(b'": ', b'"; ', 1)
    (where / name).write_bytes(b"".join([lines[0], flipped, *lines[2:]]))
    with pytest.raises(ExperimentError, match="line 2 damaged"):
        regrade(Experiment.open(where)) if "answers" in name else _open(where / name)
    run(recipe, where)
    assert f"{where / name}: line 2 damaged; moved to {Path(name).name}.damaged, and made again" in caplog.text
    assert (where / name).read_bytes() == b"".join([lines[0], *lines[2:], lines[1]])
    assert (where / f"{name}.damaged").read_bytes() == flipped
    assert contents(where).items() >= contents(whole).items()


def _open(path: Path) -> None:
    from selfdistill.store.rows import RowFile

    RowFile(path, reading=True)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_damaged_weights_are_trained_again_and_are_the_same(
    copied: tuple[Recipe, Path, Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    recipe, whole, where = copied
    flip(where / "arms/sdft/model" / name, 0.9)
    run(recipe, where)
    assert f"{name} is not as it was written" in caplog.text
    assert (where / "arms/sdft/model" / name).read_bytes() == (whole / "arms/sdft/model" / name).read_bytes()


def test_a_hand_edit_is_kept_under_another_name(copied: tuple[Recipe, Path, Path]) -> None:
    recipe, whole, where = copied
    score = where / "arms/sdft/evaluate/heldout/score.json"
    score.write_text(score.read_text().replace('"value": ', '"value": 0.9'))
    with pytest.raises(ExperimentError, match=r"score.json is not as it was written: .* or changed by hand"):
        report(Experiment.open(where))
    edited = score.read_text()
    run(recipe, where)
    assert score.with_name("score.json.damaged").read_text() == edited
    assert score.read_bytes() == (whole / "arms/sdft/evaluate/heldout/score.json").read_bytes()


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_a_damaged_manifest_is_replaced_by_the_one_before(copied: tuple[Recipe, Path, Path], how: str) -> None:
    recipe, whole, where = copied
    manifest = where / "manifest.json"
    if how == "flip":
        flip(manifest)
    elif how == "cut":
        manifest.write_bytes(manifest.read_bytes()[:-100])
    else:
        manifest.unlink()
    run(recipe, where)
    assert contents(where) == contents(whole)
    stages = json.loads(manifest.read_text())["stages"]
    assert stages.keys() == json.loads((whole / "manifest.json").read_text())["stages"].keys()
    assert all("finished" in row for row in stages.values())


@pytest.mark.parametrize("content", ["{", "[" * 100_000], ids=["cut", "nested"])
def test_two_damaged_manifests_are_told(copied: tuple[Recipe, Path, Path], content: str) -> None:
    recipe, _, where = copied
    for name in ("manifest.json", "manifest.previous.json"):
        (where / name).write_text(content)
    with pytest.raises(ExperimentError, match=r"manifest.json is damaged, and so is its previous version"):
        run(recipe, where)


def test_a_run_killed_before_its_first_manifest_goes_on(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    where = tmp_path / "run"
    where.mkdir()
    (where / "manifest.json.partial").write_text('{"selfdis')
    run(made[0], where)
    assert contents(where) == contents(made[1])


def test_a_run_whose_first_manifest_is_torn_goes_on(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    where = tmp_path / "run"
    where.mkdir()
    shutil.copy(made[1] / "recipe.yaml", where)
    (where / "manifest.json").write_bytes((made[1] / "manifest.json").read_bytes()[:100])
    run(made[0], where)
    assert contents(where) == contents(made[1])


def test_a_bit_flipped_in_a_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    rows = [Example.of((Message("user", f"What follows {i}?"),), f"After {i} comes {i + 1}.") for i in range(8)]
    model = ModelConfig(path=str(tiny_model(tmp_path / "model")), device="cpu")
    settings = TrainConfig(lr=1e-2, max_steps=4, batch_size=4, micro_batch_size=4, save_every=1, dtype="float32")

    def stop_after(step: int) -> Any:
        def progress(done: int, _steps: int, _loss: float) -> None:
            if done == step:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        train(rows, model, settings, tmp_path / "damaged", stop_after(4))
    checkpoints = tmp_path / "damaged" / "checkpoints"
    flip(checkpoints / "checkpoint-3" / "adapter_model.safetensors", 0.9)
    assert train(rows, model, settings, tmp_path / "damaged").resumed_from == 2
    train(rows, model, settings, tmp_path / "whole")
    names = [tmp_path / name / "model" / "adapter_model.safetensors" for name in ("damaged", "whole")]
    assert file_checksum(names[0]) == file_checksum(names[1])


def test_sigterm_in_a_training_saves_the_step_and_ends_with_143(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    """Of a training that would save nothing for long, not a step is lost."""
    import yaml

    recipe = values(made[1].parent)
    recipe["train"] |= {"max_steps": 100_000, "save_every": 100_000}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    process = subprocess.Popen(
        [sys.executable, "-m", "selfdistill", "run", str(tmp_path / "recipe.yaml"), "--dir", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "run" / "arms" / "sdft" / "train.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Finished work is kept" in errors
    assert "Traceback" not in errors
    steps = json.loads(log.read_text().splitlines()[-1])["step"]
    (checkpoint,) = log.parent.glob("checkpoints/checkpoint-*")
    assert checkpoint.name == f"checkpoint-{steps}"
    assert (checkpoint / "whole.json").is_file()


LOOP = """
import selfdistill.cli.signals as stop, sys, threading, time
stop._AGAIN_SECONDS, stop._GRACE_SECONDS = 0.2, 0.2
class Waits:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(600)
with stop.stopping():
    threading.Thread(target=time.sleep, args=(600,), daemon=sys.argv[1] == "finalizer").start()
    if sys.argv[1] == "finalizer":
        Waits()  # what is raised in there is dropped
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            sys.exit(3)
    while True:
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize(("where", "code", "said"), [("loop", 143, "Stopped by SIGTERM"), ("finalizer", 3, "")])
def test_sigterm_ends_what_hangs(where: str, code: int, said: str) -> None:
    """A thread that waits, as one for a server does, and code that takes no notice of an interruption."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.startswith(said)
    assert "Traceback" not in errors


def test_rows_of_other_settings_are_not_taken_for_those_that_are_missing(
    made: tuple[Recipe, Path], tmp_path: Path
) -> None:
    """As many as there are to make, of a run that was killed just before it was recorded as finished."""
    whole, where = made[1], tmp_path / "run"
    shutil.copytree(whole, where)
    other = make_recipe(values(whole.parent), ["rewrite.sampling.top_k=7"])
    file = ManifestFile(where)
    stages = {name: dict(file.read()["stages"][name]) for name in ("data", "rewrite")}
    del stages["rewrite"]["finished"]
    for _ in range(2):  # the second time the first becomes the previous version
        file.write({**file.read(), "stages": stages})
    shutil.rmtree(where / "arms")
    before = len((where / "rewrite/completions.jsonl").read_text().splitlines())
    rewrite(Experiment(where, other))
    assert len((where / "rewrite/completions.jsonl").read_text().splitlines()) == 2 * before


def test_the_manifest_is_read_once(made: tuple[Recipe, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = Path.read_text

    def count(path: Path, *arguments: Any, **options: Any) -> str:
        read.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", count)
    experiment = Experiment.open(made[1])
    assert experiment.manifest is experiment.manifest
    report(experiment)
    assert sum(path.name == "manifest.json" for path in read) == 1
