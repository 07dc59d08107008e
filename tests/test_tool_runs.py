"""Tool rows through the commands: `check` refuses a template that ignores tools, a run with tools_in=system shows them
everywhere, held-out turns are graded by their calls, and exports keep them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill.data.export_chats import columns, sharegpt_turns, swift_turns, with_response
from selfdistill.errors import ExperimentError
from selfdistill.models.tool_turns import chat_of
from selfdistill.types import FunctionCall, Message, write_reply

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CITIES = ["Oslo", "Lima", "Rome", "Cairo", "Bern", "Riga", "Kyiv", "Doha", "Baku", "Bonn"]


def row(city: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
    return {
        "tools": [WEATHER],
        "messages": [
            {"role": "user", "content": f"{city}: how warm is it there at the moment?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": f"{city}, 19 degrees"},
            {"role": "assistant", "content": f"It is 19 degrees in {city}."},
        ],
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row(city)) + "\n" for city in CITIES), encoding="utf-8")
    lines = [
        "model: {path: demo}",
        f"data: {{path: {tmp_path / 'd.jsonl'}, heldout: 3}}",
        "rewrite: {backend: fake, grader: facts, template: using, min_accepted: 0}",
        "arms: {seed: {data: none}}",
        "evaluate: {backend: fake, tasks: [heldout, tool_calls], heldout_loss: false}",
    ]
    path = tmp_path / "r.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_check_refuses_a_template_that_ignores_tools(recipe: Path, command: Callable[..., Done]) -> None:
    done = command("check", recipe, "--no-probe")
    assert done.code == 2
    assert "leaves out the definitions of tools, and the data has tools; set model.tools_in to system" in done.said
    done = command("check", recipe, "--no-probe", "model.tools_in=system")
    assert done.code == 0
    assert '⟦<tool_call> {"name": "weather"' in done.said


def test_the_recipe_of_init_passes_check(recipe: Path, command: Callable[..., Done]) -> None:
    """For a model on this machine whose template ignores tools."""
    made = recipe.parent / "made.yaml"
    done = command("init", "--model", "demo", "--data", recipe.parent / "d.jsonl", "--to", made)
    assert "leaves out the definitions of tools; so tools_in: system is set" in done.said
    done = command("check", made, "--no-probe")
    assert done.code == 0, done.said
    assert '⟦<tool_call> {"name": "weather"' in done.said


def test_tool_rows_go_through_a_run(recipe: Path, command: Callable[..., Done]) -> None:
    folder = recipe.parent / "run"
    done = command("run", recipe, "--dir", folder, "model.tools_in=system", "shift.kl_prompts=0")
    assert done.code == 0, done.said
    rewrites = [json.loads(line) for line in (folder / "rewrite/rewrites.jsonl").read_text().splitlines()]
    assert len(rewrites) == 14, "each turn of the assistant"
    reasons = [each["grade"]["reason"] for each in rewrites if each["example"]["reference"].startswith("<tool_call>")]
    assert reasons.count("same calls") >= 4
    score = json.loads((folder / "arms/seed/evaluate/tool_calls/score.json").read_text())
    assert score["n"] == 6, "each turn of the held-out rows"
    assert '"tools"' in (folder / "rewrites.html").read_text(encoding="utf-8")
    assert command("export", folder, "--to", "trl").code == 0
    first, second, *_ = (folder / "export/trl/run_sdft.jsonl").read_text().splitlines()
    assert [message["role"] for message in json.loads(first)["prompt"]] == ["system", "user"]
    assert [message["role"] for message in json.loads(second)["prompt"]] == ["system", "user", "assistant", "user"]


CALL = FunctionCall("weather", {"city": "Lima"}, "a")
PROMPT = (
    Message("user", "Lima?", tools=(WEATHER,)),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "19", tool_call_id="a"),
)


def test_exports_keep_tools_and_calls_in_each_form() -> None:
    again = with_response(PROMPT, write_reply("", [CALL]))
    openai = chat_of(again)
    assert openai[-1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Lima"}}
    assert openai[2]["tool_call_id"] == openai[1]["tool_calls"][0]["id"]
    assert json.loads(columns(again)["tools"]) == [WEATHER]
    text = '{"name": "weather", "arguments": {"city": "Lima"}}'
    assert [(place, turn["role"], turn["content"]) for place, turn in swift_turns(again)] == [
        (0, "user", "Lima?"), (1, "tool_call", text), (2, "tool_response", "19"), (3, "tool_call", text),
    ]  # fmt: skip
    assert [turn["from"] for turn in sharegpt_turns(again)["conversations"]] == [
        "human", "function_call", "observation", "function_call",
    ]  # fmt: skip


def test_what_a_stack_can_not_express_is_refused_by_name() -> None:
    with pytest.raises(ExperimentError, match="can't express a turn with a text and calls"):
        sharegpt_turns(with_response(PROMPT, write_reply("Wait.", [CALL])))
    with pytest.raises(ExperimentError, match="several results in a row"):
        sharegpt_turns((*PROMPT, PROMPT[2]))
    with pytest.raises(ExperimentError, match="chat_template_kwargs"):
        columns((Message("user", "x", template_kwargs={"a": 1}),))
