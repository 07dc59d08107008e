"""The JSON schema of recipes: it takes what the recipe's models take, and names every key."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.command import Done

from selfdistill.demo import RECIPE
from selfdistill.errors import RecipeError
from selfdistill.recipe import RECIPES, load_recipe, load_recipes, make_recipe, save_recipe
from selfdistill.recipe.plain_yaml import parse_yaml, plain
from selfdistill.recipe.schema import SCHEMA_FILE, recipe_schema

ROOT = Path(__file__).parents[1]
SCHEMA = recipe_schema()
CHECKER = jsonschema.Draft7Validator(SCHEMA)
SHIPPED = [*sorted(RECIPES.glob("*.yaml")), *sorted(RECIPE.parent.glob("*.yaml")), *sorted(ROOT.glob("recipes/*.yaml"))]


def problems(text: str) -> list[str]:
    return [error.message for error in CHECKER.iter_errors(plain(parse_yaml(text)))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_is_valid(path: Path) -> None:
    assert problems(path.read_text(encoding="utf-8")) == []


def test_a_recipe_that_is_written_out_is_valid() -> None:
    """Every key with its value, as an experiment's directory holds it."""
    values = {
        "model": "m", "data": "d", "judge": {"model": {"path": "j", "server": {"url": "http://localhost"}}},
        "arms": {"seed": {"data": "none"}, "mix": {"data": 0.5, "replay": {"path": "r", "share": 0.1}}},
        "evaluate": {"tasks": ["gsm8k"]}, "train": {"launch": {"processes": 2}},
    }  # fmt: skip
    assert problems(save_recipe(make_recipe(values))) == []
    for path in SHIPPED:
        for recipe in load_recipes(path).values():
            assert problems(save_recipe(recipe)) == []


def places(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema with keys."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from places(each)
    if isinstance(value, dict) and isinstance(value.get("properties"), dict):
        yield value


def test_every_key_has_a_description_and_no_section_takes_others() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = list(places(SCHEMA))
    assert len(found) > 15
    for section in found:
        assert section["additionalProperties"] is False
        for name, place in section["properties"].items():
            assert place.get("description"), name
            assert "$ref" not in place, f"{name}: in draft 7 a reference hides its description"


@pytest.mark.parametrize(
    "wrong",
    [
        "trian: {lr: 1}", "train: {lrr: 1}", "train: {adapter: {rank: 8}}", "rewrite: {filters: {refusals: true}}",
        "evaluate: {tasks: [{task: gsm8k, m: 5}]}", "arms: {seed: {data: none, nn: 1}}", "arms: {a: {data: rewrite}}",
        "arms: {seed: {data: none, train: {lrr: 1}}}", "train: {lr: 0}", "train: {epochs: many}", "sweep: {n: 5}",
        "rewrite: {sampling: {preset: papers}}", "judge: {modell: x}", "arms: {a: {n: 5}}",
        "experiments: {a: {train: {lrr: 1}}}",
    ],
)  # fmt: skip
def test_a_misspelt_key_or_a_wrong_value_is_found(wrong: str, tmp_path: Path) -> None:
    text = f"model: demo\ntask: demo-maths\n{wrong}\n"
    assert problems(text)
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError):
        load_recipes(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "right",
    [
        "data: d.jsonl", "data:", "note: 5", "rewrite: {sampling: paper}", "evaluate: {sampling: greedy}",
        "arms: {seed: {data: none}, b: {data: 0.5, train: {adapter: {r: 4}}}}", "sweep: {train: {lr: [1e-4, 1e-5]}}",
        "judge: {model: demo}", "evaluate: {tasks: [gsm8k, {task: advbench, n: 20}]}", "train:",
        "experiments: {a: {train: {lr: 1e-4}}, b: {model: {dtype: float32}, arms: {sdft: {n: 5}}}}",
    ],
)  # fmt: skip
def test_short_forms_are_valid(right: str, tmp_path: Path) -> None:
    text = (
        f"model: {{path: demo}}\ntask: demo-maths\narms: {{seed: {{data: none}}, sdft: {{data: rewrites}}}}\n{right}\n"
    )
    if right.startswith("arms"):
        text = f"model: demo\ntask: demo-maths\n{right}\n"
    assert problems(text) == []
    (tmp_path / "r.yaml").write_text(text)
    assert load_recipes(tmp_path / "r.yaml")


def test_what_init_writes_names_its_schema(tmp_path: Path, command: Callable[..., Done]) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"question": f"{n}?", "answer": "Yes."}) + "\n" for n in range(30)))
    recipe = tmp_path / "sub" / "recipe.yaml"
    recipe.parent.mkdir()
    done = command("init", "--model", "demo", "--data", data, "--to", recipe)
    assert SCHEMA_FILE in done.out
    first = recipe.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert json.loads(recipe.with_name(SCHEMA_FILE).read_text(encoding="utf-8")) == SCHEMA
    assert json.loads(command("schema").out) == SCHEMA
    assert problems(recipe.read_text(encoding="utf-8")) == []
    assert load_recipe(recipe)
