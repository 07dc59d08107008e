"""Each grader's table of what passes and what doesn't, and what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.errors import RecipeError
from selfdistill.grading import GRADERS, make_grader
from selfdistill.sandbox import Ran
from selfdistill.types import Example, Grade, Message

REQUIRED = {"regex": {"pattern": r"Answer: (\w+)"}}


def judge(grader: str, reference: str, text: str, instruction: str = "", **options: object) -> Grade:
    example = Example.of((Message("user", instruction),), reference)
    spec = {"name": grader, **options}
    return make_grader(spec, run=lambda program, tests=None: Ran(True, "ran", ""), embed=letters)(example, text)


def letters(texts: Sequence[str]) -> Any:
    """An embedding for tests: how often each letter occurs."""
    counts = np.array([[text.count(chr(97 + place)) for place in range(26)] for text in texts], dtype=float) + 1e-9
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


CALL = "a.b.get(path='x', n=1, tags=['p', {'k': True}])"


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        'a.b.get(tags=["p", {"k": True}], path="x", n=1.0)',
        "a.b.get('x', 1, ['p', {'k': true}])",
        "a.b.get('x', n=+1, tags=['p', {'k': True},],)",
        f"Use this:\n```python\n{CALL}\n```\nIt gets the file(s) you want.",
        f"The call is `{CALL}`.",
        f"result = {CALL}",
        "a.b.get(\n    path='x',\n    n=1,\n    tags=['p', {'k': True}],\n)",
    ],
)
def test_the_same_call_however_it_is_written(text: str) -> None:
    instruction = "Do it.\nParameters:\n1. path - a path\n2. n (type: integer) - how many\n3. tags\nRequired: [path]"
    assert judge("function_call", CALL, text, instruction) == Grade("pass", "same call", CALL, text_call(text))
    assert judge("function_call", CALL, text).passed, "the reference's order of parameters serves as well"


def test_the_instructions_order_of_parameters_comes_first() -> None:
    instruction = "Do it.\nParameters:\n1. a - first\n2. b - second\n"
    assert judge("function_call", "f(b=2, a=1)", "f(1, 2)", instruction).passed
    assert judge("function_call", "f(b=2, a=1)", "f(2, 1)", instruction).reason == "arguments differ"
    assert judge("function_call", "f(b=2, a=1)", "f(2, 1)").passed


def text_call(text: str) -> str:
    return text[text.index("a.b.get(") : text.rindex(")") + 1] if "(s)" not in text else CALL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.b.get(path='y', n=1, tags=['p', {'k': True}])", "arguments differ"),
        ("a.b.get(path='x', n='1', tags=['p', {'k': True}])", "arguments differ"),
        ("a.b.get(path='x', n=1, tags=['p', {'k': 'True'}])", "arguments differ"),
        ("a.b.get(path='x', n=1, tags=['p', {'k': 1}])", "arguments differ"),
        ("a.b.get(path='x', n=1, tags=({'k': True}, 'p'))", "arguments differ"),
        ("a.b.get(path='x', n=1)", "arguments differ"),
        ("a.b.get(path='x', path='x', n=1, tags=['p', {'k': True}])", "arguments differ"),
        ("a.b.get('x', path='x', n=1, tags=['p', {'k': True}])", "arguments differ"),
        ("a.c.get(path='x', n=1, tags=['p', {'k': True}])", "function differs"),
        ("get(path='x', n=1, tags=['p', {'k': True}])", "function differs"),
        (f"print({CALL})", "function differs"),
        (f"{CALL}\na.b.drop(path='x')", "more than one call"),
        (f"{CALL}\nThat is: {CALL}", "the same call more than once"),
        (f"{CALL}.result", "call within a longer expression"),
        (f"{CALL}[0]", "call within a longer expression"),
        ("a.b.get(path='x', n=1", "no call found"),
        ("I would get it.", "no call found"),
        ("", "no call found"),
    ],
)
def test_another_call_fails(text: str, reason: str) -> None:
    verdict = judge("function_call", CALL, text)
    assert (verdict.outcome, verdict.reason) == ("fail", reason)


def test_nested_calls_are_arguments() -> None:
    assert judge("function_call", "f(x=g(a=1, b=2))", "f(x=g(b=2, a=1.0))").passed
    assert judge("function_call", "f(x=g(a=1))", "f(x=g(a=2))").reason == "arguments differ"


@pytest.mark.parametrize("call", ["f (a=1)", "(f)(a=1)", "f(s)", "f(a='''x\n)''')", "f(*a, **b)", "f(a=x[0](1))"])
def test_odd_calls_equal_themselves(call: str) -> None:
    assert judge("function_call", call, call).passed


def test_a_reference_that_is_no_python_is_compared_as_text() -> None:
    reference = "s3.finalize(token=<token>, name='x')"
    assert judge("function_call", reference, '`s3.finalize(token=<token>,name="x")`').passed
    assert judge("function_call", reference, "s3.finalize(token=<other>, name='x')").outcome == "fail"
    assert judge("function_call", "", "f()").outcome == "unjudged"


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), LITERALS, min_size=1), st.randoms())
def test_any_call_equals_itself_in_another_order(arguments: dict[str, object], random: object) -> None:
    reference = f"api.do({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    shuffled = list(arguments.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    text = f"api.do({', '.join(f'{key} = {value!r}' for key, value in shuffled)})"
    assert judge("function_call", reference, f"Sure:\n\n{text}\n").passed
    other = {**arguments, "a": "another value", "b": "and another"}
    assert not judge("function_call", reference, f"api.do({', '.join(f'{k}={v!r}' for k, v in other.items())})").passed


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('Use f(a="x",  b=2) now; g(1)', "pass"),
        ("f(b=2, a='x')", "fail"),
        ("xf(a='x', b=2)", "fail"),
    ],
)
def test_the_papers_call_rule_compares_as_the_paper_does(text: str, outcome: str) -> None:
    assert judge("function_call_paper", "f(a='x', b=2)", text).outcome == outcome
    assert judge("function_call_paper", "none", text).outcome == "unjudged"


CODE = "Here:\n```python\nprint(1)\n```\nDone."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CODE, "python code"),
        ("1. Do\n   ```py\n   x = 1\n   ```\n", "python code"),
        ("```bash\nls (\n```\n```python3\nx = 1\n```", "python code"),
        ("print(1)", "no python block found"),
        ("```java\nint x;\n```", "no python block found"),
        ("```python\nprint(1\n```", "code does not parse"),
        (f"{CODE}\n```python\nprint(\n```", "code does not parse"),
        ("```python\nprint(1)", "code block not closed"),
        ("```python\n\n```", "empty code block"),
        ("```python\n" + "(" * 5000 + "\n```", "code does not parse"),
        ("```python\nx = '\\d'\n```", "python code"),
    ],
)
def test_python_code_passes_when_it_parses(text: str, reason: str) -> None:
    verdict = judge("python_code", CODE, text)
    assert (verdict.reason, verdict.passed) == (reason, reason == "python code")
    assert judge("python_code", "no code", text).outcome == "unjudged"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"b": [1, null], "a": 1.0}', "pass"),
        ('Here:\n```json\n{"a": 1, "b": [1, null]}\n```', "pass"),
        ('{"a": 1, "b": [null, 1]}', "fail"),
        ('{"a": true, "b": [1, null]}', "fail"),
        ('{"a": NaN}', "fail"),
        ("{'a': 1}", "fail"),
        ("[" * 100_000, "fail"),
    ],
)
def test_json_is_compared_by_value(text: str, outcome: str) -> None:
    reference = '{"a": 1, "b": [1, null]}'
    assert judge("json", reference, text).outcome == outcome
    assert judge("json", "a: 1", text).outcome == "unjudged"


def test_json_is_checked_against_a_schema() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert judge("json", "", '{"a": 5}', schema=schema).passed
    verdict = judge("json", "", '{"a": "5"}', schema=schema)
    assert (verdict.outcome, verdict.reason, verdict.expected) == ("fail", "not valid against the schema", "$.a")
    huge = judge("json", "", f"1{'0' * 400}", schema={"multipleOf": 0.01})
    assert (huge.outcome, huge.reason) == ("fail", "not valid against the schema")


@given(LITERALS)
def test_any_json_equals_itself(value: object) -> None:
    text = json.dumps(value)
    assert judge("json", text, f"```json\n{json.dumps(value, indent=2)}\n```").passed


def test_regex_grades_by_its_pattern() -> None:
    assert judge("regex", "", "abc 12", pattern=r"\d+").passed
    assert judge("regex", "", "abc", pattern=r"\d+").reason == "no match"
    group = r"Answer: (\w+)"
    assert judge("regex", "Answer: x", "Answer: y\nAnswer: x", pattern=group).passed
    assert judge("regex", "Answer: x", "Answer: y", pattern=group) == Grade("fail", "match differs", "x", "y")
    assert judge("regex", "no", "Answer: y", pattern=group).outcome == "unjudged"
    assert judge("regex", "", "a" * 5000 + "!", pattern=r"(a|aa|a?a)+$") == Grade("unjudged", "pattern took too long")


def test_exact_and_contains_compare_texts() -> None:
    assert judge("exact", "Yes", " Yes\n").passed
    assert not judge("exact", "Yes", "yes").passed
    assert judge("exact", "Yes", "yes", ignore_case=True).passed
    assert judge("contains", "Paris", "It is Paris.").passed
    assert not judge("contains", "Paris", "It is paris.").passed
    assert judge("contains", "Paris", "It is paris.", ignore_case=True).passed
    assert judge("contains", " ", "x").outcome == "unjudged"
    assert judge("none", "x", "").passed


@pytest.mark.parametrize(
    ("text", "refusal", "not_refused"),
    [
        ("I cannot help with that.", "refuses", "refuses"),
        ("I’m sorry, but no.", "refuses", "refuses"),
        ("Sure, here is how to do it: first, take the car.", "complies", "does not refuse"),
        ("The pet trade is illegal in most countries.", "refuses", "does not refuse"),
        ("  \n", "empty", "does not refuse"),
        (
            " ".join(["the"] * 21),
            "garbled",
            "does not refuse",
        ),
        ("{{{ ;; ]] ((( **** %%% ??? ,,, a", "garbled", "does not refuse"),
        ("xkcd qwrt zxcv bnmk lpqr tghb wsxc", "garbled", "does not refuse"),
        ("illegal " * 40, "garbled", "does not refuse"),
        ("I cannot help with that. " * 40, "refuses", "refuses"),
        ("I cannot help with that. " * 4, "refuses", "refuses"),
        ("First, take the car, and then drive. " * 40, "complies", "does not refuse"),
        ("42", "complies", "does not refuse"),
        ("抱歉，这个问题我可以回答。", "complies", "does not refuse"),
    ],
)
def test_refusals_compliance_and_garbage_are_apart(text: str, refusal: str, not_refused: str) -> None:
    assert judge("refusal", "", text).reason == refusal
    assert judge("refusal", "", text).passed == (refusal == "refuses")
    assert judge("not_refused", "", text).reason == not_refused
    assert judge("not_refused", "", text).passed == (not_refused == "does not refuse")


@pytest.mark.parametrize("name", sorted(GRADERS))
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gets_a_grade(name: str, reference: str, text: str) -> None:
    verdict = judge(name, reference, text, **REQUIRED.get(name, {}))
    assert verdict.outcome in ("pass", "fail", "unjudged")
    assert verdict.reason == verdict.reason.lower()
    assert len(verdict.reason) < 60
    assert judge(name, reference, text, **REQUIRED.get(name, {})) == verdict


CODE_LIKE = st.text(st.sampled_from("ab f()[]{}=,.:'\"\\0123456789-/#`\n"), max_size=40)


@pytest.mark.parametrize("name", sorted(set(GRADERS) - {"refusal", "not_refused"}))
@given(st.text(max_size=60) | CODE_LIKE)
def test_every_reference_passes_its_own_grader_or_cannot_be_judged(name: str, reference: str) -> None:
    verdict = judge(name, reference, reference, **REQUIRED.get(name, {}))
    assert verdict.outcome != "fail"


PIECES = ["1", "1,", "1/", "(", "f(", "a.", "f('", "\\'", "-", "```python\n", "[{", '{"a":', "\\frac{1", "answer is "]
PIECES += [
    "#### ",
    "I'm ",
    "<|",
    " ",
    "=",
    "(A",
    "\\text{",
    "\\boxed{",
    "1e",
    "f(1)\n",
    "é",
    "\n",
    "```",
    "label:",
    "- f(",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", sorted(GRADERS))
def test_no_text_takes_long(name: str) -> None:
    for piece in PIECES:
        text = (piece * 100_000)[:100_000]
        judge(name, "f(a=1)", text, **REQUIRED.get(name, {}))
        judge(name, text, text, "\nParameters:\n" + text, **REQUIRED.get(name, {}))


def test_own_graders_are_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from selfdistill.types import Grade\n"
        "def long(example, text, least=3): return len(text) >= least\n"
        "def same(example, text): return Grade('pass', 'is the same')\n"
        "def broken(example, text): return 1 / 0\n"
        "def odd(example, text): return 'yes'\n"
        "def nan(example, text): return Grade('fail', 'no', value=float('nan'))\n"
        "number = 5\n"
    )
    (tmp_path / "my_graders.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    assert judge("my_graders:long", "", "abc") == Grade("pass", "accepted by the grader")
    assert judge("my_graders.py:long", "", "abc", least=4) == Grade("fail", "refused by the grader")
    assert judge("my_graders:same", "", "abc") == Grade("pass", "is the same")
    assert judge("my_graders:broken", "", "abc") == Grade(
        "unjudged", "grader raised ZeroDivisionError: division by zero", found="division by zero"
    )
    assert judge("my_graders:odd", "", "abc") == Grade("unjudged", "grader returned str")
    assert judge("my_graders:nan", "", "abc") == Grade(
        "unjudged", "grader returned a value that is not between 0 and 1", found="nan"
    )
    for name in ("my_graders:nothing", "my_graders:number", "no_such_module:grade", "no_such_file.py:grade"):
        with pytest.raises(RecipeError):
            make_grader(name)


def test_a_file_with_a_dataclass_is_a_grader_and_an_error_in_a_file_is_named(tmp_path: Path) -> None:
    own, broken = tmp_path / "own.py", tmp_path / "broken.py"
    own.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Found:\n"
        "    text: str\n\ndef grade(example, text): return Found(text).text == 'x'\n"
    )
    broken.write_text("import math\nLIMIT = math.no_such_number\ndef grade(example, text): return True\n")
    assert judge(f"{own}:grade", "", "x").passed
    with pytest.raises(RecipeError, match=r"can't be imported \(AttributeError: .*no_such_number"):
        make_grader(f"{broken}:grade")
    with pytest.raises(RecipeError, match="has no function 'grad'"):
        make_grader(f"{own}:grad")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("final_numbr", "did you mean 'final_number'"),
        ({"name": "regex", "patern": "x"}, "did you mean 'pattern'"),
        ({"name": "regex"}, "needs pattern"),
        ({"name": "regex", "pattern": "("}, "not a regular expression"),
        ({"name": "function_call", "instruction": "x"}, "it has none"),
        ({"name": "json", "schema": {"type": 5}}, "not a JSON Schema"),
        ({"name": "json", "schema": "x"}, "as a mapping"),
        ({"name": "choice", "labels": ["a"]}, "two different `labels`"),
        ({"pattern": "x"}, "has a `name`"),
        ({"all_of": []}, "`all_of` is a list of graders"),
        ({"all_of": ["facts"], "name": "exact"}, "stands alone"),
        ({"all_of": ["facts", "simlar"]}, "did you mean 'similar'"),
        ({"name": "similar", "threshold": 2}, "between 0 and 1"),
        ({"name": "judge", "threshold": 0}, "between 0 and 1"),
    ],
)
def test_a_grader_that_cannot_be_used_is_named(spec: str | dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        make_grader(spec, embed=letters)
