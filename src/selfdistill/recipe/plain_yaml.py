"""YAML as plain values.

Unquoted scalars follow the core schema of YAML 1.2.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `1e-8` is a
number; `yes`, `1_000`, `nan` and dates are texts. A number keeps the text that it was written as, because a setting
that is a text (a revision, a note) takes any scalar as it was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isinf
from typing import Any

import yaml
from yaml.error import MarkedYAMLError

_MAX_CHARACTERS = 1_000_000
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
    """A number or truth value, with the text that it was written as."""

    text: str
    value: bool | int | float


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice (PyYAML would take the last one) and an alias within its own value. Keys are
    texts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        node: Any = super().compose_node(parent, index)
        if node.end_mark is None:  # PyYAML sets the end when it has read all of a value
            raise MarkedYAMLError(
                problem="the alias is inside the value that it stands for", problem_mark=node.start_mark
            )
        return node

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
        """The number or truth value. A text if the number is too large for a float. Raises ValueError if the text
        contradicts its tag."""
        text = str(self.construct_scalar(node))
        kind = node.tag.rpartition(":")[2]
        if not _SCHEMA[kind][0].match(text) and not (kind == "float" and _SCHEMA["int"][0].match(text)):
            raise ValueError(f"line {node.start_mark.line + 1}: '{text}' is not a valid {kind}")
        if kind == "bool":
            return Scalar(text, text.lower() == "true")
        if kind == "int":
            return Scalar(text, int(text, 0 if text[1:2] in ("o", "x") else 10))
        value = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        return text if isinf(value) and "inf" not in text.lower() else Scalar(text, value)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as another type."""


for _kind, (_pattern, _first) in _SCHEMA.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", _pattern, [*_first, *([""] if _kind == "null" else [])]
        )
for _kind in ("bool", "int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.scalar)


def parse_yaml(text: str) -> Any:
    """The value of `text`, with a `Scalar` for each number and truth value (see `plain`). No tag can run code.

    Raises ValueError with the reason and its line: the text is not YAML, too long, nested too deeply, has a key twice,
    or has an alias within its own value.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"it is longer than {_MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not text"
        raise ValueError(f"{where}{why}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (AttributeError, KeyError, TypeError) as error:  # raised by PyYAML's constructors
        raise ValueError(f"a tag does not fit its value ({type(error).__name__})") from None


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
