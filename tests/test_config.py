"""Recipes: one model for file, overrides and saved copy; every mistake named with the key that was meant."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.config import load_recipe, make_recipe, save_recipe
from selfdistill.errors import RecipeError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_the_papers() -> None:
    recipe = make_recipe({"model": "m", "data": "d.jsonl"})
    assert list(recipe.arms) == ["seed", "vanilla", "sdft"]
    assert recipe.arm_train(recipe.arms["vanilla"]) == recipe.arm_train(recipe.arms["sdft"])
    train = recipe.train
    assert (train.adapter.r, train.adapter.alpha, train.adapter.targets) == (8, 16, ["q_proj", "v_proj"])
    assert (train.lr, train.schedule, train.batch_size) == (1e-4, "cosine", 8)
    sampling = recipe.rewrite.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_new_tokens) == (0.95, 0.7, 50, 512)


def test_a_saved_recipe_is_the_recipe(tmp_path: Path) -> None:
    recipe = make_recipe(
        {"model": {"path": "ü: x"}, "data": "d", "arms": {"seed": {"data": "none"}, "mix": {"data": 0.5}}},
        ["train.lr=2e-5", "evaluate.tasks=[gsm8k, {task: advbench, n: 20}]"],
    )
    assert recipe.train.lr == 2e-5
    assert load_recipe(write(tmp_path, save_recipe(recipe))) == recipe


def test_an_override_changes_one_value_of_what_a_preset_or_shorthand_stands_for() -> None:
    base = {"model": "m", "data": "d"}
    for values in (base, {**base, "rewrite": {"sampling": "paper"}}):
        sampling = make_recipe(values, ["rewrite.sampling.max_new_tokens=64"]).rewrite.sampling
        assert (sampling.temperature, sampling.max_new_tokens) == (0.95, 64)
    saved = make_recipe(base).model_dump(mode="json")
    assert make_recipe(saved, ["evaluate.sampling.preset=paper"]).evaluate.sampling.temperature == 0.95
    assert make_recipe(base, ["model.layout=alpaca"]).model.path == "m"
    assert list(make_recipe(base, ["arms.sdft.n=5"]).arms) == ["seed", "vanilla", "sdft"]
    assert make_recipe({**base, "train": None, "arms": None}) == make_recipe(base)


def test_a_preset_fills_in_what_is_not_written() -> None:
    recipe = make_recipe({"model": "m", "data": "d", "rewrite": {"sampling": {"preset": "paper", "top_k": 7}}})
    assert (recipe.rewrite.sampling.temperature, recipe.rewrite.sampling.top_k) == (0.95, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\ndata: {path: d, fromat: alpaca}", r"unknown key `data.fromat` \(did you mean `format`\?\)"),
        ("model: m\ndata: d\ntrian: {}", r"unknown key `trian` \(did you mean `train`\?\)"),
        ("model: m\ndata: d\nlr: 3", r"unknown key `lr` \(did you mean `train.lr`\?\)"),
        ("model: m\ndata: d\ntrain: {epochs: many}", "`train.epochs`: input should be a valid number"),
        ("model: m\ndata: d\ntrain: {lr: -1}", "`train.lr`: input should be greater than 0"),
        ("model: m\ndata: d\ntrain: {batch_size: 7}", "batch_size 7 is not a multiple of micro_batch_size 2"),
        ("model: m\ndata: d\ntrain: {extra: {loss_type: dtf}}", "TRL has no loss 'dtf'; choose nll or dft"),
        ("model: m\ndata: d\narms: {a: {data: none, train: {lrr: 1}}}", "arm a: unknown key `train.lrr`"),
        ("model: m\ndata: d\narms: {a: {dta: none}}", r"unknown key `arms.a.dta` \(did you mean `data`\?\)"),
        ("model: m\ndata: d\narms: {a: {data: original}}", "no arm has `data: none`"),
        ("model: m\ndata: d\narms: {../x: {data: none}}", "arm name '../x'"),
        ("model: m\ndata: d\narms: {seed: {data: none}, m: {data: 1.5}}", "a mix ratio between 0 and 1, not 1.5"),
        ("model: m\ndata: d\nevaluate: {tasks: [gsm8k, gsm8k]}", "named twice: gsm8k"),
        ("data: d", "`model` is missing"),
        ("model: m", "name a `task`, or your own data"),
        ("- a\n- b", "holds no recipe"),
        ("", "holds no recipe"),
        ("a: [1", "not readable as YAML"),
        ("model: m\ndata: d\narms: {a: {data: none}, a: {data: original}}", "line 3: the key 'a' is there twice"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["train.lr", "=3", "train.lr=[1", "train.lrr=1", "lr=1", "train=3"])
def test_bad_overrides_are_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(write(tmp_path, "model: m\ndata: d"), [override])


def test_missing_folder_and_encoding(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe at"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("model: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="not readable"):
        load_recipe(tmp_path / "latin.yaml")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_any_value_is_a_recipe_or_a_recipe_error(value: object) -> None:
    with contextlib.suppress(RecipeError):
        make_recipe({"model": value, "data": value, "train": value, "arms": value})
