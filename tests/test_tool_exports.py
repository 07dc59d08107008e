"""Exports of rows with tools and reasoning train, in the library that loads them, what we train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from support.chat_templates import source
from support.tiny import tiny_model

from selfdistill.data.export import export
from selfdistill.errors import ExperimentError
from selfdistill.models.loading import load_renderer
from selfdistill.recipe import ModelConfig
from selfdistill.store.rows import write_lines
from selfdistill.types import FunctionCall, Message, Messages, messages_json, write_reply

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"n": {}}}}}
LIMA = FunctionCall("weather", {"city": "Lima"}, "a")
ASKED = (Message("user", "How warm is Lima?", tools=(WEATHER,)),)
ANSWERED = (*ASKED, Message("assistant", "", tool_calls=(LIMA,)), Message("tool", '{"t": 19}', tool_call_id="a"))
SUM = (Message("system", "Be brief."), Message("user", "1+1?"))
ROWS: list[tuple[Messages, str]] = [
    (ASKED, write_reply("", [LIMA])),
    (ANSWERED, "It is 19 degrees."),
    ((Message("user", "Add.", tools=(ADD, WEATHER)),), write_reply("", [FunctionCall("add", {"n": [1, 2.5]})])),
    (SUM, "2"),
]


def experiment(folder: Path, rows: list[dict[str, Any]], template: str = "qwen2_5", **model: Any) -> Path:
    """An experiment whose arm `sdft` has been trained on the rows."""
    tiny_model(folder / "model", chat_template=source(template), context=4096)
    values = {"model": {"path": str(folder / "model"), **model}, "data": {"path": "d.jsonl"}}
    directory = folder / "run"
    directory.mkdir()
    (directory / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    write_lines(directory / "arms" / "sdft" / "data.jsonl", rows)
    return directory


def trained_row(prompt: Messages, response: str, **more: Any) -> dict[str, Any]:
    return {"id": "0", "source": "rewrite", "prompt": messages_json(prompt), "response": response, **more}


def trl_tokens(path: Path, model: Path, folder: Path) -> list[tuple[list[int], list[int]]]:
    """For each row of an exported file, the tokens before the first that TRL trains on, and those that it trains on."""
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(output_dir=str(folder), use_cpu=True, report_to="none", bf16=False, max_length=None)
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    trainer = SFTTrainer(str(model), args=settings, train_dataset=data)
    found = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        start = next(place for place, label in enumerate(labels) if label != -100)
        assert labels[start:] == ids[start:]
        found.append((ids[:start], ids[start:]))
    return found


@pytest.mark.parametrize("tools_in", ["template", "system"])
def test_trl_trains_calls_and_answers_as_we_do(tmp_path: Path, tools_in: Any) -> None:
    """TRL also trains on the line break that the template writes after the end of turn."""
    directory = experiment(tmp_path, [trained_row(*row) for row in ROWS], tools_in=tools_in)
    exported = export(directory, "trl")
    assert exported.rows == len(ROWS)
    render = load_renderer(ModelConfig(path=str(tmp_path / "model"), tools_in=tools_in))
    line_break = render.tokenizer.encode("\n", add_special_tokens=False)
    for (prompt, response), (before, trained) in zip(
        ROWS, trl_tokens(exported.path, tmp_path / "model", tmp_path / "out"), strict=True
    ):
        ours = render.response_row(prompt, response)
        start = ours.trained.index(True)
        assert before == ours.input_ids[:start] == render.ids(prompt)
        assert trained == ours.input_ids[start:] + line_break


THOUGHT = [{"thought": {"text": "Lima is named.", "trained": True}}, {"thought": {"text": "", "trained": False}}]


def test_trl_trains_the_reasoning_of_a_model_that_thinks(tmp_path: Path) -> None:
    """A think block that is not trained on can't be expressed: the row is left out and counted."""
    earlier = (*ASKED, Message("assistant", "", reasoning="First.", tool_calls=(LIMA,)), ANSWERED[2])
    rows = [
        trained_row(ASKED, write_reply("", [LIMA]), **THOUGHT[0]),
        trained_row(earlier, "It is 19 degrees.", **THOUGHT[0]),
        trained_row(SUM, "2", **THOUGHT[1]),
    ]
    directory = experiment(tmp_path, rows, "qwen3")
    exported = export(directory, "trl")
    assert exported.rows == 2
    assert any("Left out: 1 row, since a think block is not trained on" in note for note in exported.notes)
    (_, first), (before, second) = trl_tokens(exported.path, tmp_path / "model", tmp_path / "out")
    render = load_renderer(ModelConfig(path=str(tmp_path / "model")))
    end = "<|im_end|>\n"
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima"}}\n</tool_call>'
    assert render.tokenizer.decode(first) == f"<think>\nLima is named.\n</think>\n\n{call}{end}"
    assert "<think>\nFirst.\n</think>" in render.tokenizer.decode(before)
    assert render.tokenizer.decode(second) == f"<think>\nLima is named.\n</think>\n\nIt is 19 degrees.{end}"


def test_arguments_of_the_template_are_those_of_the_recipe_and_the_row(tmp_path: Path) -> None:
    """Without them TRL would train on an empty think block."""
    own = (Message("user", "2+2?", template_kwargs={"more": 1}),)
    directory = experiment(
        tmp_path, [trained_row(SUM, "2"), trained_row(own, "4")], "qwen3", template_kwargs={"enable_thinking": False}
    )
    exported = export(directory, "trl")
    rows = [json.loads(line) for line in exported.path.read_text(encoding="utf-8").splitlines()]
    assert [row["chat_template_kwargs"] for row in rows] == [
        {"enable_thinking": False}, {"enable_thinking": False, "more": 1},
    ]  # fmt: skip
    render = load_renderer(ModelConfig(path=str(tmp_path / "model"), template_kwargs={"enable_thinking": False}))
    (before, trained), _ = trl_tokens(exported.path, tmp_path / "model", tmp_path / "out")
    assert before == render.ids(SUM)
    assert render.tokenizer.decode(trained) == "2<|im_end|>\n"


def test_a_format_that_can_not_hold_the_recipes_arguments_says_so(tmp_path: Path) -> None:
    directory = experiment(tmp_path, [trained_row(SUM, "2")], "qwen3", template_kwargs={"enable_thinking": False})
    for to in ("llamafactory", "swift", "axolotl"):
        (note,) = [note for note in export(directory, to).notes if "template_kwargs" in note]
        assert 'model.template_kwargs={"enable_thinking": false}' in note
    assert not any("template_kwargs" in note for note in export(directory, "trl").notes)


def test_a_row_without_arguments_has_no_null_for_them(tmp_path: Path) -> None:
    own = (Message("user", "2+2?", template_kwargs={"more": 1}),)
    exported = export(experiment(tmp_path, [trained_row(SUM, "2"), trained_row(own, "4")]), "trl")
    assert [json.loads(line)["chat_template_kwargs"] for line in exported.path.read_text().splitlines()] == [
        {}, {"more": 1},
    ]  # fmt: skip
    assert len(trl_tokens(exported.path, tmp_path / "model", tmp_path / "out")) == 2


def test_llamafactory_reads_calls_results_and_reasoning(tmp_path: Path) -> None:
    """In the form of its converter and templates: roles alternate, a call is JSON, reasoning stands before both."""
    rows = [
        trained_row(ANSWERED, "It is 19 degrees.", **THOUGHT[0]),
        trained_row(ASKED, write_reply("", [LIMA]), **THOUGHT[0]),
        trained_row(SUM, "2", **THOUGHT[1]),
    ]
    exported = export(experiment(tmp_path, rows, "qwen3"), "llamafactory")
    first, second, third = json.loads(exported.path.read_text(encoding="utf-8"))
    call = '{"name": "weather", "arguments": {"city": "Lima"}}'
    assert [(turn["from"], turn["value"]) for turn in first["conversations"]] == [
        ("human", "How warm is Lima?"), ("function_call", call), ("observation", '{"t": 19}'),
        ("gpt", "<think>\nLima is named.\n</think>\n\nIt is 19 degrees."),
    ]  # fmt: skip
    assert second["conversations"][-1]["value"] == f"<think>\nLima is named.\n</think>\n\n{call}"
    assert json.loads(first["tools"]) == [WEATHER]
    assert (third["system"], third["conversations"][-1]["value"]) == ("Be brief.", "2")
    (config,) = exported.path.parent.glob("*.llamafactory.yaml")
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["enable_thinking"] is None
    two = (Message("user", "Hi"), Message("user", "2+2?"))
    (tmp_path / "other").mkdir()
    with pytest.raises(ExperimentError, match="user and assistant don't alternate"):
        export(experiment(tmp_path / "other", [trained_row(two, "4")]), "llamafactory")


MASKED = {"thought": {"text": "One plus one.", "trained": False}}


def test_a_trace_that_is_not_trained_on_is_exported_only_where_it_can_be_masked(tmp_path: Path) -> None:
    rows = [trained_row(SUM, "2", **MASKED), trained_row(SUM, "2", **THOUGHT[0]), trained_row(SUM, "2", **THOUGHT[1])]
    directory = experiment(tmp_path, rows, "qwen3")
    exported = export(directory, "llamafactory")
    assert exported.rows == 2
    assert "One plus one" not in exported.path.read_text(encoding="utf-8")
    assert any("Left out: 1 row, since a think trace is not trained on" in note for note in exported.notes)
    assert export(directory, "jsonl").rows == 3


@pytest.mark.parametrize(
    ("decided", "thought", "enabled"),
    [
        ({"model": {"reasoning": "off"}}, {}, False),
        ({"arms": {"sdft": {"data": "rewrites", "reasoning": "off"}}}, {}, False),
        ({}, {"thought": {"text": "", "trained": True}}, True),
    ],
)
def test_exports_train_empty_think_blocks_only_on_purpose(
    tmp_path: Path, decided: dict[str, Any], thought: dict[str, Any], enabled: bool
) -> None:
    directory = experiment(tmp_path, [trained_row(SUM, "2", **thought)], "qwen3", **decided.get("model", {}))
    if "arms" in decided:
        values = yaml.safe_load((directory / "recipe.yaml").read_text(encoding="utf-8"))
        arms = {"seed": {"data": "none"}, **decided["arms"]}
        (directory / "recipe.yaml").write_text(yaml.safe_dump({**values, "arms": arms}), encoding="utf-8")
    exported = export(directory, "trl")
    (row,) = [json.loads(line) for line in exported.path.read_text(encoding="utf-8").splitlines()]
    assert row.get("chat_template_kwargs") == (None if enabled else {"enable_thinking": False})
    ((_, trained),) = trl_tokens(exported.path, tmp_path / "model", tmp_path / "out")
    block = "<think>\n\n</think>\n\n" if enabled else ""
    assert load_renderer(ModelConfig(path=str(tmp_path / "model"))).tokenizer.decode(trained) == f"{block}2<|im_end|>\n"
    exported = export(directory, "llamafactory")
    (config,) = exported.path.parent.glob("*.llamafactory.yaml")
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["enable_thinking"] is enabled
