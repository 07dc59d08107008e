"""MBPP+ (Austin et al. 2021, Liu et al. 2023): 378 short functions to write, with many hidden tests. Evaluation only.

    {"task_id": 2, "prompt": "Write a function to add two numbers.", "code": "def add(a, b):\\n    return a + b",
     "test_list": ["assert add(1, 2) == 3"], "test_imports": [],
     "test": "import numpy as np\\n…\\ninputs = [[1, 2], …]\\nresults = [3, …]\\nfor i, (inp, exp) in enumerate(…): …"}

The tests run in a separate process, where a few lines stand for the functions of numpy that they use.
https://huggingface.co/datasets/evalplus/mbppplus, Apache-2.0
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..data.bad_rows import UnusableError
from ..grading.functions import complete_function
from ..grading.programs import tested
from ..recipe import DataConfig
from ..sandbox import Runner
from ..types import Conversation, Example, Grade, Message
from . import Task, load_rows

_PROMPT = (
    "{prompt}\nYour function has to pass this test:\n\n```python\n{test}\n```\n\nAnswer with the whole function, and "
    "the imports it needs, in one ```python code block, without examples or tests."
)
# The tests compare numbers with np.allclose, and ask whether a value is an array, which plain data never is.
_NUMPY = """class np:
    class ndarray: pass
    float32 = float64 = float
    @staticmethod
    def allclose(found, expected, rtol=1e-07, atol=0.0):
        def close(a, b):
            if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
                both = isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b)
                return both and all(close(x, y) for x, y in zip(a, b))
            return a == b or abs(a - b) <= atol + rtol * abs(b)
        return close(found, expected)
"""


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """The reference is the code in a block. Raises UnusableError if the first test calls no function by name."""
    first, name = row["test_list"][0], _called(row["test_list"][0])
    imports = "\n".join(row.get("test_imports") or [])
    prompt = _PROMPT.format(prompt=row["prompt"].strip(), test=first.strip())
    reference = f"```python\n{row['code'].strip()}\n```"
    tests = f"{imports}\n{row['test']}".replace("import numpy as np\n", _NUMPY)
    return Conversation((Message("user", prompt), Message("assistant", reference)), {"name": name, "tests": tests})


def _called(test: str) -> str:
    """The function that a test calls first. Raises UnusableError."""
    try:
        calls = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Call)]
    except SyntaxError:
        calls = []
    known = {
        "set", "sorted", "list", "tuple", "math", "len", "round", "str", "dict", "float", "int", "abs", "any", "all",
        "sum", "max", "min",
    }  # fmt: skip
    names = [node.func.id for node in calls if isinstance(node.func, ast.Name) and node.func.id not in known]
    if not names:
        raise UnusableError("the first test calls no function by its name")
    return names[0]


def grade(example: Example, text: str, *, run: Runner) -> Grade:
    """Whether the last complete definition of the function passes the tests. Unjudged if the sandbox fails."""
    name = example.extra["name"]
    function = complete_function(f"def {name}(*arguments):", name, text)
    return tested(name, function, f"{name} = function_of_the_program({name!r})\n{example.extra['tests']}\n", run)


TASK = Task(
    name="mbpp-plus",
    skill="code",
    grade=grade,
    load=partial(load_rows, convert=_conversation),
    test=DataConfig(path="evalplus/mbppplus", split="test"),
    metric="pass@1",
    needs=frozenset({"sandbox"}),
)
