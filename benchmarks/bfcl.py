"""Our comparison with BFCL's allowed calls against BFCL's own, on its files and on changed replies.

    pip install --no-deps bfcl-eval
    python benchmarks/bfcl.py "$(python -c 'import bfcl_eval; print(bfcl_eval.__path__[0])')/data"

Each item is answered with its allowed calls, and with calls in which one thing is changed. Prints how often the two
checkers agree, the first disagreements, and how many rows our reader refuses.
"""

from __future__ import annotations

import json
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfdistill.data import BadRow
from selfdistill.recipe import DataConfig
from selfdistill.tasks import get_task
from selfdistill.types import Example, FunctionCall, write_reply

SPLITS = {"simple": "simple_python", "multiple": "multiple", "parallel": "parallel"}
OTHERS: list[Any] = [None, True, 0, 1, 1.0, 2.5, "", "x", [], [1], ["x"], [1.0], {}, {"a": 1}, [{"a": 1}]]


def bfcls_checker() -> Any:
    """`ast_checker` of bfcl_eval. The list of models that it imports needs the clients of every provider, so an empty
    one takes its place."""
    models: Any = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {"ours": types.SimpleNamespace(underscore_to_dot=False)}
    sys.modules[models.__name__] = models
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    def check(functions: Any, calls: list[FunctionCall], possible: Any, split: str) -> bool:
        output = [{call.name: dict(call.arguments)} for call in calls]
        return bool(ast_checker(functions, output, possible, Language.PYTHON, split, "ours")["valid"])

    return check


def replies(possible: list[Any], draw: random.Random) -> Iterator[list[FunctionCall]]:
    """Calls with random allowed values, then the same with one change each."""
    for _ in range(3):
        calls = [_allowed(each, draw) for each in possible]
        yield calls
        yield calls[::-1]
        yield calls[:-1]
        yield [*calls, calls[0]]
        yield [FunctionCall(f"{calls[0].name}_", calls[0].arguments), *calls[1:]]
        for place, call in enumerate(calls):
            before, after = calls[:place], calls[place + 1 :]
            for name, value in call.arguments.items():
                for other in (*_near(value), draw.choice(OTHERS), draw.choice(OTHERS)):
                    yield [
                        *calls[:place],
                        FunctionCall(call.name, {**call.arguments, name: other}),
                        *calls[place + 1 :],
                    ]
                fewer = {key: each for key, each in call.arguments.items() if key != name}
                yield [*before, FunctionCall(call.name, fewer), *after]
            yield [*before, FunctionCall(call.name, {**call.arguments, "more": 1}), *after]


def _allowed(possible: Any, draw: random.Random) -> FunctionCall:
    ((name, values),) = possible.items()
    chosen = {key: draw.choice(each) for key, each in values.items()}
    return FunctionCall(name, {key: _inside(value, draw) for key, value in chosen.items() if value != ""})


def _inside(value: Any, draw: random.Random) -> Any:
    """Within objects, each key has its own list of allowed values."""
    if isinstance(value, dict):
        chosen = {key: draw.choice(each) for key, each in value.items() if each}
        return {key: each for key, each in chosen.items() if each != ""}
    return [_inside(each, draw) for each in value] if isinstance(value, list) else value


def _near(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value.upper(), value.replace(" ", "-"), f"{value}s"]
    if isinstance(value, bool):
        return [int(value), not value]
    if isinstance(value, int | float):
        return [float(value), int(value), str(value), value + 1]
    if isinstance(value, list):
        return [value[::-1], value[:-1], [str(each) for each in value], [*value, *value[:1]],
                [int(each) if isinstance(each, float) else each for each in value]]  # fmt: skip
    return [dict(list(value.items())[1:]), {**value, "more": 1}] if isinstance(value, dict) else []


def main(folder: Path) -> None:
    check, draw = bfcls_checker(), random.Random(0)
    for split, file in SPLITS.items():
        bad: list[BadRow] = []
        source = DataConfig(path=str(folder), on_bad_row="skip")
        rows = list(get_task(f"bfcl-{split}").load(source, bad.append))
        lines = (folder / f"BFCL_v4_{file}.json").read_text(encoding="utf-8").splitlines()
        functions = {row["id"]: row["function"] for row in map(json.loads, lines)}
        asked = agreed = passed = own_passed = 0
        shown: list[str] = []
        for row in rows:
            example: Example = row.examples()[0]
            possible = example.extra["possible"]
            own = list(example.calls)
            own_passed += get_task(f"bfcl-{split}").grade(example, example.reference).passed
            for calls in (own, *replies(possible, draw)):
                theirs = check(functions[example.extra["id"]], calls, possible, split)
                ours = get_task(f"bfcl-{split}").grade(example, write_reply("", calls))
                asked, passed, agreed = asked + 1, passed + theirs, agreed + (ours.passed == theirs)
                if ours.passed != theirs and len(shown) < 5:
                    shown.append(f"  theirs {theirs}, ours {ours.reason}: {write_reply('', calls)} of {possible}")
        print(f"{split}: {len(rows)} items, {len(bad)} refused, {own_passed} references pass")
        print(f"  {asked} replies, of which {passed} pass BFCL's checker; the two agree on {agreed}")
        print(*shown, *(f"  {each.where}: {each.reason}" for each in bad[:5]), sep="\n", end="")
    rows = list(get_task("bfcl-irrelevance").load(DataConfig(path=str(folder), on_bad_row="skip"), bad.append))
    print(f"irrelevance: {len(rows)} items")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
