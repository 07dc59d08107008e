"""Exports load in `datasets` and train what we train: one response after the original turns before it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from selfdistill.data import iter_conversations, prepare
from selfdistill.data.export import FORMATS, export
from selfdistill.errors import ExperimentError
from selfdistill.recipe import DataConfig
from selfdistill.store.manifest import ManifestFile
from selfdistill.store.rows import write_lines
from selfdistill.types import Completion, Example, Grade, Message, Rewrite

DIALOGUE = {
    "messages": [
        {"role": "system", "content": "Réponds en français."},
        {"role": "user", "content": "Salut 🙂"},
        {"role": "assistant", "content": "Bonjour !"},
        {"role": "user", "content": "数は? \u2028 {reference}"},
        {"role": "assistant", "content": "四十二"},
    ]
}
SHORT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
MARKED = {
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "5", "weight": 0},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
    ]
}
ROWS = [DIALOGUE, SHORT, SHORT, MARKED]


def rewritten(text: str) -> str:
    return f"« {text} », réécrit\n2 lines"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Every response is rewritten but those that are `A`, whose rewrite fails."""
    directory = tmp_path / "my, run"
    write_lines(tmp_path / "d.jsonl", ROWS)
    prepare(DataConfig(path=str(tmp_path / "d.jsonl")), directory / "data")
    rewrites = {}
    for conversation in iter_conversations(directory / "data" / "train.jsonl"):
        for example in conversation.examples():
            verdict = Grade("fail", "no") if example.reference == "A" else Grade("pass", "yes")
            completion = Completion(example.id, rewritten(example.reference), "stop")
            rewrites[example.id] = Rewrite(example, completion, verdict).to_json()
    write_lines(directory / "rewrite" / "rewrites.jsonl", reversed(rewrites.values()))
    return directory


def chosen() -> list[list[dict[str, str]]]:
    """For each response that is trained on, the original turns before it, and the response."""
    rows = []
    for row in ROWS:
        plain = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
        for at, turn in enumerate(row["messages"]):
            if turn["role"] == "assistant" and "weight" not in turn:
                text = turn["content"] if turn["content"] == "A" else rewritten(turn["content"])
                rows.append([*plain[:at], {"role": "assistant", "content": text}])
    return rows


def load(path: Path, cache: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    return list(load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache)))


def test_trl_trains_on_the_responses_alone(experiment: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from selfdistill.demo import SEED

    rows = load(export(experiment, "trl").path, tmp_path / "cache")
    assert rows == [{"prompt": row[:-1], "completion": row[-1:]} for row in chosen()]
    settings = SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none", bf16=False, max_length=None)
    short = [row for row in rows if all(turn["content"].isascii() for turn in row["prompt"])]
    # With another package installed, transformers may look for an image processor next to the tokenizer.
    tokenizer = AutoTokenizer.from_pretrained(SEED)
    trainer = SFTTrainer(str(SEED), args=settings, train_dataset=Dataset.from_list(short), processing_class=tokenizer)
    for row, example in zip(trainer.train_dataset, short, strict=True):
        batch = trainer.data_collator([row])
        trained = batch["input_ids"][batch["labels"] != -100]
        assert trainer.processing_class.decode(trained).startswith(example["completion"][0]["content"])


def test_an_sdft_arm_of_its_own_kind_is_not_guessed(experiment: Path) -> None:
    recipe = {"model": "demo", "task": "demo-maths", "arms": {"seed": {"data": "none"}, "sdft": {"data": 0.5, "n": 2}}}
    (experiment / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(ExperimentError, match="does not train on all rows with their rewrites; run `selfd"):
        export(experiment, "jsonl")
    recipe["arms"]["sdft"] = {"data": 1}  # type: ignore[index]
    (experiment / "recipe.yaml").write_text(json.dumps(recipe))
    assert export(experiment, "jsonl").path.is_file()


@pytest.mark.parametrize(("to", "mark"), [("swift", "loss"), ("axolotl", "train")])
def test_messages_mark_the_turn_that_is_trained(experiment: Path, tmp_path: Path, to: str, mark: str) -> None:
    exported = export(experiment, to)
    assert exported.path.parent == experiment / "export" / to
    rows = [row["messages"] for row in load(exported.path, tmp_path / "cache")]
    assert exported.rows == len(rows) == 5
    assert [[{"role": m["role"], "content": m["content"]} for m in row] for row in rows] == chosen()
    for row in rows:
        assert [m.get(mark) for m in row if m["role"] == "assistant"][-1] is True
        assert not any(m.get(mark) for m in row[:-1])
        assert all(m.get(mark) is False for m in row[:-1] if m["role"] == "assistant")


def test_axolotl_names_the_file_in_its_config(experiment: Path, tmp_path: Path) -> None:
    path = export(experiment, "axolotl", tmp_path / "out: #1").path
    (config,) = path.parent.glob("*.yaml")
    (dataset,) = yaml.safe_load(config.read_text(encoding="utf-8"))["datasets"]
    assert dataset["path"] == str(path)
    assert (dataset["type"], dataset["field_messages"]) == ("chat_template", "messages")
    assert dataset["roles_to_train"] == ["assistant"]
    assert dataset["message_field_training"] == "train"


def test_llamafactory_finds_the_file_by_its_entry(experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "LLaMA-Factory" / "data"
    folder.mkdir(parents=True)
    other = {"identity": {"file_name": "identity.json"}, "日本": {"hf_hub_url": "org/name"}}
    (folder / "dataset_info.json").write_text(json.dumps(other), encoding="utf-8")
    exported = export(experiment, "llamafactory", folder)
    path = exported.path
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert {name: info[name] for name in other} == other
    (name,) = set(info) - set(other)
    assert "," not in name
    assert " " not in name
    entry = info[name]
    # https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
    assert set(entry) <= {"file_name", "formatting", "columns", "tags"}
    assert entry["formatting"] == "sharegpt"
    assert set(entry["columns"]) <= {"messages", "system", "tools", "images", "videos", "audios"}
    roles = {"user_tag", "assistant_tag", "observation_tag", "function_tag"}  # one that is left out has no default
    assert roles <= set(entry["tags"]) <= {*roles, "role_tag", "content_tag", "system_tag"}
    assert folder / entry["file_name"] == path
    tags, read = entry["tags"], []
    names = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant"}
    for row in load(path, tmp_path / "cache"):
        system = row[entry["columns"]["system"]]
        messages = [{"role": "system", "content": system}] if system else []
        for turn in row[entry["columns"]["messages"]]:
            messages.append({"role": names[turn[tags["role_tag"]]], "content": turn[tags["content_tag"]]})
        read.append(messages)
    assert read == chosen()
    (config,) = folder.glob("*.llamafactory.yaml")
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert settings == {"dataset": name, "dataset_dir": str(folder), "mask_history": True}
    assert any("set mask_history: true" in note for note in exported.notes)
    export(experiment, "llamafactory", folder)
    assert json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")) == info


def test_llamafactory_does_not_overwrite_what_it_can_not_read(experiment: Path, tmp_path: Path) -> None:
    for content in ("[]", "{oops", "\x00"):
        (tmp_path / "dataset_info.json").write_text(content, encoding="utf-8")
        with pytest.raises(ExperimentError, match="is not a JSON object of datasets"):
            export(experiment, "llamafactory", tmp_path)
        assert (tmp_path / "dataset_info.json").read_text(encoding="utf-8") == content


def test_flat_rows_join_the_rewrites_by_id(experiment: Path, tmp_path: Path) -> None:
    rows = load(export(experiment, "jsonl").path, tmp_path / "cache")
    assert [row["source"] for row in rows] == ["rewrite", "rewrite", "rewrite", "rewrite", "original"]
    lines = (experiment / "rewrite" / "rewrites.jsonl").read_bytes().splitlines()
    rewrites = {row.example.id: row for row in map(Rewrite.from_json, map(json.loads, lines))}
    assert [row["response"] for row in rows] == [rewrites[row["id"]].response for row in rows]
    assert rows[1]["prompt"] == chosen()[1][:-1]
    assert rows[1]["prompt"][2]["content"] == "Bonjour !", "the original turn, not the rewritten one"
    assert rows[2]["id"] == rows[3]["id"]


TRAINED = {"id": "0" * 16, "prompt": SHORT["messages"][:1], "response": "Hello", "source": "original"}


def test_an_arms_own_file_is_what_is_exported(experiment: Path, tmp_path: Path) -> None:
    write_lines(experiment / "arms" / "mix-0.5" / "data.jsonl", [TRAINED])
    (row,) = load(export(experiment, "swift", tmp_path / "a", "mix-0.5").path, tmp_path / "cache")
    assert [message["content"] for message in row["messages"]] == ["Hi", "Hello"]
    (flat,) = load(export(experiment, "jsonl", tmp_path / "b", "mix-0.5").path, tmp_path / "cache")
    assert flat == TRAINED


def test_every_arm_has_a_file_of_its_own(experiment: Path, tmp_path: Path) -> None:
    write_lines(experiment / "arms" / "vanilla" / "data.jsonl", [TRAINED])
    for to in FORMATS.keys() - {"alpaca_eval"}:
        paths = {export(experiment, to, tmp_path / to, arm).path for arm in ("sdft", "vanilla")}
        assert len(paths) == 2


def test_rows_left_out_of_an_export_are_counted(experiment: Path) -> None:
    counts = {"rows": 20, "train": 9, "bad": 3, "heldout": 2, "contaminated": 1, "untrained": 1, "reasoning": 4}
    counts |= {"near_duplicates": 1, "near_pair": ["2+2?", "2+3?"], "dropped": 1}
    ManifestFile(experiment).write({"stages": {"data": {"counts": counts}}})
    notes = " ".join(export(experiment, "jsonl").notes)
    assert f"3 rows of the data couldn't be used; they are in {experiment / 'data/bad_rows.jsonl'}" in notes
    assert f"Held out, and not exported: 2 rows, in {experiment / 'data/heldout.jsonl'}" in notes
    assert "1 row drawn for data.heldout left out, because their prompts are trained on" in notes
    assert "1 row of data.heldout nearly repeat a training row, and were left out" in notes
    assert "Not drawn (data.n), and not exported: 7 rows" in notes
    assert "Context only because of their marks: 1 assistant turn" in notes
    assert "4 assistant turns held reasoning" in notes


def test_an_export_of_unfinished_stages_names_the_next_command(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no export format 'trlx'; choose one of trl, llamafactory"):
        export(experiment, "trlx")
    with pytest.raises(ExperimentError, match="no data of an arm 'vanilla' yet; run `selfdistill train"):
        export(experiment, "trl", arm="vanilla")
    (experiment / "recipe.yaml").write_text("{model: demo, task: demo-maths}")
    with pytest.raises(ExperimentError, match=r"There is no arm vanila; .* has sdft, seed, vanilla"):
        export(experiment, "trl", arm="vanila")
    with pytest.raises(ExperimentError, match="no rewrites yet; run `selfdistill rewrite"):
        export(tmp_path, "trl")
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"can't be written .*; name another folder with --out"):
        export(experiment, "trl", tmp_path / "file")


def test_answers_that_can_not_be_written_name_another_folder(tmp_path: Path) -> None:
    item = Example.of((Message("user", "Name a fruit."),), "An apple.")
    write_lines(tmp_path / "items" / "alpacaeval.jsonl", [item.to_json()])
    answers = tmp_path / "arms" / "sdft" / "evaluate" / "alpacaeval" / "answers.jsonl"
    write_lines(answers, [Completion(item.id, "A pear.", "stop").to_json()])
    assert export(tmp_path, "alpaca_eval").rows == 1
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"can't be written .*; name another folder with --out"):
        export(tmp_path, "alpaca_eval", tmp_path / "file")


def test_a_missing_rewrite_stops_the_export(experiment: Path) -> None:
    path = experiment / "rewrite" / "rewrites.jsonl"
    path.write_text("\n".join(path.read_text(encoding="utf-8").split("\n")[1:]), encoding="utf-8")
    with pytest.raises(ExperimentError, match="lacks the example"):
        export(experiment, "trl")
    assert not list((experiment / "export" / "trl").glob("*.jsonl"))


def test_the_messages_of_an_experiment_are_its_conversations(experiment: Path) -> None:
    conversations = list(iter_conversations(experiment / "data" / "train.jsonl"))
    texts = [[message.content for message in row.messages] for row in conversations]
    assert texts == [[message["content"] for message in row["messages"]] for row in ROWS]
