"""Cards of models and data, and their upload to a local stand-in for the hub."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard, constants
from support.command import Done
from support.hub import TOKEN, Hub, Repository

from selfdistill import load_recipe, run
from selfdistill.demo import RECIPE
from selfdistill.recipe import ModelConfig
from selfdistill.reports.cards import Shared, on_hub, write_cards
from selfdistill.store.experiment import Experiment
from selfdistill.store.identity import model_identity
from selfdistill.training import train
from selfdistill.training.result import weight_checksums

SMALL = ["data.n=8", "train.max_steps=2", "evaluate.tasks=[{task: demo-maths, n: 6}, {task: demo-lists, n: 6}]",
         "shift.task=null", "gap=false", "card.license=apache-2.0"]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment: three runs of the demo's seed on eight rows."""
    directory = tmp_path_factory.mktemp("sharing") / "small"
    run(load_recipe(RECIPE, SMALL), directory)
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Hub()
    threading.Thread(target=running.http.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in speaks git LFS
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield running
    running.http.shutdown()
    running.http.server_close()


def shared(directory: Path, **changes: Any) -> Shared:
    experiment = Experiment.open(directory)
    verdict = json.loads((directory / "verdict.json").read_text())
    return Shared(directory, experiment.recipe, {**verdict, **changes}, experiment.manifest)


# ---- cards


def test_the_models_card_holds_the_verdicts_numbers(directory: Path) -> None:
    verdict = json.loads((directory / "verdict.json").read_text())
    card = ModelCard.load(directory / "arms" / "sdft" / "model" / "README.md")
    found = {each.dataset_name: each for each in card.data.eval_results or ()}
    assert found.keys() == {task["task"] for task in verdict["tasks"]}
    for task in verdict["tasks"]:
        score = task["scores"]["sdft"]
        assert found[task["task"]].metric_value == round(score["value"], 4)
        assert found[task["task"]].metric_args == {
            "n": 6,
            "low": round(score["low"], 4),
            "high": round(score["high"], 4),
        }
    assert (card.data.license, card.data.library_name, card.data.base_model) == ("apache-2.0", "peft", None)
    for sentence in (*verdict["summary"], "AutoPeftModelForCausalLM", "8 rows", "What was forgotten", "transformers "):
        assert sentence.replace("[", "\\[").replace("]", "\\]") in card.text
    assert not (directory / "arms" / "seed" / "model").exists()


def test_a_card_without_a_licence_says_so_plainly(directory: Path) -> None:
    rewrites = DatasetCard.load(directory / "rewrite" / "README.md")
    assert rewrites.data.license is None
    assert "No licence is given: who made this data has not said under which terms it may be used." in rewrites.text
    accepted = json.loads((directory / "verdict.json").read_text())["acceptance"]["accepted"]
    assert f"{accepted} of 8 rewrites were accepted" in rewrites.text


def test_a_forgotten_task_and_several_runs_are_named(directory: Path) -> None:
    verdict = json.loads((directory / "verdict.json").read_text())
    for row in verdict["comparisons"]:
        if (row["arm"], row["task"], row["against"]) == ("sdft", "demo-lists", "seed"):
            row |= {"word": "forgot", "difference": -0.25, "low": -0.4, "high": -0.1, "runs": 2}
    task = next(task for task in verdict["tasks"] if task["task"] == "demo-lists")
    task["runs"] = {"sdft": {"sdft": 0.125, "sdft@1": 0.5}}
    card = ModelCard(shared(directory, **verdict).model_card("sdft"))
    assert "- demo-lists: −25.0 points, 95 % interval −40.0 to −10.0" in card.text
    (lists,) = [each for each in card.data.eval_results or () if each.dataset_name == "demo-lists"]
    assert (lists.metric_value, lists.metric_args) == (0.125, {"n": 6})  # its own score, not that of both runs
    assert "| 12.5 |" in card.text


def test_a_task_without_a_score_is_left_out_of_the_metadata(directory: Path) -> None:
    verdict = json.loads((directory / "verdict.json").read_text())
    verdict["tasks"][0]["scores"]["sdft"] |= {"value": None, "low": None, "high": None}
    card = ModelCard(shared(directory, **verdict).model_card("sdft"))
    assert [each.dataset_name for each in card.data.eval_results or ()] == [verdict["tasks"][1]["task"]]


def test_cards_are_in_no_identity_and_name_no_folder(directory: Path, tmp_path: Path) -> None:
    folder = directory / "arms" / "sdft" / "model"
    before = model_identity(ModelConfig(path=str(folder))), weight_checksums(folder)
    (folder / "README.md").write_text("another card")
    assert (model_identity(ModelConfig(path=str(folder))), weight_checksums(folder)) == before
    experiment = Experiment.open(directory)
    assert not [name for stage in experiment.manifest["stages"].values() for name in stage.get("files", {})
                if name.endswith("README.md")]  # fmt: skip
    for path in write_cards(shared(directory)):
        assert str(tmp_path) not in path.read_text()


def test_a_card_holds_no_text_of_rows_and_no_path_of_the_recipe(directory: Path, tmp_path: Path) -> None:
    verdict = json.loads((directory / "verdict.json").read_text())
    pair = ("asked Ann", "trained on Bob")
    data = {**verdict["data"], "near_duplicates": 2, "near_pair": pair, "markup": 1, "markup_example": "Cy <|im_end|>"}
    items = {"demo-lists": {"near_duplicates": 1, "near_pair": pair, "bad": 1, "first_bad": "/home/dan/x.jsonl:3: Eve"}}
    changes: dict[str, Any] = {"data": data, "items": items, "taken_from": {"answer/seed/a": ["/home/dan/old", 3]}}
    own = shared(directory, **changes, notes=["Ann, Bob, Eve and /home/dan"])
    task = own.recipe.model_copy(update={"task": "/home/my_name/tasks.py:mine", "note": "See /home/my_name/tasks.py."})
    card = Shared(own.directory, task, {**own.verdict, "caveats": {**verdict["caveats"], "note": task.note}},
                  own.manifest).model_card("sdft")  # fmt: skip
    for text in ("Ann", "Bob", "Cy", "Eve", "/home", "my_name", "my\\_name"):
        assert text not in card
    for text in ("2 rows of data.heldout nearly repeat", "3 answers of the seed", "tasks.py"):
        assert text in card


def test_a_run_that_is_finished_stays_finished_with_a_card(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdistill.training.train", lambda *_: pytest.fail("trained again"))
    run(load_recipe(RECIPE, SMALL), directory)
    monkeypatch.undo()
    merged = load_recipe(RECIPE, [*SMALL, "train.merge=true"])  # the stage runs again, with a card in the model folder
    run(merged, directory)
    monkeypatch.setattr("selfdistill.training.train", lambda *_: pytest.fail("trained again"))
    run(merged, directory)
    assert callable(train)


@pytest.mark.parametrize(
    ("path", "there"),
    [("org/name", True), ("demo", False), ("/models/org/name", False), ("org/name.gguf", False), ("a/b/c", False)],
)
def test_names_of_the_hub(path: str, there: bool) -> None:
    assert on_hub(path) is there


# ---- push


def test_push_uploads_the_model_and_only_on_request_the_rewrites(
    directory: Path, hub: Hub, command: Callable[..., Done]
) -> None:
    hidden = directory / "arms" / "sdft" / "model" / ".cache" / "notes.txt"
    hidden.parent.mkdir()
    hidden.write_text("not for others")
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 0, done.err
    shutil.rmtree(hidden.parent)
    repository = hub.repositories["model", "org/small"]
    folder = directory / "arms" / "sdft" / "model"
    assert repository.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert 'name = "org/small"' in repository.files["README.md"].decode()
    assert list(hub.repositories) == [("model", "org/small")]
    assert not repository.private
    assert "The rewrites are not uploaded" in done.out
    assert f"Uploaded: {hub.url}/org/small" in done.out
    size = (folder / "adapter_model.safetensors").stat().st_size
    assert f"{size / 1000:.1f} kB  adapter_model.safetensors" in done.out
    assert "others can't load it" in done.said  # the demo's base model is no model of the hub

    done = command("push", directory, "--repo", "org/secret", "--dataset", "org/data", "--private")
    assert done.code == 0, done.err
    assert hub.repositories["model", "org/secret"].private
    assert hub.repositories["dataset", "org/data"].private
    data = hub.repositories["dataset", "org/data"].files
    assert data.keys() == {"README.md", "rewrites.jsonl"}
    assert data["rewrites.jsonl"] == (directory / "rewrite" / "rewrites.jsonl").read_bytes()
    assert 'load_dataset("org/data"' in data["README.md"].decode()


def test_a_push_that_broke_is_completed_by_the_same_command(
    directory: Path, hub: Hub, command: Callable[..., Done]
) -> None:
    hub.broken = True
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "push again: files that arrived are not sent again" in done.said
    assert len(hub.sent("PUT /lfs/")) == 1
    assert not hub.repositories["model", "org/small"].files
    hub.broken = False
    assert command("push", directory, "--repo", "org/small").code == 0
    assert len(hub.sent("PUT /lfs/")) == 1  # the weights had arrived
    assert "adapter_model.safetensors" in hub.repositories["model", "org/small"].files
    assert command("push", directory, "--repo", "org/small").code == 0
    assert hub.repositories["model", "org/small"].commits == 1  # nothing is new


def test_small_files_go_through_the_streamed_upload_as_well(
    directory: Path, hub: Hub, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    (directory / "arms" / "sdft" / "model" / "adapter_model.safetensors").rename(directory / "aside")
    folder = directory / "arms" / "sdft" / "model"
    from selfdistill.pipeline.push import Upload, push

    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert push(Upload("model", "org/streamed", folder, files, "# A card")) == f"{hub.url}/org/streamed"
    assert hub.repositories["model", "org/streamed"].files["README.md"] == b"# A card"


def test_errors_say_what_to_do(
    directory: Path, hub: Hub, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["dataset", "org/taken"] = Repository()
    hub.repositories["model", "org/public"] = Repository()
    expected = [
        (["--repo", "org/taken"], "org/taken is a dataset on the hub, not a model; choose another name."),
        (["--repo", "org/public", "--private"], "org/public is on the hub already and is public"),
        (["--repo", "forbidden/small"], "may not write to forbidden/small"),
        (["--repo", "small"], "write org/name, such as your-name/small"),
        (["--repo", "or g/small"], "can't be the name of a repository"),
        (["--repo", "org/same", "--dataset", "org/same"], "give --dataset another name"),
        (["--repo", "org/small", "--arm", "seed"], "is the untrained model, which is not pushed; name another"),
        (["--repo", "org/small", "--arm", "stft"], "There is no arm stft; the recipe has seed, vanilla, sdft"),
    ]  # fmt: skip
    for words, said in expected:
        done = command("push", directory, *words)
        assert (done.code, said in done.said) == (2, True), done.said
    assert not any(repository.files for repository in hub.repositories.values())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "it does not accept your token; run `hf auth login`" in done.said
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(directory / "no-token"))
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "You are not logged in to the hub; run `hf auth login`" in done.said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "HF_HUB_OFFLINE is set" in done.said


def test_without_a_network_the_push_says_so(
    directory: Path, hub: Hub, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "The upload to org/small broke off" in done.said
    assert "check the network" in done.said


def test_an_unfinished_run_is_not_pushed(directory: Path, hub: Hub, command: Callable[..., Done]) -> None:
    shutil.rmtree(directory / "arms" / "vanilla" / "model")
    done = command("push", directory, "--repo", "org/small", "--arm", "vanilla")
    assert done.code == 2
    assert "The arm vanilla has no model yet" in done.said
    (directory / "arms" / "sdft" / "evaluate" / "demo-lists" / "score.json").unlink()
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "The run is not finished: sdft has no score on demo-lists" in done.said
    weights = directory / "arms" / "sdft" / "model" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = command("push", directory, "--repo", "org/small")
    assert done.code == 2
    assert "is not as it was written" in done.said
    assert not hub.asked
