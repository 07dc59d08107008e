"""YAML as plain values. A recipe may come from anyone, so its size is bounded.

Unquoted scalars are read by the core schema of YAML 1.2.2 (https://yaml.org/spec/1.2.2/#103-core-schema), so that
`1e-8` is a number, and `yes`, `1_000`, `nan` and dates are texts. Each keeps how it was written, since a setting that
is a text (a revision, a note) takes any scalar as it is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isinf
from typing import Any

import yaml
from yaml.error import MarkedYAMLError

_MOST_VALUES, _MOST_CHARACTERS = 100_000, 1_000_000
_SCHEMA = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN"),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
    "merge": (re.compile(r"^<<$"), "<"),
}


@dataclass(frozen=True)
class Scalar:
    """A number or truth value, and the text that it was written as."""

    text: str
    value: bool | int | float


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which PyYAML takes the last. Keys are texts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep)
        return {key.text if isinstance(key, Scalar) else key: value for key, value in values.items()}

    def scalar(self, node: Any) -> Scalar | str:
        """A text if it is a number too large for a float. Raises ValueError where a tag says what the text is not."""
        text = str(self.construct_scalar(node))
        kind = node.tag.rpartition(":")[2]
        if not _SCHEMA[kind][0].match(text) and not (kind == "float" and _SCHEMA["int"][0].match(text)):
            raise ValueError(f"line {node.start_mark.line + 1}: '{text}' is no {kind}")
        if kind == "bool":
            return Scalar(text, text.lower() == "true")
        if kind == "int":
            return Scalar(text, int(text, 0 if text[1:2] in ("o", "x") else 10))
        value = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        return text if isinf(value) and "inf" not in text.lower() else Scalar(text, value)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that either version of YAML would read as something else."""


for _kind, (_pattern, _first) in _SCHEMA.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", _pattern, [*_first, *([""] if _kind == "null" else [])]
        )
for _kind in ("bool", "int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.scalar)


def parse_yaml(text: str) -> Any:
    """The value that `text` holds, with a `Scalar` for each number and truth value (see `plain`). Nothing in it is
    built or run.

    Raises ValueError, whose message is the reason with its line: what is no YAML, too deep nesting, a key that is there
    twice, and aliases that hold themselves or come to more than 100,000 values when they are written out.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it is longer than {_MOST_CHARACTERS:,} characters")
    try:
        value = yaml.load(text, _Loader)
        _count(value, {})
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no text"
        raise ValueError(f"{where}{why}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (AttributeError, KeyError, TypeError) as error:  # PyYAML, of a tag over a value that is none of its kind
        raise ValueError(f"it holds a tag over what is none of its kind ({type(error).__name__})") from None
    return value


def plain(value: Any) -> Any:
    """`value` with each `Scalar` as its number or truth value."""
    if isinstance(value, Scalar):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def as_written(value: Any) -> Any:
    """`value` with each `Scalar` as its text."""
    if isinstance(value, Scalar):
        return value.text
    if isinstance(value, dict):
        return {key: as_written(item) for key, item in value.items()}
    return [as_written(item) for item in value] if isinstance(value, list) else value


def dump_yaml(value: Any) -> str:
    """YAML that `parse_yaml` reads as the same plain values."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _count(value: Any, counted: dict[int, int]) -> int:
    """How many values there are with every alias written out; each shared one is walked once."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if id(value) in counted:
        if not counted[id(value)]:
            raise ValueError("an alias holds itself")
        return counted[id(value)]
    counted[id(value)] = 0
    inner = value.values() if isinstance(value, dict) else value
    count = 1 + sum(_count(item, counted) for item in inner)
    if count > _MOST_VALUES:
        raise ValueError(f"its aliases come to more than {_MOST_VALUES:,} values")
    counted[id(value)] = count
    return count
