"""Tool rows from the paper's OpenFunctions file, whose prompts describe one function in words:

    python -m tools.openfunction_rows OUT.jsonl [--rows 180] [--characters 900]

Reads $SELFDISTILL_DATA/sdft/openfunction_train.json. A row becomes a question, the function as a tool, and a turn that
calls it. Left out, and counted: calls that are not one call of the described function with literal named arguments of
its parameters, and rows longer than `--characters`. The file names no types, so any value is valid.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfdistill.grading.calls import read_call

_ROW = re.compile(
    r".*?\n\nQuestion: (?P<question>.*?)\n\nFunction to be used: (?P<name>[\w.]+)\nDescription: (?P<about>.*?)\n"
    r"Parameters:\n(?P<parameters>.*?)(?:\nRequired: \[(?P<required>.*?)\]\n)?\n*Format your response",
    re.DOTALL,
)
_PARAMETER = re.compile(r"^\d+\. (\w+)(?: - (.*))?$", re.MULTILINE)


def tool_row(row: Mapping[str, str]) -> dict[str, Any] | str:
    """The row with a tool and a call, or why it is left out."""
    found = _ROW.match(row["instruction"])
    call = read_call(row["output"])
    if found is None or call is None or call.name != found["name"]:
        return "not one call of the function"
    about = {name: {"description": text.strip()} for name, text in _PARAMETER.findall(found["parameters"])}
    try:
        given = {str(each.arg): ast.literal_eval(each.value) for each in call.node.keywords}
        json.dumps(given, allow_nan=False)
    except (ValueError, TypeError):
        return "arguments that are not literals"
    required = [name for name in (found["required"] or "").split(", ") if name in about]
    if call.node.args or not given.keys() <= about.keys() or any(name not in given for name in required):
        return "arguments that the function doesn't take"
    schema = {"type": "object", "properties": about, "required": required, "additionalProperties": False}
    tool = {"name": found["name"], "description": found["about"], "parameters": schema}
    return {
        "tools": json.dumps([{"type": "function", "function": tool}], ensure_ascii=False),
        "messages": [
            {"role": "user", "content": found["question"]},
            {"role": "assistant", "tool_calls": [{"function": {"name": found["name"], "arguments": given}}]},
        ],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--rows", type=int, default=180)
    arguments.add_argument("--characters", type=int, default=900)
    given = arguments.parse_args()
    rows = json.loads((Path(os.environ["SELFDISTILL_DATA"]) / "sdft/openfunction_train.json").read_text("utf-8"))
    random.Random(0).shuffle(rows)
    written, left_out = list[str](), Counter[str]()
    for row in rows:
        made = tool_row(row) if len(row["instruction"]) <= given.characters else "too long"
        if isinstance(made, str):
            left_out[made] += 1
        elif len(written) < given.rows:
            written.append(json.dumps(made, ensure_ascii=False) + "\n")
    given.out.write_text("".join(written), encoding="utf-8")
    print(f"{len(written)} rows; left out of {len(rows)}: {dict(left_out)}")


if __name__ == "__main__":
    main()
