"""What a user hands in: data of every kind, recipes, overrides, templates."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from inputs import Target, damaged, example, folder, json_bytes, mixed, plain, values, written

from selfdistill.data import BadRow, read_conversations
from selfdistill.errors import DataError, RecipeError, SelfDistillError
from selfdistill.generation.prompts import load_template, rewriting_messages
from selfdistill.models.slots import fill
from selfdistill.recipe import DataConfig, load_recipes, make_recipe, save_recipe
from selfdistill.tasks import gsm8k, load_rows, openfunctions
from selfdistill.types import Messages

ROWS: dict[str, list[str]] = {
    "question_answer": ["question", "answer", "system"],
    "alpaca": ["instruction", "input", "output", "history"],
    "prompt_completion": ["prompt", "completion"],
    "messages": ["messages", "role", "content", "type", "text", "tool_calls", "tool_call_id", "function", "tools"],
    "sharegpt": ["conversations", "from", "value", "tools"],
    "xlam": ["query", "tools", "answers", "name", "arguments"],
}
GOOD = [
    {"question": "1 + 1?", "answer": "2"},
    {"instruction": "Add", "input": "1 1", "output": "2", "history": [["a", "b"]]},
    {"prompt": "1 + 1?", "completion": "2"},
    {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]},
    {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
    {"query": "1 + 1?", "tools": '[{"name": "add"}]', "answers": '[{"name": "add", "arguments": {"a": 1}}]'},
]


def conversations(path: Path, **config: Any) -> tuple[list[Messages], list[BadRow]]:
    bad: list[BadRow] = []
    source = DataConfig(path=str(path), on_bad_row="skip", **config)
    return [row.messages for row in read_conversations(source, bad.append)], bad


def check_rows(made: tuple[str, list[Any]]) -> None:
    """Any JSON, line by line: each is a conversation or a bad row with a reason, and all are counted."""
    form, rows = made[0], [{}, *made[1]]  # a file that starts with [ is one array
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
        list(load_rows(source, lambda bad: None, convert=openfunctions._conversation))
    with suppress(DataError):
        list(gsm8k.load(source, lambda bad: None))


RECIPE = {
    "model": "org/name", "data": {"path": "rows.jsonl", "n": 10}, "rewrite": {"grader": "final_number"},
    "arms": {"a": {"data": "rewrites"}}, "evaluate": {"tasks": ["gsm8k"]}, "seeds": [1, 2],
}  # fmt: skip
RECIPE_KEYS = [
    "model", "path", "data", "n", "heldout", "rewrite", "grader", "template", "sampling", "preset", "filters",
    "train", "lr",
    "arms", "evaluate", "tasks", "judge", "sweep", "shift", "seeds", "experiments", "name", "format", "columns",
    "server",
]  # fmt: skip
YAML_PIECES = [
    "model: demo\n", "data: x\n", "train:\n", "  lr: 1e-4\n", "arms:\n", "  a: {data: mix}\n", "- ", "? ", ": ",
    "&a ", "*a",
    "!!python/object/apply:os.system [id]\n", "!!binary x\n", "2001-99-99", "<<: *a\n", "[", "]", "{", "}", "|\n",
    ">\n",
    "%YAML 1.1\n", "---\n", "...\n", "0x", "0b", "1:2:3", "!!int x\n", "!!float x\n", "!!timestamp x\n", "'", '"',
    "#",
    "[" * 300, "{a: " * 300, "&a [*a]", "\\x", "9" * 5000, ".inf", "~",
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


OWN_KEYS = [
    "question", "answer", "function", "api_call", "description", "parameters", "properties", "required", "type",
    "model_answer",
]  # fmt: skip
SLOTS = mixed(
    ["{instruction}", "{reference}", "user: ", "system: ", "{x}", "{{", "}}", "\\1", "{0}", "{instruction.__class__}",
     "%s", "$x", "\n"]
)  # fmt: skip
OVERRIDES = st.tuples(mixed([*RECIPE_KEYS, "."], 4), st.sampled_from(["=", "=", ""]), mixed(YAML_PIECES, 4))
LINES = st.tuples(st.booleans(), mixed(["{", "}", "[", '"', "1", "null", ",", "q"], 5))
CELL = mixed(['"', ",", "q", "'", ";"], 5)


def rows_of_a_format() -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.sampled_from(list(ROWS)).flatmap(
        lambda form: st.tuples(st.just(form), st.lists(values(ROWS[form]), max_size=4))
    )


def damaged_files() -> st.SearchStrategy[tuple[str, bytes]]:
    return st.sampled_from(sorted(files())).flatmap(lambda kind: st.tuples(st.just(kind), damaged(files()[kind])))


TARGETS = (
    Target("data: rows", rows_of_a_format(), check_rows),
    Target("data: lines", st.lists(LINES, max_size=6), check_mixed_lines),
    Target("data: csv", st.lists(st.tuples(CELL, CELL), max_size=5), check_csv),
    Target("data: damaged files", damaged_files(), check_file),
    Target("data: damaged parquet", st.deferred(lambda: damaged(parquet())), check_parquet, 0.3),
    Target("data: tasks' own rows", st.lists(values(OWN_KEYS), max_size=3), check_own_rows),
    Target(
        "recipe: values",
        st.tuples(
            st.dictionaries(st.sampled_from(RECIPE_KEYS), values(RECIPE_KEYS), max_size=3),
            st.sampled_from([{}, RECIPE]),
        ),
        check_recipe_values,
    ),
    Target("recipe: text", mixed(YAML_PIECES), check_recipe_text),
    Target("recipe: overrides", st.lists(OVERRIDES.map("".join), max_size=3), check_overrides),
    Target("templates", st.tuples(st.sampled_from(["txt", "yaml"]), SLOTS, SLOTS, SLOTS), check_template),
)
