"""HumanEval (Chen et al. 2021): 164 functions to write from signature and docstring. An answer passes if the tests do.

    {"task_id": "HumanEval/0", "entry_point": "has_close_elements", "prompt": "from typing import List\\n …",
     "canonical_solution": "    for idx, elem in enumerate(numbers):\\n …",
     "test": "…def check(candidate):\\n    assert candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3) == True\\n …"}

https://github.com/openai/human-eval, MIT
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..grading.functions import complete_function, helpers
from ..grading.programs import tested
from ..recipe import DataConfig
from ..sandbox import Runner
from ..types import Conversation, Example, Grade, Message, Messages
from . import Task, load_rows

_INSTRUCTION = (
    "Complete the following Python function. Answer with the whole function, and the imports it needs, in one "
    "```python code block, without examples or tests.\n\n```python\n"
)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """The code to complete, and as the reference the body of the canonical solution."""
    extra = {name: row[name] for name in ("task_id", "entry_point", "test")}
    if not all(isinstance(value, str) for value in extra.values()):
        raise TypeError
    return Conversation((Message("user", row["prompt"]), Message("assistant", row["canonical_solution"])), extra)


def ask(example: Example) -> Messages:
    return (Message("user", f"{_INSTRUCTION}{example.instruction.rstrip()}\n```"),)


def grade(example: Example, text: str, *, run: Runner) -> Grade:
    """Whether the last complete definition of the function in `text` passes the tests. The tests, with the prompt's
    helper functions, run in a separate process from the program. Unjudged if the sandbox fails."""
    name = example.extra["entry_point"]
    function = complete_function(example.instruction, name, text)
    tests = example.extra["test"]
    own = f"{helpers(example.instruction, name, tests)}\n{name} = function_of_the_program({name!r})\n"
    return tested(name, function, f"{own}\n{tests}\n\ncheck({name})\n", run)


TASK = Task(
    name="humaneval",
    skill="code",
    ask=ask,
    grade=grade,
    load=partial(load_rows, convert=_conversation),
    test=DataConfig(path="openai/openai_humaneval", split="test"),
    metric="pass@1",
    needs=frozenset({"sandbox"}),
)
