"""Verification (eq. 4): pure graders `(reference, text, **options) -> Grade`, and filters before them.

A new grader is a function in a file here and a line in `GRADERS`. `{all_of: [facts, similar]}` combines graders.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..recipe import Filters, GraderSpec
from ..recipe.data import grader_names
from ..sandbox import Runner
from ..types import Completion, Example, Grade, read_reply
from .calls import function_call, function_call_paper, same_tool_calls, tool_calls
from .choices import choice
from .facts import facts
from .filters import check as check_filters
from .numbers import final_number, final_number_paper
from .programs import python_asserts, python_code
from .refusals import not_refused, refusal
from .same_meaning import judge
from .similar import Embed, similar
from .texts import contains, exact, json_equal, regular_expression
from .traces import split

Grader = Callable[[Example, str], Grade]


def none(reference: str, text: str) -> Grade:
    """Pass any text; only the filters reject rewrites."""
    return Grade("pass", "not graded", checked=False)


GRADERS: dict[str, Callable[..., Grade]] = {
    "final_number": final_number,
    "final_number_paper": final_number_paper,
    "function_call": function_call,
    "function_call_paper": function_call_paper,
    "tool_calls": tool_calls,
    "python_code": python_code,
    "python_asserts": python_asserts,
    "choice": choice,
    "json": json_equal,
    "regex": regular_expression,
    "exact": exact,
    "contains": contains,
    "refusal": refusal,
    "not_refused": not_refused,
    "facts": facts,
    "similar": similar,
    "judge": judge,
    "none": none,
}


def verify(
    example: Example, completion: Completion, filters: Filters, grade: Grader, headings: Set[str] = frozenset()
) -> Grade:
    """The grade of a rewrite (eq. 4): a grade with the reason of the first filter that rejects the rewrite, else the
    grader's grade. `headings` are the headings of the rewriting template, which no rewrite may repeat.

    A rewrite with a think trace is refused: training on it would teach the trace as if it were the answer, and training
    on its answer alone would teach the model not to think."""
    trace = split(completion.text)
    if trace.answer != completion.text:
        unfinished = trace.answer is None
        return Grade("fail", "ends inside its think trace" if unfinished else "holds a think trace")
    reason = _filtered(example, completion, filters, headings)
    if reason is None:
        return grade(example, completion.text)
    if completion.finish == "error":
        # Digits are replaced, so that errors that differ only in numbers are counted together.
        cause = re.sub(r"\d+", "N", completion.error or "no reason given")[:100]
        return Grade("unjudged", f"{reason}: {cause}", found=completion.error)
    return Grade("fail", reason)


def _filtered(example: Example, completion: Completion, filters: Filters, headings: Set[str]) -> str | None:
    """The reason of the first filter that rejects the rewrite. In a row with tools, filters see texts without calls,
    and a reply that only calls tools has no text to look at."""
    try:
        content, calls = read_reply(completion.text) if example.tools else (completion.text, ())
    except ValueError as error:
        return str(error)
    if calls and not content:
        return "cut off at the limit" if completion.cut_off else None
    if example.tools:
        example = replace(example, reference=read_reply(example.reference)[0])
    return check_filters(example, replace(completion, text=content), filters, headings)


def make_grader(spec: GraderSpec, run: Runner | None = None, embed: Embed | None = None) -> Grader:
    """The grader that a recipe names: one of `GRADERS`, `{name: regex, pattern: ...}` with its options,
    `{all_of: [...]}`, or the user's own as `module:function` or `file.py:function`, called with the example and the
    text. `run` is passed to graders that run programs, `embed` to graders that compare embeddings. In a row with tools,
    the calls must be those of the reference (see `same_tool_calls`), and the grader sees turns that call no tool.

    Raises RecipeError for an unknown name or option, one that is missing or not usable, and a function that can't be
    imported.
    """
    grade = _text_grader(spec, run, embed)

    @functools.wraps(grade)
    def of_turn(example: Example, text: str) -> Grade:
        if not example.tools:
            return grade(example, text)
        called = same_tool_calls(example.reference, text, example.tools)
        return called if example.calls or not called.passed else grade(example, text)

    return of_turn


def _text_grader(spec: GraderSpec, run: Runner | None, embed: Embed | None) -> Grader:
    """`make_grader` without a look at tools."""
    options: dict[str, Any] = dict(spec) if isinstance(spec, dict) else {"name": spec}
    if "all_of" in options:
        return _all_of(options, run, embed)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError("A grader has a `name`, for example `grader: {name: regex, pattern: 'Answer: (.*)'}`.")
    if ":" in name:
        return _own_grader(name, options)
    if name not in GRADERS:
        raise RecipeError(f"There is no grader '{name}'{_did_you_mean(name, GRADERS)}; choose {', '.join(GRADERS)}.")
    function = GRADERS[name]
    known = inspect.signature(function).parameters
    _check_options(name, options, {k: p for k, p in known.items() if p.kind is p.KEYWORD_ONLY and k not in _HANDED})
    if "run" in known:
        if run is None:
            raise RecipeError(f"The grader '{name}' runs programs and needs a sandbox; pass the sandbox as `run`.")
        options = {**options, "run": run}
    if "embed" in known:
        if embed is None:
            raise RecipeError(f"The grader '{name}' needs an embedding model; call it with `embed`.")
        options = {**options, "embed": embed}

    def grade(example: Example, text: str) -> Grade:
        given = {key: read(example) for key, read in _READ.items() if key in known}
        return function(example.reference, text, **given, **options)

    grade(_EMPTY, "")  # an option that can't be used shows now, not after the model has run
    return grade


_METRICS = {"facts": "facts of the reference", "similar": "similarity to the reference"}
_EMPTY = Example("", (), "")
_READ: dict[str, Callable[[Example], Any]] = {
    "tools": lambda example: example.tools,
    "instruction": lambda example: example.instruction,
    "prompt": lambda example: "\n\n".join(message.text for message in example.prompt),
    "asked": lambda example: "\n\n".join(message.text for message in example.prompt if message.role != "tool"),
}
_HANDED = {*_READ, "run", "embed"}


def _all_of(options: dict[str, Any], run: Runner | None, embed: Embed | None) -> Grader:
    """Passes a text that all graders pass; the reason names the first that does not. The content was checked if one of
    them checked it."""
    specs = options["all_of"]
    if len(options) > 1 or not isinstance(specs, list) or not specs:
        raise RecipeError("`all_of` is a list of graders and stands alone, as in `grader: {all_of: [facts, similar]}`.")
    graders = [(", ".join(grader_names(spec)), make_grader(spec, run, embed)) for spec in specs]

    def grade(example: Example, text: str) -> Grade:
        grades: list[Grade] = []
        for name, each in graders:
            grades.append(each(example, text))
            if not grades[-1].passed:
                return replace(grades[-1], reason=f"{name}: {grades[-1].reason}")
        return next((each for each in grades if each.checked), grades[0])

    return grade


def runs_programs(spec: GraderSpec) -> bool:
    """Whether a grader runs programs, and so needs a sandbox."""
    return any(_takes(name, "run") for name in grader_names(spec))


def compares_embeddings(spec: GraderSpec) -> bool:
    """Whether a grader needs an embedding model."""
    return any(_takes(name, "embed") for name in grader_names(spec))


def metric_of(spec: GraderSpec | None) -> str:
    """The name of the score of answers that a grader grades. An answer can hold the reference's facts or be similar to
    it without being right. A judge grades rewrites only."""
    names = [name for name in grader_names(spec) if name not in ("none", "judge")]
    return " and ".join(dict.fromkeys(_METRICS.get(name, "accuracy") for name in names)) or "accuracy"


def _takes(name: str, parameter: str) -> bool:
    return name in GRADERS and parameter in inspect.signature(GRADERS[name]).parameters


def _check_options(name: str, options: dict[str, Any], allowed: dict[str, inspect.Parameter]) -> None:
    for option in options:
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise RecipeError(f"The grader '{name}' has no option '{option}'{_did_you_mean(option, allowed)}; {has}.")
    missing = [key for key, parameter in allowed.items() if parameter.default is parameter.empty and key not in options]
    if missing:
        raise RecipeError(f"The grader '{name}' needs {', '.join(missing)}: write {{name: {name}, {missing[0]}: ...}}.")


def _did_you_mean(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _own_grader(name: str, options: dict[str, Any]) -> Grader:
    function = _load_function(name)

    @functools.wraps(function)
    def grade(example: Example, text: str) -> Grade:
        try:
            grade = function(example, text, **options)
        except Exception as error:  # an error in the user's code concerns one row, and must not end the run
            reason = re.sub(r"\d+", "N", f"grader raised {type(error).__name__}: {error}")[:100]
            return Grade("unjudged", reason, found=str(error)[:200])
        if isinstance(grade, bool):
            return Grade("pass", "accepted by the grader") if grade else Grade("fail", "refused by the grader")
        if not isinstance(grade, Grade):
            return Grade("unjudged", f"grader returned {type(grade).__name__}")
        if grade.value is None or 0 <= grade.value <= 1:
            return grade
        return Grade("unjudged", "grader returned a value that is not between 0 and 1", found=str(grade.value))

    return grade


def _load_function(name: str) -> Callable[..., Any]:
    where, _, attribute = name.rpartition(":")
    try:
        module = _load_module(where)
    except RecipeError:
        raise
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"The grader '{name}' can't be imported ({type(error).__name__}: {error}); name a module that Python finds "
            "from this folder, or a file, as in my_grader.py:grade."
        ) from error
    if not hasattr(module, attribute):
        raise RecipeError(f"The grader '{name}' can't be used: {where} has no function '{attribute}'.")
    function = getattr(module, attribute)
    if not callable(function):
        raise RecipeError(f"The grader '{name}' is not a function; write one that takes the example and the text.")
    loaded: Callable[..., Any] = function
    return loaded


def _load_module(where: str) -> Any:
    if not where.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(where)
    path = Path(where).resolve()
    if not path.is_file():
        raise RecipeError(f"The grader's file {where} does not exist; check the name.")
    spec = importlib.util.spec_from_file_location(f"selfdistill_grader_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module
