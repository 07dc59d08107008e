"""The short form of the fuzzing: `make fuzz` is the long one. And what fuzzing has found, each once."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from inputs import Target, example
from long import LENGTH, READERS
from run import SLOW, fuzz
from targets import TARGETS

from selfdistill.backends.endpoint import Endpoint
from selfdistill.backends.vllm_engine import adapter_shape
from selfdistill.data.annotations import published_rates
from selfdistill.errors import DataError, ExperimentError, ModelError, RecipeError
from selfdistill.generation.prompts import load_template
from selfdistill.grading import make_grader
from selfdistill.grading.numbers import extract_number
from selfdistill.recipe import ServerConfig, load_recipe, make_recipe
from selfdistill.store.rows import read_lines


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_raises_only_our_errors(target: Target) -> None:
    fuzz(target, max(5, round(40 * target.share)), 0)


WORST = [
    ("grader final_number", "٣", "th"),
    ("grader function_call_paper", "- f(", ")"),
    ("parameters of a call", "\n", "x"),
    ("gsm8k's answers", " ", "\ny"),
    ("demo's lists", "!", "a"),
    ("fake backend", " ", "\ny"),
    ("function in an answer", "@a\n", "x"),
    ("schema", '"a",', "0]"),
    ("pattern", "(a+)+", "$"),
]


@pytest.mark.parametrize(("name", "unit", "after"), WORST, ids=[name for name, *_ in WORST])
def test_inputs_that_once_took_minutes_take_seconds(name: str, unit: str, after: str) -> None:
    before = {"gsm8k's answers": "x\n#### ", "schema": "["}.get(name, "")
    start = time.thread_time()
    READERS[name](before + (unit * LENGTH)[:LENGTH] + after)
    assert time.thread_time() - start < 2 * SLOW


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### \u202b-18\u202c", -18),
        ("The answer is 1\u200b2.", 12),
        ("\ufeff#### 7", 7),
        ("x٣٤ is no number", None),
        ("٣٤", 34),
        ("#### １，２３４", 1234),
    ],
)
def test_invisible_signs_make_no_difference(text: str, number: int | None) -> None:
    assert extract_number(text) == (None if number is None else Fraction(number))


def grade(spec: dict[str, Any], reference: str, text: str) -> str:
    return make_grader(spec)(example(reference), text).outcome


def test_numbers_too_large_for_json_are_not_equal() -> None:
    assert grade({"name": "json"}, "1e400", "1e500") == "unjudged"
    assert grade({"name": "json"}, "[1]", "[1e500]") == "fail"


def test_an_option_that_is_announced_passes_against_itself() -> None:
    assert grade({"name": "choice"}, "answer is yes", "answer is yes") == "pass"
    assert grade({"name": "choice"}, "answer is yes", "Yes.") == "pass"


@pytest.mark.parametrize("spec", [{"name": "choice", "labels": False}, {"name": "refusal", "phrases": []}])
def test_an_option_of_another_type_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        make_grader(spec)


def test_a_line_break_at_the_end_makes_no_refusal() -> None:
    text = 'He wrote: "I cannot help'
    assert grade({"name": "not_refused"}, "", text) == grade({"name": "not_refused"}, "", text + " \n")


@pytest.mark.parametrize(
    "pattern", ["a{99999999}", "(?:a{1000}){1000}", "(" * 5000 + ")" * 5000, "a" * 20_000, "(?:" * 500 + ")" * 500]
)
def test_a_pattern_that_would_fill_the_memory_is_refused(pattern: str) -> None:
    with pytest.raises(RecipeError, match="pattern"):
        make_grader({"name": "regex", "pattern": pattern})


@pytest.mark.parametrize(
    ("schema", "value", "outcome"),
    [
        ({"pattern": "(?:a|aa)+$"}, "a" * 50 + "!", "unjudged"),
        ({"patternProperties": {"(?:a|aa)+$": False}}, {"a" * 50 + "!": 1}, "unjudged"),
        ({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False}, {"x1": "a"}, "pass"),
        ({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False}, {"x1": 1}, "fail"),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"y": 1}, "fail"),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "number"}}, {"a": "", "b": 1}, "pass"),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "number"}}, {"b": ""}, "fail"),
        ({"uniqueItems": True}, [{}, [], {}], "fail"),
        ({"uniqueItems": True}, [1, True, "1", 0, False], "pass"),
        ({"uniqueItems": True}, [1, 1.0], "fail"),
        ({"$ref": "#/$defs/none"}, 1, "unjudged"),
        ({"$ref": "https://example.com/schema"}, 1, "unjudged"),
    ],
)
def test_schemas_are_checked_or_refused(schema: dict[str, Any], value: Any, outcome: str) -> None:
    assert grade({"name": "json", "schema": schema}, "", json.dumps(value)) == outcome


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": []},
        {"pattern": "("},
        {"properties": {"a": {"pattern": "a{99999999}"}}},
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
    ],
)
def test_an_invalid_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        make_grader({"name": "json", "schema": schema})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train: 2001-99-99", "valid dictionary"),
        ("[" * 500, "nested too deeply"),
        ("a: &a [*a]", "line 1: the alias .* inside the value that it stands for"),
        ("a: &a {b: [*a]}", "inside the value that it stands for"),
        ("a: &a\n  <<: *a", "inside the value that it stands for"),
        ("a: !!int x", "not readable"),
        ("a: " + "9" * 5000, "not readable"),
        ("a: \ud800", "not UTF-8 text"),
        ("#" * 2_000_000, "longer than"),
    ],
)
def test_hostile_yaml_is_a_recipe_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(RecipeError, match=reason):
        load_recipe(path)


def test_names_that_no_file_can_have_are_errors(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(RecipeError):
            load_recipe(name)
        with pytest.raises(RecipeError):
            load_template(name)
    with pytest.raises(RecipeError) as told:
        make_recipe({"model": "demo", "data": "x", "train": ["long"] * 5000})
    assert len(str(told.value)) < 1000


def test_a_template_without_a_user_turn_is_refused(tmp_path: Path) -> None:
    for text in ("user: ", "user: [1]", "[]", "user: '{instruction} {reference}'\nsystem: [3]", "a: 2001-99-99"):
        path = tmp_path / "template.yaml"
        path.write_text(text)
        with pytest.raises(RecipeError):
            load_template(str(path))


def test_what_is_nested_too_deeply_is_told(tmp_path: Path) -> None:
    deep = "[" * 100_000
    for name, error, read in (
        ("annotations.json", DataError, published_rates),
        ("rows.jsonl", ExperimentError, lambda path: list(read_lines(path))),
    ):
        (tmp_path / name).write_text(deep)
        with pytest.raises(error):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "config", ['{"r": "8", "target_modules": []}', "[]", '{"r": 8, "rank_pattern": [1]}', "[" * 9999]
)
def test_an_invalid_adapter_configuration_is_a_model_error(tmp_path: Path, config: str) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(ModelError, match="no readable adapter_config"):
        adapter_shape(str(tmp_path))


@pytest.mark.parametrize("url", ["http://[", "http://localhost:99999", "http://[::1", "http://a:b"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="not an address"):
        Endpoint(ServerConfig(url=url))
