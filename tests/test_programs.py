"""HumanEval and MagiCoder: functions cut out of answers, and programs that pass or fail what they are tested with.

Programs of our own writing run without a sandbox here, so that these tests run everywhere; the real file's run in it.
"""

# ruff: noqa: E501 (answers read better on a line of their own)

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdistill.data import BadRow
from selfdistill.errors import DataError, RecipeError
from selfdistill.grading import make_grader
from selfdistill.grading.functions import complete_function
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.rewrite import rewrites
from selfdistill.recipe import DataConfig, make_recipe
from selfdistill.sandbox import Limits, Ran, Runner, open_runner
from selfdistill.tasks import get_task
from selfdistill.types import Example, Grade, Message

PROMPT = '''import math
from typing import List

def half(x):
    return x / 2

def spread(xs: List[float]) -> float:
    """ The largest less the smallest, 0 for an empty list.
    >>> spread([1, 4])
    3
    """
'''
BODY = "    if not xs:\n        return 0\n    return max(xs) - min(xs)\n"
TEST = """
def check(candidate):
    assert candidate([1, 4]) == 3
    assert candidate([]) == 0
    assert half(4) == 2
"""
HUMANEVAL = get_task("humaneval")
ROW = {"task_id": "Ours/0", "prompt": PROMPT, "canonical_solution": BODY, "entry_point": "spread", "test": TEST}
HEAD = "def spread(xs):\n"
PLAIN = open_runner("none", Limits(cpu=5, wall=30))


def example(tmp_path: Path) -> Example:
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    (conversation,) = HUMANEVAL.load(DataConfig(path=str(path)))
    return conversation.examples()[0]


ANSWERS = {
    "body": BODY,
    "body, stripped": BODY.strip(),
    "body, moved left": "if not xs:\n    return 0\nreturn max(xs) - min(xs)",
    "body in one line": "return max(xs) - min(xs) if xs else 0",
    "body after prose": f"Here is the rest:\n\n{BODY}",
    "body and prose": f"{BODY}\nThis subtracts the smallest.",
    "body and examples": f"{BODY}\nprint(spread([1, 4]))\n\nif __name__ == '__main__':\n    print(spread(input()))",
    "body and another function": f"{BODY}\n\ndef other(x):\n    return spread(x) + missing",
    "body, fenced": f"```python\n{BODY}```",
    "body, fenced and moved left": "```\nif not xs:\n    return 0\nreturn max(xs) - min(xs)\n```",
    "whole": HEAD + BODY,
    "whole with the prompt": PROMPT + BODY,
    "whole, a space before": f" {HEAD}{BODY}",
    "fenced": f"```python\n{PROMPT}{BODY}```",
    "fenced, no language": f"```\n{HEAD}{BODY}```",
    "fenced, odd language": f"```Python 3\n{HEAD}{BODY}```",
    "fenced, windows": f"```python\n{HEAD}{BODY}```".replace("\n", "\r\n"),
    "fence not at the start of a line": f"Sure: ```python\n{HEAD}{BODY}``` Done.",
    "only the closing fence": f"{HEAD}{BODY}```\nIt isn't long.",
    "not closed": f"Sure!\n```python\n{HEAD}{BODY}",
    "prose": f"Sure! It's easy:\n\n```python\n{HEAD}{BODY}```\n\nfrom this (you see) it's clear.",
    "prose, no fence": f"Sure! It's easy:\n\n{HEAD}{BODY}\nfrom this (you see it's clear.",
    "in a list": "1. The function:\n\n   ```python\n" + "".join(f"   {line}\n" for line in (HEAD + BODY).splitlines()) + "   ```",
    "prompt repeated, then whole": f"```python\n{PROMPT}```\nbecomes\n```python\n{HEAD}{BODY}```",
    "helper before": f"```python\ndef low(x):\n    return min(x)\n\n{HEAD}    return max(xs) - low(xs) if xs else 0\n```",
    "helper after": f"{HEAD}    return max(xs) - low(xs) if xs else 0\n\ndef low(x):\n    return min(x)",
    "helper in another block": f"First:\n```python\nLOW = 0\ndef low(x):\n    return min(x) + LOW\n```\nthen\n```python\n{HEAD}"
    "    return max(xs) - low(xs) if xs else 0\n```",
    "imports": f"```python\nfrom __future__ import annotations\nimport functools as f\n\n{HEAD.replace('xs', 'xs: Nothing')}"
    "    return f.reduce(max, xs) - f.reduce(min, xs) if xs else 0\n```",
    "import in a try": f"try:\n    from builtins import max as top\nexcept ImportError:\n    top = None\n\n{HEAD}"
    "    return top(xs) - min(xs) if xs else 0",
    "table at the top": f"table = {{}}\nfor i in range(3):\n    table[i] = 0\n{HEAD}    return max(xs) - min(xs) if xs else table[0]",
    "examples that fail": f"```python\n{HEAD}{BODY}\nprint(spread(None))\nassert spread([1]) == 7\nx = int(input())\n```",
    "examples in another block": f"```python\n{HEAD}{BODY}```\nUse:\n```python\nresult = spread(None)\n```\n```\n3\n```",
    "draft, then final": f"```python\n{HEAD}    return 9\n```\nNo:\n```python\n{HEAD}{BODY}```",
    "draft and final in one block": f"```python\n{HEAD}    return 9\n\n# No:\n{HEAD}{BODY}```",
    "draft fenced, final not": f"```python\n{HEAD}    return 9\n```\nNo:\n\n{HEAD}{BODY}",
    "draft and final, no fence": f"{HEAD}    return 9\n\nThat fails for []. So:\n\n{HEAD}{BODY}",
    "draft of the body, then final": f"```python\n    return 9\n```\nNo:\n```python\n{BODY}```\nUse:\n```python\nspread([1])\n```",
    "draft with its helper, then final": f"```python\ndef low(x):\n    return 7\n\n{HEAD}    return max(xs) - low(xs)\n```\n"
    f"No:\n```python\ndef low(x):\n    return min(x)\n\n{HEAD}    return max(xs) - low(xs) if xs else 0\n```",
    "helper and import in the draft alone": f"```python\nimport operator\ndef low(x):\n    return min(x)\n\n{HEAD}    return 9\n```\n"
    f"No:\n```python\n{HEAD}    return operator.sub(max(xs), low(xs)) if xs else 0\n```",
    "final, then its head": f"```python\n{HEAD}{BODY}```\nIn short:\n```python\n{HEAD}    ...\n```",
    "final, then one to fill in": f"```python\n{HEAD}{BODY}```\n```python\n{HEAD}    raise NotImplementedError\n```",
    "final, then one cut off": f"```python\n{HEAD}{BODY}```\nShorter:\n```python\n{HEAD}    if not xs:\n        return 0\n    return max(xs",
    "final, then one cut off at a line": f"```python\n{HEAD}{BODY}```\nShorter:\n```python\n{HEAD}    if not xs:\n        return 0",
    "final and a cut one in a block": f"```python\n{HEAD}{BODY}\n{HEAD}    low = min(",
    "class with methods": f"```python\nclass Range:\n    def __init__(self, xs):\n        self.xs = xs\n\n    def size(self):\n"
    f"        return max(self.xs) - min(self.xs)\n\n{HEAD}    return Range(xs).size() if xs else 0\n```",
    "wrapped after its definition": f"```python\n{HEAD}{BODY}\nspread = staticmethod(spread)\n```",
    "a Counter of one": f"```python\nfrom collections import Counter\n{HEAD}    return Counter(a=max(xs) - min(xs))['a'] if xs else 0\n```",
    "main": f"```python\n{HEAD}{BODY}\ndef main():\n    raise ValueError\n\nif __name__ == '__main__':\n    main()\n```",
    "lambda": "spread = lambda xs: max(xs) - min(xs) if xs else 0",
    "class beside": f"class Box:\n    low = 0\n\n@staticmethod\n{HEAD}    return max(xs) - min(xs) if xs else Box.low",
    "fence in a docstring": f"```python\n{HEAD}    \"\"\"\n    ```\n    spread([1])\n    ```\n    \"\"\"\n{BODY}```\nThat's all.",
    "block in a docstring": f"```python\n{HEAD}    \"\"\"\n    ```python\n    spread([1])\n    ```\n    \"\"\"\n{BODY}```",
    "fence in a docstring, not indented": f"```python\n{HEAD}    \"\"\"\n```\nspread([1])\n```\n    \"\"\"\n{BODY}```\nThat's all.",
    "draft, then a fence in a docstring": f"```python\n{HEAD}    return 9\n```\nNo:\n```python\n{HEAD}    \"\"\"\n    ```\n"
    f"    spread([1])\n    ```\n    \"\"\"\n{BODY}```",
    "fence after code": f"```python\n{HEAD}{BODY.rstrip()}```\nThat's all.\n```\n3\n```",
    "fence, then prose with code": f"```python\n{HEAD}{BODY}``` It uses `max`.\n\nIt's `min` too.\n```\n3\n```",
    "code in a docstring's line": f"```python\n{HEAD}    \"\"\"See ```spread([1])```.\n    \"\"\"\n{BODY}```",
    "fence in a list item": "1. ```python\n" + "".join(f"   {line}\n" for line in (HEAD + BODY).splitlines()) + "   ```\n2. It's short.",
    "four backticks": f"````python\n'''\n```\n3\n```\n'''\n{HEAD}{BODY}````",
    "final, then an ellipsis returned": f"```python\n{HEAD}{BODY}```\nIn short:\n```python\n{HEAD}    # as above\n    return ...\n```",
    "list filled by a method": f"LOW = []\nLOW.append(0)\n{HEAD}    return max(xs) - min(xs) if xs else LOW[0]",
    "table filled by a method": f"LOW = {{}}\nfor i in range(3):\n    LOW.update({{i: 0}})\n{HEAD}    return max(xs) - min(xs) if xs else LOW[2]",
    "table filled in a later block": f"```python\nLOW = {{}}\n```\n```python\nLOW.update(a=0)\n{HEAD}    return max(xs) - min(xs) if xs else LOW['a']\n```",
    "table filled by a function": f"LOW = []\ndef fill():\n    LOW.append(0)\nfill()\n{HEAD}    return max(xs) - min(xs) if xs else LOW[0]",
    "global set by a function": f"def fill():\n    global LOW\n    LOW = 0\nfill()\n{HEAD}    return max(xs) - min(xs) if xs else LOW",
    "examples by method": f"import sys\nlog = []\n{HEAD}    log.append(sys.maxsize)\n{BODY}\nlog.append(spread(None))\nsys.exit(spread([1]))\n"
    "def main():\n    log.append(spread(None))\nmain()",
    "another name": f"```python\n{HEAD.replace('spread', 'size')}{BODY}\nspread = size\n```",
    "another module's": "```python\nimport numbers as n\nn.spread = lambda xs: max(xs) - min(xs) if xs else 0\nspread = n.spread\n```",
    "body that sets its own name": "spread = xs\nif not spread:\n    return 0\nreturn max(spread) - min(spread)",
    "in an if": "```python\nif True:\n" + "".join(f"    {line}\n" for line in (HEAD + BODY).splitlines()) + "```",
    "in a try": "```python\ntry:\n" + "".join(f"    {line}\n" for line in (HEAD + BODY).splitlines()) + "except OSError:\n    pass\n```",
    "doubtful escapes": f"{HEAD}    '\\d'\n{BODY}",
    "NUL and colours": f"\x1b[1mSure\x1b[0m\0\n```python\n{HEAD}{BODY}```\x1b[2J",
    "cut off in an example": f"```python\n{HEAD}{BODY}\nprint(spread([1, ",
    "cut off in the next function": f"{HEAD}{BODY}\ndef other(x):\n    '''It",
    "very long": f"```python\n{HEAD}{BODY}```\n" + "And so on. " * 10_000,
}  # fmt: skip
WRONG = {
    "": "no function found",
    "I can't do that.": "no function found",
    "    pass": "no function found",
    "```python\n```": "no function found",
    "def other(xs):\n    return 0": "no function found",
    f"{HEAD}    return 3": "raised AssertionError",
    f"```python\n{HEAD}{BODY}```\nOr rather:\n```python\n{HEAD}    return 9\n```": "raised AssertionError",
    f"```python\n{HEAD}    return 9\n```\nShorter:\n```python\n{HEAD}    return max(xs) - min(": "raised AssertionError",
    f"class All:\n    def __eq__(self, other):\n        return True\n\n{HEAD}    return All()": "returns an object that is not plain data",
    f"class All(int):\n    def __eq__(self, other):\n        return True\n\n{HEAD}    return All(5)": "raised AssertionError",
    f"{HEAD}    import builtins\n    builtins.AssertionError = Warning\n    half = check = None\n    return 9": "raised AssertionError",
    f"{HEAD}    return ...": "no function found",
    f'```python\n{HEAD}    """\n    ```\n    3\n    ```\n    """\n    return 9\n```': "raised AssertionError",
    "`" * 100_000: "no function found",
    "```\n" + "x " * 50_000: "no function found",
    "``` ```\n    ```\n" * 7_000: "no function found",
    "return 3": "raised AssertionError",
    f"{HEAD}    return xs[0] - missing": "raised NameError",
    f"{HEAD}    import os\n    os._exit(0)": "exit 0 before its end",
    f"{HEAD}    raise SystemExit": "exits before its end",
    "x" * 100_000: "no function found",
    "(" * 100_000: "no function found",
    "def f(:\n" * 12_000: "no function found",
    "x = '''\n" * 6_000: "raised AssertionError",
    f"import sys\n{HEAD}    '''" + "\udcff" * 3: "no function found",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_function_is_found(name: str, tmp_path: Path) -> None:
    verdict = HUMANEVAL.grade(example(tmp_path), ANSWERS[name], run=PLAIN)
    assert verdict == Grade("pass", "passes the tests"), complete_function(PROMPT, "spread", ANSWERS[name])


@pytest.mark.parametrize(("answer", "reason"), WRONG.items(), ids=range(len(WRONG)))
def test_wrong_answers_fail(answer: str, reason: str, tmp_path: Path) -> None:
    verdict = HUMANEVAL.grade(example(tmp_path), answer, run=PLAIN)
    assert (verdict.outcome, verdict.reason) == ("fail", reason)


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            ["```python", "```", HEAD, BODY, PROMPT, "Well, ", "def ", "'''", "(", "\n", "    ", "\t", "import"]
        )
        | st.text(max_size=8)
    )
)
def test_any_text_gives_a_program_or_none(parts: list[str]) -> None:
    text = "".join(parts)
    program = complete_function(PROMPT, "spread", text)
    assert program is None or (program.lstrip().startswith("import math") and "def spread" in program)
    assert complete_function(PROMPT, "spread", text) == program
    # The last definition is found after anything that stands before it.
    before = text.replace("`", "")
    fenced = complete_function(PROMPT, "spread", f"{before}\n```python\n{HEAD}{BODY}```\nThat is all.")
    assert fenced is not None
    assert fenced.rstrip().endswith("return max(xs) - min(xs)")


def test_humaneval_asks_for_a_block_and_keeps_what_grading_needs(tmp_path: Path) -> None:
    item = example(tmp_path)
    (message,) = HUMANEVAL.ask(item)
    assert "one ```python code block" in message.content
    assert PROMPT.rstrip() in message.content
    assert item.reference == BODY
    assert item == Example.from_json(json.loads(json.dumps(item.to_json())))
    assert (HUMANEVAL.metric, HUMANEVAL.needs) == ("pass@1", {"sandbox"})


def test_a_humaneval_row_without_tests_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps({**ROW, "test": None}) + "\n" + json.dumps({"prompt": PROMPT}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="a field has a wrong type"):
        list(HUMANEVAL.load(DataConfig(path=str(path))))


def test_what_the_sandbox_fails_at_is_unjudged(tmp_path: Path) -> None:
    def broken(program: str, tests: str | None = None) -> Ran:
        return Ran(False, "sandbox failed: exit 1", "bwrap: no", started=False)

    assert HUMANEVAL.grade(example(tmp_path), BODY, run=broken).outcome == "unjudged"
    assert make_grader("python_asserts", run=broken)(asking(ASSERTS), ASSERTS).outcome == "unjudged"


ASSERTS = "```python\nSTEP = 1\ndef up(x):\n    return x + STEP\n\nassert up(1) == 2\nprint(up(2))\n```"


PILE = "```python\nclass Pile:\n    def __init__(self): self.x = []\np = Pile()\nassert p.x == []\n```"


def asking(reference: str) -> Example:
    return Example.of((Message("user", "Write it."),), reference)


def block(code: str) -> str:
    return f"Here:\n```python\n{code}\n```\n"


@pytest.mark.parametrize(
    ("reference", "text", "outcome", "reason"),
    [
        (ASSERTS, ASSERTS, "pass", "passes the reference's asserts"),
        (ASSERTS, block("def up(n):\n    return 1 + n"), "pass", "passes the reference's asserts"),
        (ASSERTS, block("def up(n):\n    return n"), "fail", "raised AssertionError"),
        (ASSERTS, block("def up(n):\n    return n") + block("def up(n):\n    return n + 1"), "pass", "passes the reference's asserts"),
        (ASSERTS, block("class All:\n    def __eq__(self, other): return True\ndef up(n): return All()"), "fail",
         "returns an object that is not plain data"),
        (PILE, PILE, "pass", "passes the reference's asserts, run in its own process"),
        (ASSERTS, block("def upper(n):\n    return n + 1"), "fail", "raised NameError"),
        (ASSERTS, block("import sys\ndef up(n):\n    sys.exit()"), "fail", "exits before its end"),
        (ASSERTS, block("def up(n):\n    return n + 1\nraise KeyError"), "fail", "raised KeyError"),
        (ASSERTS, block("def up(n)"), "fail", "code does not parse"),
        (ASSERTS, "No code.", "fail", "no python block found"),
        ("No code.", ASSERTS, "unjudged", "no python code in the reference"),
        (block("import numpy\ndef up(x): return x\nassert up(1) == 1"), ASSERTS, "unjudged",
         "the reference fails its own asserts: raised ModuleNotFoundError"),
        (block(f"assert {' + '.join('1' * 600)} == 600"), ASSERTS, "unjudged", "the reference's code is nested too deeply"),
        (block("def up(x): return x"), block("def down(x): return missing"), "pass", "python code"),
        (block("class Pile:\n    def __init__(self): self.x = []\n    def put(self, x): self.x.append(x)\np = Pile()\np.put(3)\n"
               "assert p.x == [3]"), block("class Pile:\n    x = [7]\n    def put(self, x): pass"), "fail", "raised AssertionError"),
        (block("def up(x): return x + 1\ndef test_up():\n    assert up(1) == 2"), block("def up(x): return x"), "fail",
         "raised AssertionError"),
        (block("def up(x): return x + 1\nif __name__ == '__main__':\n    assert up(1) == 2"), block("def up(x): return x"), "fail",
         "raised AssertionError"),
        (block("def up(x): return x + 1") + block("assert up(1) == 2"), block("def up(x): return x"), "fail",
         "raised AssertionError"),
    ],
)  # fmt: skip
def test_python_asserts_runs_the_asserts(reference: str, text: str, outcome: str, reason: str) -> None:
    verdict = make_grader("python_asserts", run=PLAIN)(asking(reference), text)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_grader_that_runs_programs_wants_a_sandbox() -> None:
    with pytest.raises(RecipeError, match="python_asserts"):
        make_grader("python_asserts")(asking(ASSERTS), ASSERTS)
    with pytest.raises(RecipeError, match="no option 'run'"):
        make_grader({"name": "python_asserts", "run": "x"}, run=PLAIN)


ROWS = Path(__file__).parent / "data" / "magicoder.jsonl"


def test_magicoder_takes_the_python_rows() -> None:
    bad: list[BadRow] = []
    rows = list(get_task("magicoder").load(DataConfig(path=str(ROWS), on_bad_row="skip"), bad.append))
    assert [row.messages[0].content.split()[3] for row in rows] == ["`shelf_space(widths,", "`Ferry`", "that"]
    assert len(bad) == 1
    for item in (row.examples()[0] for row in rows):
        assert get_task("magicoder").grade(item, item.reference).passed
        assert make_grader("python_asserts", run=PLAIN)(item, item.reference).passed


def test_magicoder_takes_evol_instruct(tmp_path: Path) -> None:
    path = tmp_path / "evol.jsonl"
    path.write_text(json.dumps({"instruction": "Add.", "response": "```python\n1 + 1\n```"}) + "\n", encoding="utf-8")
    (row,) = get_task("magicoder").load(DataConfig(path=str(path)))
    assert [message.content for message in row.messages] == ["Add.", "```python\n1 + 1\n```"]


def test_magicoder_is_trained_on_as_in_the_paper() -> None:
    plan = make_context(make_recipe({"model": "demo", "task": "magicoder"}))
    assert (plan.source.path, plan.source.split, plan.source.n) == (
        "ise-uiuc/Magicoder-OSS-Instruct-75K",
        "train",
        2000,
    )
    assert "Refer to the reference answer" in rewrites(plan).rewriter.template.user


CASES = {
    "body": lambda prompt, body: body,
    "whole, fenced": lambda prompt, body: f"```python\n{prompt}{body}```",
    "prose": lambda prompt, body: f"Sure, it's here:\n\n```python\n{prompt}{body}```\n\nThat (isn't it?) is all.",
    "draft, final, use": lambda prompt, body: (
        f"A draft:\n```python\n{prompt}    return None\n```\nIt fails. So:\n"
        f"```python\n{prompt}{body}```\nFor example:\n```python\nprint(missing(1))\n```"
    ),
    "final, then wrong": lambda prompt, body: (
        f"```python\n{prompt}{body}```\nOr:\n```python\n{prompt}    return ''.q\n```"
    ),
    "equal to all": lambda prompt, body: (
        f"```python\nclass All(float):\n    __eq__ = __lt__ = lambda *_: True\n"
        f"    __hash__ = float.__hash__\n    __sub__ = __abs__ = lambda *_: All()\n\n{prompt}    return All('nan')\n```"
    ),
    "nothing": lambda prompt, body: f"```python\n{prompt}    pass\n```",
    "constant": lambda prompt, body: f"```python\n{prompt}    return 'no answer'\n```",
}


@pytest.fixture(scope="module")
def run(bubblewrap: str) -> Runner:
    return open_runner(bubblewrap)


@pytest.mark.parametrize("case", CASES)
def test_the_real_humaneval_solutions_pass(case: str, run: Runner, real_data: Path) -> None:
    path = real_data / "humaneval" / "HumanEval.jsonl"
    items = [row.examples()[0] for row in HUMANEVAL.load(DataConfig(path=str(path)))]
    answers = [CASES[case](item.instruction, item.reference) for item in items]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda pair: HUMANEVAL.grade(*pair, run=run), zip(items, answers, strict=True)))
    expected = "fail" if case in ("nothing", "constant", "final, then wrong", "equal to all") else "pass"
    wrong = [(item.extra["task_id"], v) for item, v in zip(items, verdicts, strict=True) if v.outcome != expected]
    assert wrong == []
    assert len(verdicts) == 164
