"""YAML as plain values. A recipe may come from anyone, so what is read from it is bounded."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.error import MarkedYAMLError

_MOST_VALUES, _MOST_CHARACTERS = 100_000, 1_000_000


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which PyYAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def parse_yaml(text: str) -> Any:
    """The value that `text` holds. Nothing in it is built or run.

    Raises ValueError, whose message is the reason with its line: what is no YAML, a date or number that is none, too
    deep nesting, a key that is there twice, and aliases that hold themselves or come to more than 100,000 values when
    they are written out.
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
