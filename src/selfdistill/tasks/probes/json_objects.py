"""JSON to a schema: the facts of a short text as one object.

    Read the text and write its facts as JSON that is valid against the schema. ...
    Text: Ana, a baker from Riga, turned 31 last week. ...   Schema: {"type": "object", ...}

The easy level has two or three flat fields and shows an example in place of a schema, the medium one four to six fields
with a list, a boolean and an enumeration, the hard one nested objects in a list, sums, null for what is not said, and
facts that belong to nobody's field. An answer passes if its JSON, alone or in one code block, equals the right object;
the reason reports whether it was valid.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from ...grading.texts import json_equal, json_in
from ...types import Example, Grade
from . import pools
from .items import ProbeItem, ask, probe

_PROMPT = (
    "Read the text and write its facts as JSON that is valid against the schema. Answer with the JSON alone.\n\n"
    "Text: {text}\n\nSchema: {schema}"
)
_TEXT, _WHOLE, _YES = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def grade(example: Example, text: str) -> Grade:
    """Passes JSON that equals the right object. The right object is valid, so the schema is read only for the reason
    of a failure."""
    from jsonschema import Draft202012Validator

    compared = json_equal(example.reference, text)
    found = json_in(text)
    if compared.passed or found is None:
        return compared
    try:
        problem = next(Draft202012Validator(example.extra["schema"]).iter_errors(found[0]), None)
    except RecursionError:
        return Grade("fail", "json nested too deeply", compared.expected)
    reason = "valid, with other values" if problem is None else "not valid against the schema"
    return Grade("fail", reason, compared.expected, compared.found)


def make(rng: Random, step: str) -> ProbeItem:
    text, value, schema = {"easy": _easy, "medium": _medium, "hard": _hard}[step](rng)
    if step == "easy":
        other_text, other_value, _ = _like(rng, list(value))
        example = f"Text: {other_text}\nJSON: {json.dumps(other_value)}"
        prompt = f"Write the facts of a text as JSON, as in this example.\n\n{example}\n\nText: {text}\nJSON:"
    else:
        prompt = _PROMPT.format(text=text, schema=json.dumps(schema))
    gold = json.dumps(value, ensure_ascii=False)
    first = next(iter(value))
    other = {**value, first: "somebody" if isinstance(value[first], str) else 987}
    fewer = {key: value[key] for key in list(value)[:-1]}
    wrong = (json.dumps(other), f"```json\n{json.dumps(fewer)}\n```", f"Here is the JSON: {gold[:-1]}")
    return ProbeItem(f"{len(value)} fields", ask(prompt), gold, wrong, {"schema": schema})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _like(rng: Random, keys: list[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Another easy text with the same fields."""
    while True:
        found = _easy(rng)
        if list(found[1]) == keys:
            return found


def _easy(rng: Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    name, city, job = rng.choice(pools.NAMES), rng.choice(pools.CITIES), rng.choice(pools.JOBS)
    age, fruit = rng.randint(18, 79), rng.choice(pools.FRUITS)
    match rng.randrange(4):
        case 0:
            text, value = f"{name} is {age} years old.", {"name": name, "age": age}
        case 1:
            text, value = f"{name} lives in {city}.", {"name": name, "city": city}
        case 2:
            text, value = f"{name} is a {job} in {city}.", {"name": name, "job": job, "city": city}
        case _:
            text, value = f"The {fruit} costs {age} cents in {city}.", {"fruit": fruit, "cents": age, "city": city}
    return text, value, _object({key: _WHOLE if isinstance(each, int) else _TEXT for key, each in value.items()})


def _medium(rng: Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    name, city, job = rng.choice(pools.NAMES), rng.choice(pools.CITIES), rng.choice(pools.JOBS)
    age, pets = rng.randint(18, 79), pools.some(rng, pools.PETS, rng.randint(1, 3))
    married, size = rng.random() < 0.5, rng.choice(("small", "medium", "large"))
    text = (
        f"{name}, a {job} from {city}, turned {age} last week. {name} is {'' if married else 'not '}married, wears a "
        f"{size} shirt, and keeps {_listed([f'a {pet}' for pet in pets])}."
    )
    value: dict[str, Any] = {"name": name, "city": city, "age": age, "married": married, "shirt": size, "pets": pets}
    kinds: dict[str, Any] = {
        "name": _TEXT, "city": _TEXT, "age": _WHOLE, "married": _YES,
        "shirt": {"enum": ["small", "medium", "large"]}, "pets": {"type": "array", "items": _TEXT},
    }  # fmt: skip
    keys = ["name", *rng.sample(list(value)[1:], rng.randint(3, 5))]
    return text, {key: value[key] for key in keys}, _object({key: kinds[key] for key in keys})


def _hard(rng: Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """An order of several lines: a visitor is not its buyer, a cancelled line is not in it, and its total is a sum."""
    buyer, visitor, *_ = pools.some(rng, pools.NAMES, 2)
    city, day = rng.choice(pools.CITIES), rng.randint(1, 28)
    chosen = pools.some(rng, tuple(fruit for fruit in pools.FRUITS if fruit[-1] not in "hoy"), rng.randint(4, 6))
    lines: list[dict[str, Any]] = [
        {"fruit": fruit, "count": rng.randint(2, 19), "cents": rng.randint(11, 95)} for fruit in chosen
    ]
    cancelled, *kept = lines
    phone = rng.randint(100000, 999999) if rng.random() < 0.5 else None
    told = _listed([f"{line['count']} of the {line['fruit']}s at {line['cents']} cents each" for line in lines])
    text = (
        f"On {day} May, while {visitor} was only looking around, {buyer} of {city} ordered {told}. An hour later "
        f"{buyer} took the {cancelled['fruit']}s off the order and asked for two more of the {kept[0]['fruit']}s. "
        + (f"The number to call is {phone}." if phone else "There was no number to call.")
    )
    kept = [{**kept[0], "count": kept[0]["count"] + 2}, *kept[1:]]
    lines = sorted(kept, key=lambda line: str(line["fruit"]))
    value = {
        "buyer": {"name": buyer, "city": city, "phone": phone},
        "day": day,
        "lines": lines,
        "total_cents": sum(line["count"] * line["cents"] for line in lines),
    }
    line = _object({"fruit": {"type": "string", "description": "singular"}, "count": _WHOLE, "cents": _WHOLE})
    schema = _object(
        {
            "buyer": _object({"name": _TEXT, "city": _TEXT, "phone": {"type": ["integer", "null"]}}),
            "day": _WHOLE,
            "lines": {"type": "array", "items": line, "description": "what is still ordered, sorted by fruit"},
            "total_cents": {"type": "integer", "description": "count times cents, summed over the lines"},
        }
    )
    return text, value, schema


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


TASK = probe("json", "JSON to a schema", make, grade)
