"""Recipes: one model for file, overrides and saved copy; every mistake named with the key that was meant."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdistill.errors import RecipeError
from selfdistill.pipeline.context import make_context
from selfdistill.recipe import Recipe, load_recipe, make_recipe, save_recipe
from selfdistill.recipe.plain_yaml import dump_yaml, parse_yaml, plain

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize("task", ["gsm8k", "alpaca", "magicoder", "demo-maths"])
def test_a_saved_recipe_leaves_the_data_of_a_task_as_the_task_has_it(tmp_path: Path, task: str) -> None:
    recipe = make_recipe({"model": "demo", "task": task, "data": {"n": 5, "near_duplicates": {"drop": True}}})
    source = make_context(recipe).source
    assert source.near_duplicates.drop
    assert source.on_bad_row == ("skip" if task == "alpaca" else "stop")
    assert make_context(load_recipe(write(tmp_path, save_recipe(recipe)))).source == source


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
    assert make_recipe(base, ["model.chat_template=alpaca"]).model.path == "m"
    assert list(make_recipe(base, ["arms.sdft.n=5"]).arms) == ["seed", "vanilla", "sdft"]
    assert make_recipe({**base, "train": None, "arms": None}) == make_recipe(base)


def test_a_mapping_on_the_command_line_replaces_arms_sweeps_and_graders_and_changes_sections() -> None:
    """As docs/keys.md says."""
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original", "n": 3}, "mix": {"data": 0.5}}
    for values in ({"model": "m", "data": "d"}, {"model": "m", "data": "d", "arms": arms}):
        few = make_recipe(values, ["arms={seed: {data: none}, vanilla: {data: original}}"])
        assert (list(few.arms), few.arms["vanilla"].n) == (["seed", "vanilla"], None)
        more = make_recipe(values, ["arms={seed: {data: none}}", "arms.half={data: 0.5}"])
        assert list(more.arms) == ["seed", "half"]
        assert list(make_recipe(values, ["arms.half={data: 0.5}"]).arms)[-1] == "half"
    assert (
        make_recipe({"model": "m", "data": "d", "arms": arms}, ["arms.vanilla={data: original}"]).arms["vanilla"].n == 3
    )
    swept = {"model": "m", "data": "d", "sweep": {"n": [1, 2]}}
    assert make_recipe(swept, ["sweep={train.lr: [1]}"]).sweep == {"train.lr": [1]}
    assert make_recipe(swept, ["sweep.train.lr=[1]"]).sweep == {"n": [1, 2], "train.lr": [1]}
    assert make_recipe(swept, ["sweep=null"]).sweep == {}
    graded = {
        "model": "m",
        "data": "d",
        "rewrite": {"grader": {"name": "similar", "threshold": 0.9}, "min_accepted": 0.5},
    }
    both = make_recipe(graded, ["rewrite.grader={all_of: [facts, similar]}"]).rewrite
    assert (both.grader, both.min_accepted) == ({"all_of": ["facts", "similar"]}, 0.5)
    assert make_recipe(graded, ["train={lr: 1.0}", "train={epochs: 1}"]).train.lr == 1


def test_the_command_in_the_docs_runs_the_three_arms_of_the_results() -> None:
    page = (ROOT / "docs/results/README.md").read_text(encoding="utf-8")
    (arms,) = re.findall(r"'(arms=.*)'", page)
    assert list(load_recipe(ROOT / "docs/results/dolly.yaml", [arms]).arms) == ["seed", "vanilla", "sdft"]


def test_a_preset_fills_in_what_is_not_written() -> None:
    recipe = make_recipe({"model": "m", "data": "d", "rewrite": {"sampling": {"preset": "paper", "top_k": 7}}})
    assert (recipe.rewrite.sampling.temperature, recipe.rewrite.sampling.top_k) == (0.95, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\ndata: {path: d, fromat: alpaca}", r"unknown key `data.fromat` \(did you mean `data.format`\?\)"),
        ("model: m\ndata: d\ntrian: {}", r"unknown key `trian` \(did you mean `train`\?\)"),
        ("model: m\ndata: d\nlr: 3", r"unknown key `lr` \(did you mean `train.lr`\?\)"),
        ("model: m\ndata: d\ntrain: {learning_rate: 1}", r"`train.learning_rate` \(did you mean `train.lr`\?\)"),
        ("model: m\ndata: d\nlora_r: 1", r"`lora_r` \(did you mean `train.adapter.r`\?\)"),
        ("model: m\ndata: d\nmax_seq_length: 1", r"`max_seq_length` \(did you mean `train.max_length`\?\)"),
        ("model: m\ndata: d\noutput_dir: x", r"`output_dir` \(name the directory with the option `--dir`\)"),
        ("model: m\ndata: d\ntrain: {zzz: 1}", r"unknown key `train.zzz`\.$"),
        ("model: m\ndata: d\nseeds: 3", r"`seeds`: write a list, such as \[0, 1, 2\], not 3"),
        ("model: m\ndata: d\nevaluate: {tasks: gsm8k}", r"`evaluate.tasks`: write a list, such as \[gsm8k\]"),
        ("model: m\ndata: d\ntrain: {epochs: many}", "`train.epochs`: input should be a valid number"),
        ("model: m\ndata: d\ntrain: {lr: -1}", "`train.lr`: input should be greater than 0"),
        ("model: m\ndata: d\ntrain: {batch_size: 7}", "batch_size 7 is not a multiple of micro_batch_size 2"),
        ("model: m\ndata: d\ntrain: {extra: {loss_type: dtf}}", "TRL has no loss 'dtf'; choose nll or dft"),
        ("model: m\ndata: d\narms: {a: {data: none, train: {lrr: 1}}}", "arm a: unknown key `train.lrr`"),
        ("model: m\ndata: d\narms: {a: {dta: none}}", r"unknown key `arms.a.dta` \(did you mean `arms.a.data`\?\)"),
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


def test_a_missing_folder_and_a_wrong_encoding_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe at"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("model: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="not readable"):
        load_recipe(tmp_path / "latin.yaml")


@settings(max_examples=30)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_any_value_is_a_recipe_or_a_recipe_error(value: object) -> None:
    with contextlib.suppress(RecipeError):
        make_recipe({"model": value, "data": value, "train": value, "arms": value})


WRITTEN = {
    # text: (as a setting of any type, as a text)
    "1e-8": (1e-8, "1e-8"),
    "123e456": ("123e456", "123e456"),
    "2.5": (2.5, "2.5"),
    "0x1f": (31, "0x1f"),
    "0o17": (15, "0o17"),
    "017": (17, "017"),
    ".inf": (float("inf"), ".inf"),
    "true": (True, "true"),
    "True": (True, "True"),
    "nan": ("nan", "nan"),
    "inf": ("inf", "inf"),
    "1_000": ("1_000", "1_000"),
    "yes": ("yes", "yes"),
    "off": ("off", "off"),
    "2024-01-01": ("2024-01-01", "2024-01-01"),
    "12:30:00": ("12:30:00", "12:30:00"),
    "'1e-8'": ("1e-8", "1e-8"),
    '"0x1f"': ("0x1f", "0x1f"),
    "null": (None, None),
    "~": (None, None),
    "": (None, None),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_scalar_is_read_by_yaml_1_2_and_a_text_takes_it_as_it_is_written(tmp_path: Path, text: str) -> None:
    whatever, as_text = WRITTEN[text]
    for recipe in both_ways(tmp_path, text):
        assert recipe.model.template_kwargs == {"x": whatever}
        assert type(recipe.model.template_kwargs["x"]) is type(whatever)
        assert recipe.note == recipe.model.revision == as_text
        saved = tmp_path / "saved.yaml"
        saved.write_text(save_recipe(recipe), encoding="utf-8")
        assert load_recipe(saved) == recipe


def both_ways(tmp_path: Path, text: str) -> list[Recipe]:
    """The recipe with a scalar in its file, and with the same scalar in overrides."""
    start = "data: d\n"
    lines = f"note: {text}\nmodel:\n  path: m\n  revision: {text}\n  template_kwargs:\n    x: {text}\n"
    in_file = load_recipe(write(tmp_path, start + lines))
    overrides = [f"note={text}", f"model.revision={text}", f"model.template_kwargs.x={text}"]
    return [in_file, load_recipe(write(tmp_path, start + "model: m\n"), overrides)]


SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"), max_size=8),
    st.text("0123456789eE+-._xoabfnNi", max_size=8),
    st.floats().map(repr),
    st.sampled_from(
        [*WRITTEN, "# c", "a: b", "- a", "[1, 2e3]", "{a: 0x1}", "---", "!!int x", "*a", "&a 1", "|", "<<"]
    ),
)


@given(SCALARS)
def test_any_scalar_is_the_same_in_a_file_and_in_an_override(text: str) -> None:
    def outcome(read: Callable[[], Recipe]) -> Any:
        try:
            return repr(read().model)  # by repr, as nan is not equal to itself
        except RecipeError:
            return "refused"

    with TemporaryDirectory() as folder:
        lines = f"data: d\nmodel:\n  path: m\n  revision: {text}\n  template_kwargs: {{}}\n"
        in_file = outcome(lambda: load_recipe(write(Path(folder), lines)))
        plain = "data: d\nmodel:\n  path: m\n  template_kwargs: {}\n"
        assert outcome(lambda: load_recipe(write(Path(folder), plain), [f"model.revision={text}"])) == in_file
        nested = f"data: d\nmodel:\n  path: m\n  template_kwargs:\n    x: {text}\n"
        in_file = outcome(lambda: load_recipe(write(Path(folder), nested)))
        assert outcome(lambda: load_recipe(write(Path(folder), plain), [f"model.template_kwargs.x={text}"])) == in_file


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_what_is_saved_is_read_as_it_was(value: Any) -> None:
    assert plain(parse_yaml(dump_yaml({"x": value}))) == {"x": value}


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    text = "data: d\nmodel: 1e3\narms:\n  base: {data: none}\n  0.10: {data: 0.10, template: 007}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.model.path == "1e3"
    assert (recipe.arms["0.10"].data, recipe.arms["0.10"].template) == (0.1, "007")
