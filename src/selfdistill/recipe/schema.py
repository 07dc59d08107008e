"""The JSON schema of a recipe's file, for editors and other programs.

Types, bounds, defaults and descriptions come from the recipe's models. What a file may hold in addition is added here:
the short forms of sections, sections that are left empty, and `experiments`. Draft 7, since the YAML language server
reads no later one. In it a `$ref` hides its neighbours, so a described reference is written as `allOf`.
"""

from __future__ import annotations

import json
from typing import Any

from .arms import ARM_KINDS, MIX
from .keys import descriptions, section_in
from .load import SHORT_FORMS
from .model import SAMPLING_PRESETS, Sampling
from .root import Recipe
from .settings import Settings
from .suites import SIZES, SUITES

JsonSchema = dict[str, Any]

SCHEMA_FILE = "selfdistill.schema.json"
"""The name of the schema's file next to a recipe."""
_TEXT: JsonSchema = {"type": "string"}
_LISTS: JsonSchema = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/sweep"}]},
}
_SUITE: JsonSchema = {
    "type": "object",
    "properties": {
        "suite": {"enum": list(SUITES), "description": "The name of the suite."},
        "size": {"enum": list(SIZES), "description": "How many items of each task are asked; quick is the default."},
        "without": {
            "anyOf": [_TEXT, {"type": "array", "items": _TEXT}],
            "description": "Tasks of the suite that are left out.",
        },
    },
    "required": ["suite"],
    "additionalProperties": False,
    "description": "A list of tasks under one name; `without` leaves tasks out.",
}


def recipe_schema() -> JsonSchema:
    """The schema as plain JSON values. Relations between keys, such as `of` and `alpha` of an arm, are not in it;
    `check` reports them."""
    whole = Recipe.model_json_schema()
    sections = whole.pop("$defs")
    for section in _sections(Recipe):
        _describe(sections[section.__name__] if section is not Recipe else whole, section)
    _widen(whole, sections)
    whole.pop("required", None)
    part = _renamed(_without_required(whole))
    whole["properties"]["experiments"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/part"},
        "description": "Several experiments in one file, each with what it changes; `selfdistill reproduce` runs them.",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Written by `selfdistill schema`.",
        **whole,
        "title": "A recipe of selfdistill",
        "anyOf": [{"required": ["model"]}, {"required": ["experiments"]}],
        "$defs": {
            **sections,
            **{f"part-{name}": _renamed(_without_required(each)) for name, each in sections.items()},
            "part": {key: part[key] for key in ("type", "properties", "additionalProperties")},
            "sweep": _LISTS,
        },
    }


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def _sections(section: type[Settings]) -> dict[type[Settings], None]:
    """A section and all sections below it."""
    found = {section: None}
    for field in section.model_fields.values():
        if inner := section_in(field.annotation)[0]:
            found |= _sections(inner)
    return found


def _describe(schema: JsonSchema, section: type[Settings]) -> None:
    """Writes the text of each field into its place."""
    schema.pop("title", None)
    for name, text in descriptions(section).items():
        schema["properties"][name]["description"] = text
    for name, place in schema["properties"].items():
        place.pop("title", None)
        inner = section_in(section.model_fields[name].annotation)[0]
        if inner is not None:
            place.setdefault("description", " ".join((inner.__doc__ or "").split()))
            place.pop("default", None)  # the defaults of its keys are at the keys
        if "$ref" in place:
            place["allOf"] = [{"$ref": place.pop("$ref")}]
        _take_any_scalar(place)


def _take_any_scalar(place: JsonSchema) -> None:
    """A text may be written as a number or a truth value, which is read as it is written."""
    kinds = {each.get("type") for each in place.get("anyOf", [place])}
    for each in place.get("anyOf", [place]):
        free = each.get("type") == "string" and not {"enum", "const", "format"} & each.keys()
        if free and not kinds & {"boolean", "integer", "number"}:
            each["type"] = ["string", "number", "boolean"]


def _widen(whole: JsonSchema, sections: dict[str, JsonSchema]) -> None:
    """Adds the short forms that a file may use."""
    presets = list(SAMPLING_PRESETS)
    sections[Sampling.__name__]["properties"]["preset"] = {
        "enum": presets,
        "description": "Stands for several values; values that are written next to it change them.",
    }
    samplings = ("RewriteConfig", "EvaluateConfig")
    for name in samplings:
        _or(sections[name]["properties"]["sampling"], {"enum": presets})
    top = whole["properties"]
    for name in SHORT_FORMS:
        _or(top[name], {"type": ["string", "number", "boolean"]})
    _or(sections["JudgeConfig"]["properties"]["model"], _TEXT)
    tasks = sections["EvaluateConfig"]["properties"]["tasks"]
    tasks["items"] = {"anyOf": [_TEXT, tasks["items"], _SUITE]}
    arm = sections["ArmConfig"]["properties"]
    kinds = [name for name in ARM_KINDS if name != MIX]
    arm["data"] = {
        "anyOf": [{"enum": kinds}, {"type": "number", "minimum": 0, "maximum": 1}],
        "description": arm["data"]["description"],
    }
    arm["train"] |= {"allOf": [{"$ref": "#/$defs/part-TrainConfig"}]}
    arm["train"].pop("additionalProperties", None)
    top["sweep"] = {**_LISTS, "description": top["sweep"]["description"]}
    for name, place in top.items():
        if name not in ("model", "task", "gap", "sandbox", "note"):
            _or(place, {"type": "null"})


def _or(place: JsonSchema, other: JsonSchema) -> None:
    """Lets `place` hold the value of `other` too."""
    kept: JsonSchema = {key: place.pop(key) for key in ("description", "default") if key in place}
    before = place.pop("anyOf") if place.keys() == {"anyOf"} else [dict(place)]
    place.clear()
    place["anyOf"] = [*before, *([] if other in before else [other])]
    place |= kept


def _without_required(value: Any) -> Any:
    """For a part of a recipe that is merged into another: nothing has to be there. Entries of lists are not merged."""
    if isinstance(value, list):
        return [_without_required(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: each if key == "items" else _without_required(each)
        for key, each in value.items()
        if not (key == "required" and isinstance(each, list))
    }


def _renamed(value: Any) -> Any:
    """References to sections as references to their parts, except in lists."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    place = value.get("$ref", "")
    if isinstance(place, str) and place and "/part" not in place and place != "#/$defs/sweep":
        return {"$ref": place.replace("#/$defs/", "#/$defs/part-")}
    return {key: each if key == "items" else _renamed(each) for key, each in value.items()}
