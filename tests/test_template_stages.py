"""Chat templates through the command: refused before anything is paid for, one date in all stages, errors as one
sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import sum_rows, write_rows
from support.server import Server, reply
from support.tiny import CHATML, tiny_model, tiny_tokenizer

from selfdistill.backends import open_backend
from selfdistill.errors import RecipeError
from selfdistill.models.chat_template import ChatTemplate
from selfdistill.models.renderer import Renderer
from selfdistill.recipe import ModelConfig, Sampling, TrainConfig
from selfdistill.store import manifest
from selfdistill.training.launch import launch_command
from selfdistill.types import Message, Prompt

THINKS = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>{% endif %}"
    "{% endif %}",
)
ALWAYS_THINKS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
DATED = "Today is {{ strftime_now('%d %b %Y') }}.\n" + CHATML
DATED_BY_ARGUMENT = "Today is {{ date_string if date_string is defined else strftime_now('%d %b %Y') }}.\n" + CHATML
REFUSES = CHATML.replace(
    "{% for", "{% if '7 plus' in messages[0].content %}{{ raise_exception('No sevens.') }}{% endif %}{% for", 1
)


def recipe_in(folder: Path, template: str | None, **changes: Any) -> Path:
    """A recipe file with a tiny model that has this chat template, twelve rows, and two arms."""
    write_rows(folder / "rows.jsonl", sum_rows(12))
    model = tiny_model(folder / "model", chat_template=template)
    values = {
        "model": {"path": str(model), "dtype": "float32", **changes.pop("model", {})},
        "data": {"path": str(folder / "rows.jsonl"), "heldout": 2},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 1, "batch_size": 2, "micro_batch_size": 2, "max_length": 256},
        "evaluate": {"backend": "hf", "tasks": ["heldout"], "sampling": {"max_new_tokens": 2}},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that chat templates write."""
    texts: list[str] = []
    apply = ChatTemplate.apply

    def noting(self: ChatTemplate, *args: Any, **kwargs: Any) -> str:
        texts.append(apply(self, *args, **kwargs))
        return texts[-1]

    monkeypatch.setattr(ChatTemplate, "apply", noting)
    return texts


@pytest.mark.parametrize("name", ["check", "run", "rewrite", "train", "evaluate"])
def test_every_command_refuses_to_turn_thinking_off_without_a_switch(
    tmp_path: Path, command: Callable[..., Done], name: str
) -> None:
    recipe = recipe_in(tmp_path, ALWAYS_THINKS, model={"reasoning": "off"})
    where = ["--no-probe"] if name == "check" else ["--dir", tmp_path / "run"]
    done = command(name, recipe, *where)
    assert done.code == 2
    assert "has no switch for this, so model.reasoning can't be off" in done.said
    assert not list(tmp_path.glob("run/rewrite/*")), "nothing was asked"


def test_thinking_is_turned_off_by_the_switch(
    tmp_path: Path, command: Callable[..., Done], rendered: list[str]
) -> None:
    recipe = recipe_in(tmp_path, THINKS, model={"reasoning": "off"})
    assert command("rewrite", recipe, "--dir", tmp_path / "run").code == 0
    assert "<think></think>" in command("check", "--no-probe", recipe).said


def test_a_rewrite_with_a_mark_of_reasoning_is_not_accepted(tmp_path: Path, server: Server) -> None:
    """The seed would have cut the answer's text at it in every later prompt."""
    from selfdistill import load_recipe, run

    server.script = lambda body, _: reply(
        "</think>" * (" 3 plus" in json.dumps(body)) + "The answer is " + str(len(json.dumps(body)))
    )
    recipe = recipe_in(
        tmp_path,
        THINKS,
        model={"template_kwargs": {"enable_thinking": False}, "server": {"url": server.url, "api": "completions"}},
        rewrite={"backend": "openai", "grader": "none"},
        evaluate={"tasks": []},
        arms={"seed": {"data": "none"}, "sdft": {"data": "rewrites"}},
    )
    verdict = run(load_recipe(recipe), tmp_path / "run")
    assert verdict["acceptance"]["reasons"] == {"holds a think trace": 1}


def test_all_stages_and_later_runs_see_the_experiments_date(
    tmp_path: Path, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, rendered: list[str]
) -> None:
    recipe, where = recipe_in(tmp_path, DATED), tmp_path / "run"
    monkeypatch.setattr(manifest, "now", lambda: "2026-02-03T04:05:06+00:00")
    monkeypatch.setattr("selfdistill.store.experiment.now", lambda: "2026-02-03T04:05:06+00:00")
    assert command("run", recipe, "--dir", where).code == 0
    assert json.loads((where / "manifest.json").read_text())["date"] == "2026-02-03"
    first = set(rendered)
    rendered.clear()
    monkeypatch.setattr("selfdistill.store.experiment.now", lambda: "2026-11-28T00:00:00+00:00")
    arm = "arms={seed: {data: none}, vanilla: {data: original}, sdft: {data: rewrites}, more: {data: original, n: 4}}"
    done = command("run", recipe, arm, "--dir", where)
    assert done.code == 0, done.said
    assert rendered
    for text in first | set(rendered):
        assert text.startswith("Today is 03 Feb 2026."), "not the clock's"
    changed = command("run", recipe, "model.date=2026-11-28", "--dir", where)
    assert changed.code == 2
    assert "model.date (null → 2026-11-28)" in changed.said


def test_a_recipe_names_the_date_and_launched_workers_get_it(tmp_path: Path, command: Callable[..., Done]) -> None:
    recipe = recipe_in(tmp_path, DATED, model={"date": "2025-01-02"}, evaluate={"tasks": []})
    done = command("check", "--no-probe", recipe)
    assert done.code == 0, done.said
    assert "Today is 02 Jan 2025." in done.said
    assert command("rewrite", recipe, "--dir", tmp_path / "run").code == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["date"] == "2025-01-02"
    model = ModelConfig(path="m", date=date(2025, 1, 2))
    launch_command(tmp_path / "rows.jsonl", model, TrainConfig(launch={"processes": 2}), tmp_path / "arm")  # type: ignore[arg-type]
    job = json.loads((tmp_path / "arm" / "launch" / "job.json").read_text())
    assert ModelConfig.model_validate(job["model"]).date == date(2025, 1, 2)


def test_check_tells_of_a_date(tmp_path: Path, command: Callable[..., Done]) -> None:
    assert "set model.date to choose another" in command("check", "--no-probe", recipe_in(tmp_path, DATED)).said
    (tmp_path / "plain").mkdir()
    plain = recipe_in(tmp_path / "plain", CHATML)
    assert "writes today's date" not in command("check", "--no-probe", plain).said
    assert "model.date has no effect" in command("check", "--no-probe", plain, "model.date=2026-01-01").said


def test_a_server_that_renders_is_given_the_date(tmp_path: Path, server: Server) -> None:
    asked = [Prompt("a", (Message("user", "Hi"),))]
    day = date(2026, 2, 3)
    chat = {"server": {"url": server.url}, "date": day}
    model = ModelConfig(path=str(tiny_model(tmp_path / "m", chat_template=DATED_BY_ARGUMENT)), **chat)
    with open_backend("openai", model) as backend:
        list(backend.generate(asked, Sampling()))
    assert server.bodies[-1]["chat_template_kwargs"] == {"date_string": "03 Feb 2026"}
    without = ModelConfig(path=str(tiny_model(tmp_path / "n", chat_template=DATED)), **chat)
    with pytest.raises(RecipeError, match=r"set model\.server\.api to completions"), open_backend("openai", without):
        pass
    with open_backend("openai", ModelConfig(path="hosted", **chat)) as backend:
        list(backend.generate(asked, Sampling()))
    assert "chat_template_kwargs" not in server.bodies[-1], "nothing is known of its template"


def test_a_row_that_the_template_refuses_is_named_with_the_setting_that_drops_it(
    tmp_path: Path, command: Callable[..., Done]
) -> None:
    recipe = recipe_in(tmp_path, REFUSES, evaluate={"tasks": []})
    checked = command("check", "--no-probe", recipe)
    assert checked.code == 2
    assert "1 row can't be trained on (rows.jsonl line 8 (the chat template refuses" in checked.said
    done = command("run", recipe, "--dir", tmp_path / "run")
    assert done.code == 2
    assert "No sevens" in done.said
    assert "train.allow_unusable_rows=true" in done.said
    allowed = command("run", recipe, "train.allow_unusable_rows=true", "--dir", tmp_path / "allowed")
    assert allowed.code == 0, allowed.said
    trained = json.loads((tmp_path / "allowed" / "arms" / "vanilla" / "train.json").read_text())
    assert (trained["rows"], trained["dropped"]) == (10, 1)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('Only tools.') }}", "can't be used, even for one message"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content.text.more }}", "UndefinedError"),
        ("{% for m in messages %}<|{{ m.role }}|>{% endfor %}", "leaves out the text of a user's message"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, command: Callable[..., Done], template: str, said: str
) -> None:
    recipe = recipe_in(tmp_path, template)
    for name, where in (("check", []), ("run", ["--dir", tmp_path / "run"])):
        done = command(name, recipe, *where)
        assert done.code == 2
        assert said in done.said


def test_several_templates_without_a_default_are_one_sentence(tmp_path: Path, command: Callable[..., Done]) -> None:
    recipe = recipe_in(tmp_path, CHATML)
    tokenizer = tiny_tokenizer(CHATML)
    tokenizer.chat_template = {"rag": CHATML, "tool_use": CHATML}  # type: ignore[assignment]
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path / "model")
    done = command("check", "--no-probe", recipe)
    assert done.code == 2
    assert "several chat templates (rag, tool_use) and none is called default" in done.said


@pytest.mark.parametrize("name", ["add_generation_prompt", "tokenize", "messages", "chat_template", "strftime_now"])
def test_arguments_that_are_not_the_templates_are_refused(
    tmp_path: Path, command: Callable[..., Done], name: str
) -> None:
    done = command("check", "--no-probe", recipe_in(tmp_path, CHATML), f"model.template_kwargs.{name}=true")
    assert done.code == 2
    assert f"model.template_kwargs can't hold '{name}'" in done.said


def test_the_date_is_not_the_clock(tmp_path: Path) -> None:
    """Also of the hour, and of a template that asks only if there is no system message."""
    template = "{% if messages[0].role == 'user' %}It is {{ strftime_now('%H:%M on %A') }}. {% endif %}" + CHATML
    render = Renderer(tiny_tokenizer(template), day=date(2026, 2, 3))
    assert render.text((Message("user", "Hi"),)).startswith("It is 00:00 on Tuesday. ")
    assert list(render.template.formats) == ["%H:%M on %A"]
