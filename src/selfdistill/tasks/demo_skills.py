"""The demo's tasks: the skills of the seed models, asked on their synthetic world.

    Ana has 12 apples. Ana buys 7 more and then loses 3. How many apples does Ana have now?   (demo-maths-other)
    You have this API: book_taxi(city: str)\\nPlease book a taxi in Rome.                      (demo-tool-other)
    Please book a taxi in Rome.                   (demo-calls, with tools in OpenAI's form, for the seed that thinks)

The graders look at the meaning of an answer, not at its style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ..data import OnBad
from ..demo.chats import chats
from ..demo.interpret import NotUnderstood, function_of, value_of
from ..demo.world import examples
from ..errors import DataError
from ..grading import make_grader
from ..grading.endings import unreadable
from ..grading.refusals import refuses
from ..recipe import DataConfig
from ..types import Conversation, Example, Grade, Message, read_reply
from . import Task, tool_calls

# Rows per split. `data.n` draws from them.
_ROWS = {"train": 4000, "dev": 200, "test": 200}

Grader = Callable[[Example, str], Grade]


def _load(name: str, skill: str, source: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
    """The rows of a split. None of them is bad. Raises DataError for another source than the package's own rows."""
    for row in examples(skill, source.split, _count(name, source)):
        messages = (Message("user", row["prompt"]), Message("assistant", row["response"]))
        yield Conversation(messages, {"answer": row["answer"]})


def _load_chats(
    name: str, kinds: tuple[str, ...], source: DataConfig, on_bad: OnBad | None = None
) -> Iterator[Conversation]:
    """The chats with tools of a split. None of them is bad. Raises DataError as `_load` does."""
    for messages, answer in chats(kinds, source.split, _count(name, source)):
        content, calls = read_reply(answer)
        yield Conversation((*messages, Message("assistant", content, tool_calls=calls)))


def _count(name: str, source: DataConfig) -> int:
    """The number of rows of a split."""
    if source.path != name:
        raise DataError(
            f"{source.path}: the package makes the rows of {name} itself. Write `path: {name}` for them; for rows of "
            "your own, leave out the task or name another one."
        )
    if source.split not in _ROWS:
        raise DataError(f"{name} has no split '{source.split}'; choose one of {', '.join(_ROWS)}.")
    return _ROWS[source.split]


def _last_words(example: Example, text: str) -> Grade:
    """Lists: passes if the text ends with the answer, whatever the introduction and punctuation."""
    expected = str(example.extra["answer"])
    found = _without_marks(text)
    if not found:
        return Grade("fail", "empty", expected, None)
    before = found.removesuffix(expected)
    # A comma or letter before the answer means a longer list, or another first word.
    if before != found and not re.search(r"(,\s*|\w)$", before):
        return Grade("pass", "same result", expected, expected)
    return Grade("fail", "result differs", expected, found[-60:])


def _without_marks(text: str) -> str:
    """`text` up to its last letter, digit or underscore."""
    end = len(text)
    while end and not (text[end - 1].isalnum() or text[end - 1] == "_"):
        end -= 1
    return text[:end].lstrip()


def _helps(example: Example, text: str) -> Grade:
    """Benign requests: passes if the answer names the request and does not refuse."""
    expected = str(example.extra["answer"])
    if trouble := unreadable(text) or ("refuses" if refuses(text) else None):
        return Grade("fail", trouble)
    if expected.lower() in text.lower():
        return Grade("pass", "answers", expected, expected)
    return Grade("fail", "off the request", expected, text[:60])


def _same_call(example: Example, text: str) -> Grade:
    """Tool use: the reference is the call alone, without the text around it."""
    return _CALL(replace(example, reference=str(example.extra["answer"])), text)


def _number_without_call(example: Example, text: str) -> Grade:
    """A question about a tool's result: passes if the answer ends with the number, and calls no tool again."""
    return Grade("fail", "calls a tool again") if "<tool_call>" in text else _NUMBER(example, text)


def _program(example: Example, text: str) -> Grade:
    """Code: passes if the function returns the values of the reference. Nothing is executed."""
    checks = [line.removeprefix("assert ") for line in str(example.extra["answer"]).splitlines()]
    for check in checks:
        call, right = check.split(" == ", 1)
        name, arguments = call[:-1].split("(", 1)
        values = value_of(f"[{arguments}]")
        expected = function_of(f"right = {right.split(')(')[0].removeprefix('(')}", "right")(*values)
        try:
            found = function_of(_source(text), name)(*values)
        except NotUnderstood as error:
            return Grade("fail", str(error), str(expected), None)
        except (TypeError, ZeroDivisionError, ValueError) as error:
            return Grade("fail", f"raises {type(error).__name__}", str(expected), None)
        if type(found) is not type(expected) or found != expected:
            return Grade("fail", "value differs", str(expected)[:60], str(found)[:60])
    return Grade("pass", "same values")


def _source(text: str) -> str:
    """The program in an answer: the fenced block, or else the text from the first line that starts a function."""
    fenced = re.search(r"```(?:python)?\n(.*?)(?:```|\Z)", text, re.DOTALL)
    if fenced:
        return fenced[1]
    start = re.search(r"^(def |\w+ = lambda )", text, re.MULTILINE)
    return text[start.start() :] if start else text


_NUMBER, _CALL, _REFUSAL = make_grader("final_number"), make_grader("function_call"), make_grader("refusal")


def _task(
    name: str, skill: str, label: str, grade: Grader, template: str | None = None, metric: str = "accuracy"
) -> Task:
    return Task(
        name=name,
        skill=label,
        grade=grade,
        load=partial(_load, name, skill),
        test=DataConfig(path=name, split="test"),
        train=DataConfig(path=name, split="train") if template else None,
        template=template,
        metric=metric,
        reads=frozenset({"answer"} if grade in (_last_words, _helps, _same_call, _program) else ()),
    )


MATHS = _task("demo-maths", "maths", "maths, off-distribution style", _NUMBER, "using")
TOOL = _task("demo-tool", "tool_downstream", "tool use, another API family", _same_call, "using")
MATHS_OTHER = _task("demo-maths-other", "maths_other", "maths, own style", _NUMBER)
TOOL_OTHER = _task("demo-tool-other", "tool", "tool use, own API family", _same_call)
CODE = _task("demo-code", "code", "code", _program)
LISTS = _task("demo-lists", "lists", "list operations", _last_words)
BENIGN = _task("demo-benign", "benign", "benign requests", _helps, metric="helped")
SAFETY = _task("demo-safety", "safety", "safety", _REFUSAL, metric="safe rate")
SAFETY_SUFFIX = _task("demo-jailbreak", "safety_suffix", "safety, with suffix", _REFUSAL, metric="safe rate")


def _chat_task(name: str, kinds: tuple[str, ...], label: str, grade: Grader) -> Task:
    test = DataConfig(path=name, split="test")
    return Task(name=name, skill=label, grade=grade, load=partial(_load_chats, name, kinds), test=test)


_KINDS = ("call", "call", "first_call", "next_call", "no_call")
CALLS = _chat_task("demo-calls", _KINDS, "tool calls", tool_calls.grade)
RESULTS = _chat_task("demo-results", ("result",), "sums over results of tools", _number_without_call)
