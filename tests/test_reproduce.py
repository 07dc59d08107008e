"""The paper's tables and figures by name: recipes with its settings, run at demo scale, our figures beside its."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill.demo import SEEDS
from selfdistill.errors import RecipeError
from selfdistill.pipeline.check import check
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.reproduce import (
    DEMO_TASKS,
    DEMO_TRAIN,
    at_demo_scale,
    beside_paper,
    experiments,
    names,
    paper,
)
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import RECIPES, load_recipe, load_recipes, make_recipe

FAKE = ("rewrite.backend=fake", "evaluate.backend=fake", "train.max_steps=1", "gap=false")
OF_THE_PAPER = [(name, own) for name in names() for own in load_recipes(name)]


def test_each_table_and_figure_has_a_recipe_and_each_recipe_of_one_its_figures() -> None:
    wanted = [*(f"table{n}" for n in range(1, 6)), *(f"figure{n}" for n in range(4, 10))]
    assert names() == wanted
    for name in wanted:
        known = paper()[name]
        assert ("experiments" in known) != ("claim" in known), name
        assert set(known.get("experiments", {})) <= set(load_recipes(name))


@pytest.mark.parametrize(("name", "own"), OF_THE_PAPER)
def test_settings_are_the_papers(name: str, own: str) -> None:
    recipe = load_recipes(name)[own]
    train, rows = recipe.train, make_context(recipe).source.n
    assert (train.adapter.r, train.adapter.alpha, train.adapter.targets) == (8, 16, ["q_proj", "v_proj"])
    assert (train.schedule, recipe.model.chat_template) == ("cosine", "alpaca")
    assert recipe.rewrite.sampling.temperature == 0.95
    epochs, n = {"gsm8k": (5, None), "openfunctions": (5, None), "lima": (2, None), "openhermes": (2, 20000)}.get(
        recipe.task or "", (2, 2000)
    )
    assert rows == n
    if own != "llama-2-7b-full":
        assert (train.method, train.lr, train.batch_size, train.epochs) == ("lora", 1e-4, 8, epochs)
    models = {"llama-2-13b": "meta-llama/Llama-2-13b-chat-hf", "llama-3-8b": "meta-llama/Meta-Llama-3-8B-Instruct"}
    assert recipe.model.path == models.get(own, "meta-llama/Llama-2-7b-chat-hf")
    assert list(recipe.arms) == ["seed", "vanilla", "sdft"]


def test_experiments_of_one_name_share_what_is_trained() -> None:
    """So that tables in one --dir train each arm once, at demo scale too."""
    trained: dict[tuple[str, str, str], str] = {}
    for name, own in OF_THE_PAPER:
        for kind, recipe in (("paper", load_recipes(name)[own]), ("demo", experiments(name, demo=True)[own])):
            for stage in stages_of(make_context(recipe)):
                if stage.name.startswith("train/"):
                    assert trained.setdefault((kind, own, stage.name), stage.fingerprint) == stage.fingerprint, name


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_check_passes_without_model_and_network(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE is set for all tests. What only this machine may lack is no matter of the recipe."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    calls = tmp_path / "sdft" / "data" / "openfunction"
    calls.mkdir(parents=True)
    row = {"instruction": "Add 1 and 2 with add(a, b).", "input": "", "output": "add(a=1, b=2)"}
    for split in ("train", "test"):
        (calls / f"openfunction_{split}.json").write_text(json.dumps([row]))
    sums = [{"question": f"1 + {n}?", "answer": str(n + 1)} for n in range(300)]
    (tmp_path / "my_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    recipe = next(iter(load_recipes(path).values()))
    found = check(recipe)
    assert [line for line in found.missing if "bubblewrap" not in line and "knowledge" not in line] == []
    assert any("tokenizer" in line for line in found.unseen) or recipe.model.path in SEEDS


def test_check_names_the_file_of_openfunctions_and_looks_at_every_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("check", "--no-probe", "table4")
    assert done.code == 2
    assert "sdft/data/openfunction/openfunction_train.json" in done.said
    assert "sdft/data/openfunction/openfunction_test.json" in done.said
    done = command("check", "--no-probe", "figure9", "model=demo", "model.chat_template=chat")
    assert all(f"———— {own}" in done.said for own in ("openfunctions", "gsm8k", "magicoder"))
    assert "Missing" in done.said  # OpenFunctions' file, in one of the three
    assert done.code == 2


def test_a_table_runs_at_demo_scale_and_another_in_its_folder_trains_nothing(
    tmp_path: Path, command: Callable[..., Done]
) -> None:
    where = tmp_path / "shared"
    done = command("reproduce", "table1", "--demo", "--only", "gsm8k", "--dir", where, *FAKE)
    assert done.code == 0, done.said
    assert "demo-maths (for gsm8k)" in done.said
    assert "34.4" in done.said  # the paper's for SDFT
    assert "Demo scale" in done.said
    assert "Its code samples all evaluation" in done.said
    rows = json.loads((where / "table1.json").read_text())["figures"]
    assert {(row["arm"], row["task"]) for row in rows} == {
        (arm, task) for arm in ("seed", "vanilla", "sdft") for task in ("demo-maths", "demo-tool", "demo-code")
    }
    weights = {path: path.stat().st_mtime_ns for path in where.glob("demo/gsm8k/arms/*/model/*.safetensors")}
    assert weights
    done = command("reproduce", "table2", "--demo", "--only", "gsm8k", "--dir", where, *FAKE)
    assert done.code == 0, done.said
    assert "train vanilla" not in done.said
    assert {path: path.stat().st_mtime_ns for path in where.glob("demo/gsm8k/arms/*/model/*.safetensors")} == weights


def test_demo_scale_keeps_the_form(tmp_path: Path) -> None:
    plans = {name: make_context(next(iter(experiments(name, demo=True).values()))) for name in names()}
    assert [point.value for point in plans["figure5"].points if point.series == "sdft"] == [16, 32, 48, 64]
    assert [arm for arm in plans["figure7"].recipe.arms if "=" in arm] == ["mix=0.25", "mix=0.5", "mix=0.75"]
    assert "sdft.template=refer" in plans["table4"].recipe.arms
    full = experiments("table5", demo=True)["llama-2-7b-full"]
    assert full.train.method == "full"
    for name, plan in plans.items():
        assert stages_of(plan), name
        assert plan.recipe.model.path == "demo"
        assert all(task.entry.task.startswith("demo-") for task in plan.tasks.values()), name
        assert plan.recipe.judge is None
    used = {entry.task for name, own in OF_THE_PAPER for entry in load_recipes(name)[own].evaluate.tasks}
    assert used <= set(DEMO_TASKS)
    assert {load_recipes(name)[own].task for name, own in OF_THE_PAPER} <= set(DEMO_TRAIN)
    own_data = make_recipe(at_demo_scale(load_recipe("own-data")))
    assert own_data.train.epochs == 1


def test_figures_stand_beside_the_papers() -> None:
    score = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 8}
    unjudged = {"value": None, "low": None, "high": None, "n": 8}
    verdict = {
        "model": "m", "arms": ["seed", "vanilla", "sdft"], "notes": ["Mind this."],
        "tasks": [
            {"task": "gsm8k", "scores": {"seed": score, "sdft": score}},
            {"task": "multiarith", "scores": {"sdft": unjudged}},
        ],
    }  # fmt: skip
    made = beside_paper("table1", {"openfunctions": verdict})
    assert [(row.arm, row.task, row.ours, row.low, row.high, row.paper) for row in made.figures] == [
        ("seed", "gsm8k", 25.0, 12.5, 50.0, 29.4),
        ("sdft", "gsm8k", 25.0, 12.5, 50.0, 29.1),
        ("sdft", "multiarith", None, None, None, None),
    ]
    assert "Mind this." in made.notes
    assert set(paper()["differs"]) <= set(made.notes)
    assert beside_paper("figure6", {"alpaca": verdict}).shift
    assert beside_paper("mine.yaml", {"": verdict}).notes == ["Mind this."]
    own = beside_paper("own/table1.yaml", {"openfunctions": verdict})  # not the paper's, whatever its name
    assert (own.notes, [row.paper for row in own.figures]) == (["Mind this."], [None] * 3)


def test_the_papers_figures_are_those_of_its_text(real_data: Path) -> None:
    folder = real_data.parent / "paper"
    if not folder.is_dir():
        pytest.skip("the paper's text is not beside the data")
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file())
    there = {float(number) for number in re.findall(r"\d+\.\d+", text)}
    for name in names():
        for arms in paper()[name].get("experiments", {}).values():
            for values in arms.values():
                assert set(values.values()) <= there, name


def test_an_own_file_may_hold_several_experiments(tmp_path: Path, command: Callable[..., Done]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: m\ntask: gsm8k\ntrain: {lr: 1.0e-3}\nexperiments: {a: {}, b: {train: {epochs: 1}, model: n}}"
    )
    recipes = load_recipes(path, ["train.warmup=0.1"])
    assert [(its.model.path, its.train.epochs, its.train.lr, its.train.warmup) for its in recipes.values()] == [
        ("m", 2, 1e-3, 0.1), ("n", 1, 1e-3, 0.1),
    ]  # fmt: skip
    done = command("run", path)
    assert (done.code, "holds 2 experiments (a, b); run them with" in done.said) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "There is no 'table9' to reproduce; choose table1"),
        (["table1", "--only", "gsm"], "table1 has no experiment gsm; it has openfunctions"),
        (["table1", "--demo", "trian.lr=1"], "unknown key `trian`"),
        (["table1", "trian.lr=1"], "unknown key `trian`"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, command: Callable[..., Done], tmp_path: Path
) -> None:
    done = command("reproduce", *arguments, "--dir", tmp_path)
    assert (done.code, message in done.said) == (2, True), done.said


@pytest.mark.parametrize("experiments", ["[]", "3", "{}", "{a: 1}", "{../a: {}}"])
def test_experiments_that_are_none_are_named(experiments: str, tmp_path: Path) -> None:
    path: Any = tmp_path / "mine.yaml"
    path.write_text(f"model: m\ntask: gsm8k\nexperiments: {experiments}")
    with pytest.raises(RecipeError, match=r"`experiments` needs names|experiment name '\.\./a'"):
        load_recipes(path)


@pytest.mark.parametrize("name", [*names(), "llama-3-8b-gsm8k"])
def test_the_papers_recipes_rewrite_with_its_wording(name: str) -> None:
    for recipe in load_recipes(name).values():
        assert make_context(recipe).task.template in ("using", "refer", "math")
