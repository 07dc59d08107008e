"""What is fuzzed. A target is a strategy for its input and a check of it, which raises where something is wrong: another
exception than the one a user can mend, a row lost or changed, a verdict that hangs on what it should not."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from hypothesis import strategies as st
from inputs import damaged, json_bytes, mixed, plain, values

from selfdistill.annotations import published_rates
from selfdistill.backends.endpoint import Endpoint, FaultError, retry_after
from selfdistill.backends.openai import OpenAIBackend
from selfdistill.cli.show import visible
from selfdistill.config import DataConfig, Hygiene, ModelConfig, ServerConfig, load_recipes, make_recipe, save_recipe
from selfdistill.data import BadRow, read_conversations
from selfdistill.errors import DataError, ModelError, RecipeError, SelfDistillError
from selfdistill.export import FORMATS as EXPORTS
from selfdistill.export import export
from selfdistill.grading import GRADERS, hygiene, make_grader
from selfdistill.grading.functions import complete_function
from selfdistill.grading.judged import read_pairwise, read_safety
from selfdistill.identity import model_identity
from selfdistill.models import check_model_files
from selfdistill.prompts import fill, load_template, rewriting_messages
from selfdistill.rows import RowFile, dump_line, parse_line, read_lines, write_lines
from selfdistill.sandbox import Ran
from selfdistill.tasks import demo, gsm8k, load_rows, openfunctions
from selfdistill.types import Completion, Example, Message, Messages, Rewrite, Verdict


@dataclass(frozen=True)
class Target:
    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    share: float = 1.0
    """How many inputs it is given beside the others; less for what takes long."""


@cache
def folder() -> Path:
    """A folder for the files that targets read, emptied by nobody but the system."""
    return Path(tempfile.mkdtemp(prefix="selfdistill-fuzz-"))


def written(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


# Graders

PIECES: dict[str, list[str]] = {
    "final_number": ["#### 12", "the answer is ", "\\boxed{", "}", "12", "1,234.50", "-", "$", "1/2", "\\frac{1}{2}",
                     "3 + 4 = 7", "%", ".", "5 1/2", "1e3", "1e999", "th", "=", "\n", "\\text{", "{,}", "½", "/0"],
    "final_number_paper": ["12", "18 9", "18\n9", "1,2", "-", ".", "3.0", ".5", "answer is "],
    "function_call": ["f(", ")", "a=1", "b='x'", ", ", "g.h(", "[", "]", "{", "}", '"', "'", "\\", "True", "null", "-1",
                      "1.0", "**k", "*a", "`", "```python\n", "```", "f(a=1)", "# ", "\n", "lambda x: x", ":=", "await "],
    "function_call_paper": ["f(", ")", "a=1", "b='x'", ", ", "f(a=1)", "\n", '"', "g.h()"],
    "python_code": ["```python\n", "```", "\n", "def f():\n    return 1\n", "x = '", "    ", "`", "```js\n", "# é\n", "(",
                    "lambda", "f'{x!r:{y}}'", "match x:\n case 1: pass\n", "\\", "```py\nx = 1\n```"],
    "python_asserts": ["```python\n", "```", "\n", "assert f() == 1\n", "def test_a():\n    assert 1\n", "(",
                       "if __name__ == '__main__':\n    assert 1\n", "def f():\n    return 1\n", "class A: pass\n"],
    "choice": ["(A)", "B", "B.", "C)", "answer is ", "Answer: ", "\\boxed{", "}", "A. Paris", "label:", "yes", "no", "I"],
    "json": ["{", "}", "[", "]", '"a"', ":", ",", "1", "1.0", "1e400", "-1e400", "NaN", "Infinity", "null", "true",
             "```json\n", "```", '"\\ud800"', '"\\u0000"', "[" * 2000, '{"a":1,"a":2}', "1" * 4400],
    "regex": ["Answer: ", "12", "x", "\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"],
    "exact": ["yes", "No", "ß", "SS"],
    "contains": ["yes", "No", "ß", "SS"],
    "refusal": ["I'm sorry", "I’m sorry, but ", "I cannot", "Sorry", "illegal", "the ", "x" * 30, "{{{", "<a>", "42"],
    "helpful": ["I'm sorry, but ", "I cannot help ", "As an AI, ", "However, I can ", '"', "“", ":\n", "the ", "\x1b[0m"],
    "none": ["x"],
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"regex": {"pattern": r"(?:Answer: )?(\w+)"}}
# These don't read the reference, so a reference need not pass.
UNREFERENCED = {"refusal", "helpful", "none"}
SURROUNDED = set(GRADERS) - {"regex"}  # a user's pattern may well look at the ends


def ran(source: str) -> Ran:
    """In place of the sandbox: whatever is valid Python passes."""
    try:
        compile(source.encode(), "program", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Ran(False, "raised SyntaxError", "")
    return Ran(True, "passed", "")


def example(reference: str, asked: str = "What is asked?", **extra: Any) -> Example:
    return Example.of((Message("user", asked),), reference, extra)


def sound(verdict: Verdict) -> None:
    assert verdict.outcome in ("pass", "fail", "unjudged"), verdict
    assert verdict.reason, verdict
    assert len(verdict.reason) < 150, verdict
    assert Verdict.from_json(parse_line(dump_line(verdict.to_json()))) == verdict


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
    reason = hygiene.check(example(reference), completion, Hygiene())
    assert reason is None or (reason and len(reason) < 60)
    if finish == "stop" and reference.strip():
        own = hygiene.check(example(reference), Completion("0" * 16, reference, "stop"), Hygiene())
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
    "type", "pattern", "patternProperties", "properties", "additionalProperties", "uniqueItems", "items", "enum", "$ref",
    "anyOf", "required", "minimum", "multipleOf", "const", "format", "$defs", "$schema", "not", "$id", "contains",
]  # fmt: skip

# Data

ROWS: dict[str, list[str]] = {
    "question_answer": ["question", "answer", "system"],
    "alpaca": ["instruction", "input", "output", "history"],
    "prompt_completion": ["prompt", "completion"],
    "messages": ["messages", "role", "content", "type", "text", "tool_calls"],
    "sharegpt": ["conversations", "from", "value"],
}
GOOD = [
    {"question": "1 + 1?", "answer": "2"},
    {"instruction": "Add", "input": "1 1", "output": "2", "history": [["a", "b"]]},
    {"prompt": "1 + 1?", "completion": "2"},
    {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]},
    {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
]


def conversations(path: Path, **config: Any) -> tuple[list[Messages], list[BadRow]]:
    bad: list[BadRow] = []
    source = DataConfig(path=str(path), on_bad_row="skip", **config)
    return [row.messages for row in read_conversations(source, bad.append)], bad


def check_rows(made: tuple[str, list[Any]]) -> None:
    """Any JSON, line by line: each is a conversation or a bad row with a reason, and all are counted."""
    form, rows = made
    path = written("rows.jsonl", b"".join(json_bytes(row) + b"\n" for row in rows))
    try:
        good, bad = conversations(path, format=form)
    except DataError:
        return
    assert len(good) + len(bad) == len(rows)
    for messages in good:
        assert messages[-1].role == "assistant"
        assert all(isinstance(message.content, str) for message in messages)
        json.dumps([message.to_json() for message in messages], ensure_ascii=False).encode()
    assert all(row.reason for row in bad)


def check_mixed_lines(lines: list[tuple[bool, str]]) -> None:
    """Good rows among lines of anything come back whole and in order, however many of the others there are."""
    texts = [plain(text).replace("\n", " ") for _, text in lines]
    wanted = [text for (good, _), text in zip(lines, texts, strict=True) if good and text.strip()]
    data = b""
    for (good, _), text in zip(lines, texts, strict=True):
        row = json.dumps({"question": text, "answer": text}, ensure_ascii=False) if good else text
        data += row.encode() + b"\n"
    path = written("mixed.jsonl", b'{"question": "q", "answer": "first"}\n' + data)
    found, _ = conversations(path)
    ours = [messages[1].content for messages in found if messages[0].content == messages[1].content]
    assert ours == wanted


def check_csv(rows: list[tuple[str, str]]) -> None:
    """What Python's csv wrote is what is read."""
    texts = [[plain(text).replace("\x00", "") for text in row] for row in rows]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["question", "answer"], *texts])
    path = written("rows.csv", file.getvalue().encode())
    wanted = [row for row in texts if all(text.strip() for text in row)]
    try:
        good, bad = conversations(path)
    except DataError:
        assert not wanted
        return
    assert [[message.content for message in messages] for messages in good] == wanted
    assert len(bad) == len(rows) - len(wanted)


@cache
def parquet() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder() / "made.parquet"
    pq.write_table(pa.table({"question": ["1 + 1?"] * 20, "answer": ["2", "é"] * 10, "n": list(range(20))}), path)
    return [path.read_bytes()]


def files() -> dict[str, list[bytes]]:
    lines = [b"".join(json_bytes(row) + b"\n" for row in [row, row, row]) for row in GOOD]
    return {
        "jsonl": lines,
        "json": [json_bytes(GOOD[:1] * 3), b"\xef\xbb\xbf" + json_bytes(GOOD[:1]), b" [ ] ", *lines[:1]],
        "csv": [b"question,answer\r\n1 + 1?,2\r\n", b'\xef\xbb\xbfquestion,answer\n"a\nb","c,""d"""\n', b"a;b\n1;2\n"],
        "txt": [*lines[:1], b"PAR1", b"\x93NUMPY"],
    }


def check_file(made: tuple[str, bytes]) -> None:
    suffix, data = made
    path = written(f"damaged.{suffix}", data)
    with suppress(DataError):
        good, bad = conversations(path)
        assert good or bad


def check_parquet(data: bytes) -> None:
    with suppress(DataError):
        conversations(written("damaged.parquet", data))


def check_own_rows(rows: list[Any]) -> None:
    """The forms that tasks read by themselves."""
    path = written("own.jsonl", b"".join(json_bytes(row) + b"\n" for row in rows))
    source = DataConfig(path=str(path), on_bad_row="skip")
    with suppress(DataError):
        list(load_rows(source, openfunctions._conversation, lambda bad: None))
    with suppress(DataError):
        list(gsm8k.load(source, lambda bad: None))


# Recipes and templates

RECIPE = {
    "model": "org/name", "data": {"path": "rows.jsonl", "n": 10}, "rewrite": {"grader": "final_number"},
    "arms": {"a": {"data": "rewrites"}}, "evaluate": {"tasks": ["gsm8k"]}, "seeds": [1, 2],
}  # fmt: skip
RECIPE_KEYS = [
    "model", "path", "data", "n", "heldout", "rewrite", "grader", "template", "sampling", "preset", "hygiene", "train", "lr",
    "arms", "evaluate", "tasks", "judge", "sweep", "shift", "seeds", "experiments", "name", "format", "columns", "server",
]  # fmt: skip
YAML_PIECES = [
    "model: demo\n", "data: x\n", "train:\n", "  lr: 1e-4\n", "arms:\n", "  a: {data: mix}\n", "- ", "? ", ": ", "&a ", "*a",
    "!!python/object/apply:os.system [id]\n", "!!binary x\n", "2001-99-99", "<<: *a\n", "[", "]", "{", "}", "|\n", ">\n",
    "%YAML 1.1\n", "---\n", "...\n", "0x", "0b", "1:2:3", "!!int x\n", "!!float x\n", "!!timestamp x\n", "'", '"', "#",
    "[" * 2000, "{a: " * 2000, "&a [*a]", "\\x", "9" * 5000, ".inf", "~",
]  # fmt: skip


def check_recipe_values(made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    changes, base = made
    with suppress(RecipeError):
        recipe = make_recipe({**base, **changes})
        assert make_recipe(yaml.safe_load(save_recipe(recipe))) == recipe, "another recipe once it was saved"


def check_recipe_text(text: str) -> None:
    with suppress(SelfDistillError):
        load_recipes(written("recipe.yaml", text.encode(errors="surrogatepass")))


def check_overrides(overrides: list[str]) -> None:
    with suppress(RecipeError):
        make_recipe(dict(RECIPE), overrides)


def check_template(made: tuple[str, str, str, str]) -> None:
    """Slots are filled in one pass: what a row holds is never read as a slot, and is in the prompt as it is."""
    suffix, text, asked, reference = made
    assert fill("{instruction}", {"instruction": asked}) == asked
    filled = fill("<{instruction}|{reference}>", {"instruction": asked, "reference": reference})
    assert filled == f"<{asked}|{reference}>"
    with suppress(RecipeError):
        template = load_template(str(written(f"template.{suffix}", text.encode(errors="surrogatepass"))))
        turn = next(m for m in rewriting_messages(template, example(reference, asked)) if m.role == "user")
        assert asked in turn.content
        assert reference in turn.content


# What others wrote: experiments, annotations, models, servers


def check_annotations(data: bytes) -> None:
    with suppress(DataError):
        rates = published_rates(written("annotations.json", data))
        assert rates.wins + rates.losses + rates.draws == rates.n > 0
        assert 0 <= rates.percent <= 100


def check_row_file(made: tuple[list[dict[str, Any]], bytes]) -> None:
    rows, noise = made
    path = written("completions.jsonl", noise)
    with suppress(SelfDistillError):
        list(read_lines(path))
    with suppress(SelfDistillError), RowFile(path) as file:
        file.append({"id": "f" * 16})
    write_lines(path, ({"id": f"{n:016x}", **row} for n, row in enumerate(rows)))
    with RowFile(path, reading=True) as file:
        for n, row in enumerate(rows):
            assert dump_line(file.get(f"{n:016x}") or {}) == dump_line({"id": f"{n:016x}", **row})


def check_export(made: list[tuple[str, str, str]]) -> None:
    """Each format is written as UTF-8 that JSON can be read from, whatever the texts hold; the text itself is in it."""
    where = folder() / "experiment"
    rows, chosen = {}, []
    for asked, reference, text in made:
        item = example(plain(reference) or "r", plain(asked) or "q")
        rows[item.id] = Rewrite(item, Completion(item.id, plain(text), "stop"), Verdict("pass", "same number"))
        chosen.append(
            {"messages": [*(m.to_json() for m in item.prompt), {"role": "assistant", "content": item.reference}]}
        )
    write_lines(where / "data" / "train.jsonl", ({**row, "extra": {}} for row in chosen))
    write_lines(where / "rewrite" / "rewrites.jsonl", (row.to_json() for row in rows.values()))
    for name in EXPORTS:
        path = export(where, name, folder() / "export")
        data = path.read_text(encoding="utf-8")
        found = json.loads(data) if path.suffix == ".json" else [json.loads(line) for line in data.split("\n") if line]
        assert len(found) == len(made)


MODEL_FILES = ["config.json", "adapter_config.json", "tokenizer_config.json", "model.safetensors", "pytorch_model.bin"]


def check_model_folder(made: tuple[str, bytes]) -> None:
    name, data = made
    where = folder() / "model"
    where.mkdir(exist_ok=True)
    for old in where.iterdir():
        old.unlink()
    (where / name).write_bytes(data)
    model = ModelConfig(path=str(where))
    model_identity(model)
    with suppress(ModelError):
        check_model_files(model)


@cache
def server(api: str) -> OpenAIBackend:
    return OpenAIBackend(ModelConfig(path="m", server=ServerConfig(url="http://localhost:1/v1", api=api)))  # type: ignore[arg-type]


REPLIES = [
    {"choices": [{"message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}], "usage": {}},
    {"choices": [{"text": "2", "finish_reason": "length"}], "usage": {"completion_tokens": 3}},
    {"error": {"message": "unsupported parameter: 'max_tokens'", "type": "x"}}, {"detail": [{"msg": "no"}]},
]  # fmt: skip
REPLY_KEYS = [
    "choices",
    "message",
    "content",
    "text",
    "finish_reason",
    "usage",
    "completion_tokens",
    "error",
    "refusal",
]


def check_reply(made: tuple[str, int, bytes]) -> None:
    api, status, data = made
    backend = server(api)
    response = httpx.Response(status, content=data)
    assert len(backend._endpoint.reason(response)) <= 310
    with suppress(RecipeError):
        backend._adapt({"seed": 1, "top_k": 5}, response)
    with suppress(FaultError):
        completion = backend._completion("0" * 16, response)
        assert completion.finish in ("stop", "length", "error")
        completion.text.encode()  # no half surrogate pair, which no tokenizer takes
        assert Completion.from_json(parse_line(dump_line(completion.to_json()))) == completion


def check_retry_after(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 300)


def check_address(url: str) -> None:
    with suppress(RecipeError):
        Endpoint(ServerConfig(url=url))


def check_shown(text: str) -> None:
    """What is shown holds no control code and nothing that turns text round, and what was plain is as it was."""
    shown = visible(text)
    assert not any(c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160)
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


TARGETS: Sequence[Target] = (
    *(grader(name) for name in GRADERS),
    Target("numbers of any script", NUMBERS, check_number),
    Target("judge's replies", st.tuples(*[mixed(["Verdict: A", "verdict: b", "tie", "\n", "**", "refused", "1. "])] * 2), check_judge),
    Target("function in an answer", mixed([*PIECES["python_code"], "def f(x):\n", "    return x * 2\n", "import os\n", "f = lambda x: x\n"]), check_function),
    Target("hygiene", st.tuples(*[mixed(["</s>", "reference answer", "I cannot help", "ab " * 20, "abc\n" * 8, "```"])] * 2, st.sampled_from(["stop", "stop", "length", "error"])), check_hygiene),
    Target("demo's graders", st.tuples(st.sampled_from(["lists", "benign", "tool", "code"]), mixed(["a, b", "soup", "f(a=1)", "f = lambda x: x * 2\n", "```\n", "def f(x):\n", "    return x ** 9 ** 9\n", ", "]), mixed(["r"])), check_demo),
    Target("user's pattern", st.tuples(mixed(["(a+)+$", "(", ")", "[", "]", "\\", "*", "+", "{1,9}", "(?P<a>", "(?i)", "|", "\\L<x>", "^", "$", "\\1", "(?R)", "a", "(.*)*", "{9999999}", "(?<="], 5), mixed(["a" * 30, "!", "b"])), check_pattern, 0.3),
    Target("user's schema", st.tuples(values(SCHEMA_KEYS), values(["a", "b"])), check_schema, 0.3),
    Target("grader's options", st.tuples(st.sampled_from(list(GRADERS)), st.dictionaries(st.sampled_from(["pattern", "schema", "labels", "ignore_case", "phrases", "run", "instruction", "x"]), values(["a"]), max_size=2)), check_options),
    Target("data: rows", st.sampled_from(list(ROWS)).flatmap(lambda form: st.tuples(st.just(form), st.lists(values(ROWS[form]), max_size=4))), check_rows),
    Target("data: lines", st.lists(st.tuples(st.booleans(), mixed(["{", "}", "[", '"', "1", "null", ",", "q"], 5)), max_size=6), check_mixed_lines),
    Target("data: csv", st.lists(st.tuples(*[mixed(['"', ",", "q", "'", ";"], 5)] * 2), max_size=5), check_csv),
    Target("data: damaged files", st.sampled_from(sorted(files())).flatmap(lambda kind: st.tuples(st.just(kind), damaged(files()[kind]))), check_file),
    Target("data: damaged parquet", st.deferred(lambda: damaged(parquet())), check_parquet, 0.3),
    Target("data: tasks' own rows", st.lists(values(["question", "answer", "function", "api_call", "description", "parameters", "properties", "required", "type", "model_answer"]), max_size=3), check_own_rows),
    Target("recipe: values", st.tuples(st.dictionaries(st.sampled_from(RECIPE_KEYS), values(RECIPE_KEYS), max_size=3), st.sampled_from([{}, RECIPE])), check_recipe_values),
    Target("recipe: text", mixed(YAML_PIECES), check_recipe_text),
    Target("recipe: overrides", st.lists(st.tuples(mixed([*RECIPE_KEYS, "."], 4), st.sampled_from(["=", "=", ""]), mixed(YAML_PIECES, 4)).map("".join), max_size=3), check_overrides),
    Target("templates", st.tuples(st.sampled_from(["txt", "yaml"]), *[mixed(["{instruction}", "{reference}", "user: ", "system: ", "{x}", "{{", "}}", "\\1", "{0}", "{instruction.__class__}", "%s", "$x", "\n"])] * 3), check_template),
    Target("annotations", st.one_of(values(["preference"]).map(json_bytes), st.lists(st.fixed_dictionaries({"preference": st.one_of(st.floats(0, 3), st.none(), st.integers(0, 3), st.booleans())}), max_size=4).map(json_bytes), damaged([b'[{"preference": 1.5}, {"preference": null}]'])), check_annotations),
    Target("rows of an experiment", st.tuples(st.lists(st.dictionaries(st.sampled_from(["text", "finish", "tokens"]), values(["a"]), max_size=3), max_size=3), damaged([b'{"id": "0123456789abcdef", "text": "a"}\n' * 3])), check_row_file, 0.3),
    Target("export", st.lists(st.tuples(*[mixed(["q", "{", '"', "=1+1"], 4)] * 3), min_size=1, max_size=2, unique_by=lambda t: (plain(t[0]) or "q", plain(t[1]) or "r")), check_export, 0.1),
    Target("model folders", st.tuples(st.sampled_from(MODEL_FILES), damaged([b"{}", b'{"model_type": "llama"}', b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])), check_model_folder, 0.3),
    Target("server's replies", st.tuples(st.sampled_from(["chat", "completions"]), st.sampled_from([200, 400, 422]), st.one_of(values(REPLY_KEYS).map(json_bytes), damaged(list(map(json_bytes, REPLIES))), st.sampled_from([b"", b"<html>", b"null", b"[" * 5000]))), check_reply),
    Target("Retry-After", mixed(["1", "Wed, 21 Oct 2015 07:28:00 GMT", "-", "e", ".", ":", ",", " ", "99999999999", "nan", "inf"], 5), check_retry_after),
    Target("server's address", mixed(["http://", "https://", "localhost", ":", "8000", "/v1", "@", "[", "]", "?", "key=1", "#", "..", "%"], 6), check_address),
    Target("terminal", mixed(["plain", "[bold]", "[/]", "\x9b31m", "\x1b]8;;http://x\x1b\\"]), check_shown),
)  # fmt: skip
