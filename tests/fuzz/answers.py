"""Graders and what else reads a model's answers: any text gets a verdict, in time, and the same one twice."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from inputs import Target, example, mixed, values

from selfdistill.errors import RecipeError
from selfdistill.grading import GRADERS, filters, make_grader
from selfdistill.grading.functions import complete_function
from selfdistill.grading.judged import read_pairwise, read_safety
from selfdistill.recipe import Filters
from selfdistill.sandbox import Ran
from selfdistill.store.rows import dump_line, parse_line
from selfdistill.tasks import demo_skills as demo
from selfdistill.types import Completion, Grade

PIECES: dict[str, list[str]] = {
    "final_number": ["#### 12", "the answer is ", "\\boxed{", "}", "12", "1,234.50", "-", "$", "1/2", "\\frac{1}{2}",
                     "3 + 4 = 7", "%", ".", "5 1/2", "1e3", "1e999", "th", "=", "\n", "\\text{", "{,}", "½", "/0"],
    "final_number_paper": ["12", "18 9", "18\n9", "1,2", "-", ".", "3.0", ".5", "answer is "],
    "function_call": ["f(", ")", "a=1", "b='x'", ", ", "g.h(", "[", "]", "{", "}", '"', "'", "\\", "True", "null",
                      "-1",
                      "1.0", "**k", "*a", "`", "```python\n", "```", "f(a=1)", "# ", "\n", "lambda x: x", ":=",
                      "await "],
    "function_call_paper": ["f(", ")", "a=1", "b='x'", ", ", "f(a=1)", "\n", '"', "g.h()"],
    "python_code": ["```python\n", "```", "\n", "def f():\n    return 1\n", "x = '", "    ", "`", "```js\n",
                    "# é\n", "(",
                    "lambda", "f'{x!r:{y}}'", "match x:\n case 1: pass\n", "\\", "```py\nx = 1\n```"],
    "python_asserts": ["```python\n", "```", "\n", "assert f() == 1\n", "def test_a():\n    assert 1\n", "(",
                       "if __name__ == '__main__':\n    assert 1\n", "def f():\n    return 1\n", "class A: pass\n"],
    "choice": ["(A)", "B", "B.", "C)", "answer is ", "Answer: ", "\\boxed{", "}", "A. Paris", "label:", "yes",
               "no", "I"],
    "json": ["{", "}", "[", "]", '"a"', ":", ",", "1", "1.0", "1e400", "-1e400", "NaN", "Infinity", "null", "true",
             "```json\n", "```", '"\\ud800"', '"\\u0000"', "[" * 2000, '{"a":1,"a":2}', "1" * 4400],
    "regex": ["Answer: ", "12", "x", "\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"],
    "exact": ["yes", "No", "ß", "SS"],
    "contains": ["yes", "No", "ß", "SS"],
    "refusal": ["I'm sorry", "I’m sorry, but ", "I cannot", "Sorry", "illegal", "the ", "x" * 30, "{{{", "<a>", "42"],
    "not_refused": ["I'm sorry, but ", "I cannot help ", "As an AI, ", "However, I can ", '"', "“", ":\n", "the ",
                "\x1b[0m"],
    "facts": ["12 ", "1,000", "three ", "50%", " Anna", " Rome", "3 May 2020", "2020-05-03", '"a b"', "`x = 1`", "- ",
              "# ", "\n", ". ", "https://a.b/c", "NASA ", "½", "1e400", "```\nx\n```", "is not "],
    "tool_calls": ["<tool_call>\n", "\n</tool_call>", '{"name": "f", "arguments": {"a": 1}}', '{"name": "g"', "}", "[",
                   '"arguments": ', "NaN", "1e400", "Text ", "\n", "<tool_call>", "</tool_call>", "{" * 2000],
    "judge": ["x"],
    "none": ["x"],
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"regex": {"pattern": r"(?:Answer: )?(\w+)"}}
# These don't read the reference, or (tool_calls) fail a call of a tool that the row does not define.
UNREFERENCED = {"refusal", "not_refused", "tool_calls", "judge", "none"}
# `similar` needs an embedding model.
FUZZED = [name for name in GRADERS if name != "similar"]
SURROUNDED = set(FUZZED) - {"regex"}  # a user's pattern may well look at the ends


def ran(source: str, tests: str | None = None) -> Ran:
    """In place of the sandbox: whatever is valid Python passes."""
    try:
        for text in (source, tests or ""):
            compile(text.encode(), "program", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Ran(False, "raised SyntaxError", "")
    return Ran(True, "passed", "")


def sound(verdict: Grade) -> None:
    assert verdict.outcome in ("pass", "fail", "unjudged"), verdict
    assert verdict.reason, verdict
    assert len(verdict.reason) < 150, verdict
    assert Grade.from_json(parse_line(dump_line(verdict.to_json()))) == verdict


def grader(name: str) -> Target:
    grade = make_grader({"name": name, **OPTIONS.get(name, {})}, ran)  # type: ignore[arg-type]

    def check(made: tuple[str, str, str]) -> None:
        reference, text, asked = made
        verdict = grade(example(reference, asked), text)
        sound(verdict)
        assert grade(example(reference, asked), text) == verdict, "not the same twice"
        if name in SURROUNDED:
            around = grade(example(reference, asked), f"\n {text} \n")
            assert around.outcome == verdict.outcome, f"white space around the text changes {verdict} to {around}"
        if name not in UNREFERENCED:
            own = grade(example(reference, asked), reference)
            assert own.outcome != "fail", f"the reference fails its own grader: {own}"

    text = mixed(PIECES[name])
    asked = mixed(["\nParameters:\n", "1. a - x\n", "2. b\n", "Question: "], most=4)
    return Target(f"grader {name}", st.tuples(text, text, asked), check)


def check_number(made: tuple[int, str, str, str]) -> None:
    """A number is read, whatever stands before and after it, and whichever script its digits are of."""
    number, digits, before, after = made
    shown = str(number).translate({48 + value: digit for value, digit in enumerate(digits)})
    verdict = make_grader("final_number")(example(f"#### {number}"), f"{before}{shown}{after}")
    assert verdict.passed, verdict


NUMBERS = st.tuples(
    st.integers(-(10**9), 10**9),
    st.sampled_from(["0123456789", "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "０１２３４５６７８９"]),
    st.sampled_from(
        ["#### ", "The answer is ", "\\boxed{", "So it is ", "1 + 1 = ", "\u202b", "答案是 ", "\ufeff", "\u200b"]
    ),
    st.sampled_from(["", ".", "}", "%", " euros.", "\n", "\r\n", " 😀", "\u202c", "\u200b", "。", "\x00"]),
)


def check_judge(replies: tuple[str, str]) -> None:
    sound(read_pairwise(replies))
    sound(read_safety(replies[:1]))
    there, back = read_pairwise(replies), read_pairwise(replies[::-1])
    # Who prefers A in both orders prefers by place; what is won one way round is lost the other.
    assert (there.value is None) == (back.value is None)
    assert there.value is None or back.value is None or there.value + back.value == 1.0


def check_function(answer: str) -> None:
    program = complete_function('def f(x):\n    """Doubles."""\n', "f", answer)
    if program is not None:
        with suppress(SyntaxError):  # `return` outside, and the like, which running tells
            compile(program.encode(errors="replace"), "program", "exec")


def check_hygiene(made: tuple[str, str, str]) -> None:
    text, reference, finish = made
    completion = Completion("0" * 16, text, finish, error="x" if finish == "error" else None)  # type: ignore[arg-type]
    reason = filters.check(example(reference), completion, Filters())
    assert reason is None or (reason and len(reason) < 60)
    if finish == "stop" and reference.strip():
        own = filters.check(example(reference), Completion("0" * 16, reference, "stop"), Filters())
        assert own is None, f"the reference itself is refused: {own}"


def check_demo(made: tuple[str, str, str]) -> None:
    name, text, reference = made
    task = {"lists": demo.LISTS, "benign": demo.BENIGN, "tool": demo.TOOL, "code": demo.CODE}[name]
    answer = {"lists": "a, b", "benign": "soup", "tool": "f(a=1)"}.get(name, "assert f(2) == (lambda x: x * 2)(2)")
    sound(task.grade(example(reference, answer=answer), text))


def check_pattern(made: tuple[str, str]) -> None:
    """A user's own regular expression: refused in a sentence, or a verdict."""
    pattern, text = made
    with suppress(RecipeError):
        sound(make_grader({"name": "regex", "pattern": pattern})(example(text), text))


def check_schema(made: tuple[Any, Any]) -> None:
    schema, value = made
    with suppress(RecipeError):
        sound(make_grader({"name": "json", "schema": schema})(example(""), json.dumps(value)))


def check_options(made: tuple[str, dict[str, Any]]) -> None:
    name, options = made
    with suppress(RecipeError):
        sound(make_grader({"name": name, **options}, ran)(example("A"), "A"))  # type: ignore[arg-type]


SCHEMA_KEYS = [
    "type", "pattern", "patternProperties", "properties", "additionalProperties", "uniqueItems", "items", "enum",
    "$ref",
    "anyOf", "required", "minimum", "multipleOf", "const", "format", "$defs", "$schema", "not", "$id", "contains",
]  # fmt: skip

OPTION_NAMES = ["pattern", "schema", "labels", "ignore_case", "phrases", "run", "instruction", "x"]
PATTERNS = [
    "(?:a|aa)+$", "(", ")", "[", "]", "\\", "*", "+", "{1,9}", "(?P<a>", "(?i)", "|", "\\L<x>", "^", "$", "\\1",
    "(?R)", "a",
    "(.*)*", "{9999999}", "(?<=",
]  # fmt: skip
REPLIES = mixed(["Verdict: A", "verdict: b", "tie", "\n", "**", "refused", "1. "])
PROGRAMS = mixed([*PIECES["python_code"], "def f(x):\n", "    return x * 2\n", "import os\n", "f = lambda x: x\n"])
ANSWERS = mixed(["</s>", "reference answer", "I cannot help", "ab " * 20, "abc\n" * 8, "```"])
DEMO_ANSWERS = mixed(
    ["a, b", "soup", "f(a=1)", "f = lambda x: x * 2\n", "```\n", "def f(x):\n", "    return x ** 9 ** 9\n", ", "]
)

TARGETS = (
    *(grader(name) for name in FUZZED),
    Target("numbers of any script", NUMBERS, check_number),
    Target("judge's replies", st.tuples(REPLIES, REPLIES), check_judge),
    Target("function in an answer", PROGRAMS, check_function),
    Target(
        "filters",
        st.tuples(ANSWERS, ANSWERS, st.sampled_from(["stop", "stop", "length", "error"])),
        check_hygiene,
    ),
    Target(
        "demo's graders",
        st.tuples(st.sampled_from(["lists", "benign", "tool", "code"]), DEMO_ANSWERS, mixed(["r"])),
        check_demo,
    ),
    Target("user's pattern", st.tuples(mixed(PATTERNS, 5), mixed(["a" * 30, "!", "b"], 4)), check_pattern, 0.1),
    Target("user's schema", st.tuples(values(SCHEMA_KEYS), values(["a", "b"])), check_schema, 0.3),
    Target(
        "grader's options",
        st.tuples(
            st.sampled_from(FUZZED),
            st.dictionaries(st.sampled_from(OPTION_NAMES), values(["a"]), max_size=2),
        ),
        check_options,
    ),
)
