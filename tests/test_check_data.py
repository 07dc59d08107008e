"""What `check`, `init`, `run` and `export` tell of the data: every row is read, and nothing is left out in silence."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill.data.markup import chat_markup, find_markup
from selfdistill.types import Conversation, Message

Command = Callable[..., Done]


def recipe(folder: Path, rows: list[dict[str, Any]], arms: dict[str, Any] | None = None, **data: Any) -> Path:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: dict[str, Any] = {"model": "demo", "data": {"path": str(path), **data}}
    values |= {"arms": {"seed": {"data": "none"}, **arms}} if arms else {}
    (folder / "r.yaml").write_text(json.dumps(values), encoding="utf-8")
    return folder / "r.yaml"


def init(folder: Path) -> list[object]:
    return ["init", "--model", "demo", "--data", folder / "d.jsonl", "--to", folder / "i.yaml", "--force"]


def qa(at: int, **more: Any) -> dict[str, Any]:
    return {"question": f"Question {at}?", "answer": f"answer {at}", **more}


def test_a_row_that_is_too_long_is_named_wherever_it_stands(tmp_path: Path, command: Command) -> None:
    rows = [qa(at) for at in range(300)] + [qa(300, answer="word " * 3000), qa(301), qa(302, answer="word " * 400)]
    path = recipe(tmp_path, rows)
    done = command("check", "--no-probe", path)
    assert done.code == 2
    assert "Training sequences of more than 2,048 tokens: 1, the longest is d.jsonl line 301 (" in done.said
    assert "'Question 300?'" in done.said
    said = "Shorten these rows (the model's context has 2,048 tokens), or set train.allow_unusable_rows=true"
    assert said in done.said
    advised = command("check", "--no-probe", path, "train.max_length=400").said
    assert "Raise train.max_length, shorten 1 row (the model's context has 2,048 tokens)" in advised
    assert "Rewriting prompts that leave no room for an answer in the model's context: 1." in done.said
    stopped = command("run", path, "rewrite.backend=fake", "--dir", tmp_path / "run")
    assert stopped.code == 2
    assert "1, the longest is d.jsonl line 301 (" in stopped.said
    assert not (tmp_path / "run" / "rewrite").exists()
    done = command("check", "--no-probe", path, "train.allow_unusable_rows=true")
    assert (done.code, "They are shortened, or left out" in done.said) == (0, True)
    assert "Training sequences" not in command("check", "--no-probe", path, "train.max_length=16000", "data.n=5").said


def test_columns_marks_and_reasoning_are_told(tmp_path: Path, command: Command) -> None:
    marked = {"role": "assistant", "content": "5", "train": False}
    thought = {"role": "assistant", "content": "4", "reasoning": "2 and 2."}
    turns = [{"role": "user", "content": "2+2?"}, marked, {"role": "user", "content": "Sure?"}, thought]
    path = recipe(tmp_path, [{"messages": turns, "id": at} for at in range(2)])
    for done in (command("check", "--no-probe", path), command(*init(tmp_path))):
        assert done.code == 0
        assert "not trained on: id (2 of 2 rows)" in done.said
        assert "Context only because of their marks: 2 assistant turns" in done.said
        assert "2 assistant turns held reasoning, which was left out" in done.said
    assert "2 to train on with 2 responses" in command("check", "--no-probe", path).said


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "q", "answer": "a"}, "{context: note}"),
        ({"prompt": "q", "completion": "a"}, "{context: note}"),
        ({"instruction": "q", "output": "a"}, "{input: note}"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "{system: note}"),
    ],
)
def test_the_setting_that_check_names_takes_the_column_in(
    tmp_path: Path, command: Command, row: dict[str, Any], line: str
) -> None:
    path = recipe(tmp_path, [{**row, "note": "A hint."}])
    assert (
        f"note (1 of 1 rows); to read a column, name it, as in data.columns={line}"
        in command("check", "--no-probe", path).said
    )
    done = command("check", "--no-probe", path, f"data.columns={line}")
    assert (done.code, "unused" in done.said) == (0, False)
    assert "A hint." in done.said


def test_skipped_rows_are_counted(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [*(qa(at) for at in range(250)), {"question": "no answer"}], on_bad_row="skip")
    done = command("check", "--no-probe", path)
    assert done.code == 0
    assert "1 row can't be used and will be left out, the first is d.jsonl line 251: `answer` is missing" in done.said
    assert "d.jsonl line 251: `answer` is missing" in command("check", "--no-probe", path, "data.on_bad_row=stop").said


def test_replayed_rows_are_looked_at_too(tmp_path: Path, command: Command) -> None:
    other = tmp_path / "other.jsonl"
    rows = [qa(1, hint="one"), {"question": "q", "answer": "a", "images": ["x.png"]}]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arms = {"mixed": {"data": "original", "replay": {"path": str(other), "share": 0.1}}}
    path = recipe(tmp_path, [qa(at) for at in range(10)], arms)
    assert "other.jsonl line 2: `images` is filled" in command("check", "--no-probe", path).said
    done = command("check", "--no-probe", path, "arms.mixed.replay.on_bad_row=skip")
    assert done.code == 0
    assert "Rows that mixed replays: 1 row can't be used" in done.said
    assert "Rows that mixed replays: Not shown to the model" in done.said
    assert "as in arms.mixed.replay.columns={context: hint}" in done.said
    settings = "arms.mixed.replay.on_bad_row=skip", "arms.mixed.replay.columns={context: hint}"
    assert "Not shown" not in command("check", "--no-probe", path, *settings).said
    tasks = f"evaluate.tasks=[{{task: heldout, path: {other}, on_bad_row: skip}}]"
    done = command("check", "--no-probe", path, "arms.mixed.replay.on_bad_row=skip", "rewrite.grader=exact", tasks)
    assert "Rows that mixed replays: 1 of them ask an item of heldout, so its score may be too high" in done.said
    long = json.dumps(qa(2, answer="word " * 3000)) + "\n"
    other.write_text(long, encoding="utf-8")
    done = command("check", "--no-probe", path)
    assert done.code == 2
    said = f"Training sequences of more than 2,048 tokens: 1, the longest is {other.name} line 1 ("
    assert f"Rows that mixed replays: {said}" in done.said


def test_items_are_looked_at_too(tmp_path: Path, command: Command) -> None:
    items = tmp_path / "items.jsonl"
    rows = [qa(1, hint="Think."), qa(2), {"question": "no answer"}]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = recipe(tmp_path, [qa(at) for at in range(10, 14)])
    own = f"evaluate.tasks=[{{task: heldout, path: {items}, on_bad_row: skip}}]"
    done = command("check", "--no-probe", path, "rewrite.grader=exact", own)
    assert done.code == 0, done.said
    assert "heldout: 1 row couldn't be used as items, the first is items.jsonl line 3: `answer` is" in done.said
    assert "heldout: not shown to the model and not trained on: hint (1 of 2 rows)" in done.said
    assert "as in data.columns={context: hint}" in done.said


@pytest.mark.parametrize(
    ("key", "override"),
    [
        ("data.format", "data.format=foo"),
        ("arms.mixed.replay.format", "arms.mixed.replay.format=foo"),
        ("evaluate.tasks.format", "evaluate.tasks=[{task: heldout, path: items.jsonl, format: foo}]"),
    ],
)
def test_an_unknown_format_is_named_before_anything_runs(
    tmp_path: Path, command: Command, key: str, override: str
) -> None:
    arms = {"mixed": {"data": "original", "replay": {"path": "more.jsonl", "share": 0.1}}}
    path = recipe(tmp_path, [qa(at) for at in range(3)], arms)
    for done in (
        command("check", "--no-probe", path, override),
        command("run", path, override, "--dir", tmp_path / "run"),
    ):
        assert done.code != 0
        assert f"`{key}`: there is no data format 'foo'; choose one of auto, alpaca, prompt_completion" in done.said
    assert not (tmp_path / "run" / "data").exists()


def test_prompts_with_chat_markup_are_told(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(1), {"question": "<|im_start|>user\nName a bird.<|im_end|>", "answer": "Wren"}])
    for done in (command("check", "--no-probe", path), command(*init(tmp_path))):
        assert "Chat markup in the prompts or responses of 1 row, " in done.said
        assert "<|im_start|> in '<|im_start|>user\\nName a bird.<|im_end|>'" in done.said
        assert "take the markup out of the data" in done.said


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Wren</s>", True),
        ("Wren<|im_end|>\n", True),
        ("Wren<end_of_turn>", True),
        ("The tag </s> ends a strike.", False),
        ("<s>Wren</s>.", False),
    ],
)
def test_a_response_that_ends_in_markup_is_found(answer: str, found: bool) -> None:
    row = Conversation((Message("user", "Name a bird."), Message("assistant", answer)))
    assert (chat_markup(row) is not None) == found


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "<s>[INST] Hi [/INST]",
        "<<SYS>>\nBe kind.\n<</SYS>>\n\nHi",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
        "<start_of_turn>user\nHi<end_of_turn>",
        "<|user|>\nHi<|end|>\n<|assistant|>",
        "<｜User｜>Hi<｜Assistant｜>",
        "<|start|>user<|message|>Hi",
        "Below is an instruction.\n\n### Instruction:\nHi\n\n### Response:\n",
        "### Human: Hi\n### Assistant:",
        "Human: Hi\n\nAssistant:",
        "A chat.\nUSER: Hi ASSISTANT:",
        "<s> Hi",
    ],
)
def test_markup_of_known_templates_is_found(text: str) -> None:
    assert find_markup(text)


@pytest.mark.parametrize(
    "text",
    [
        "Is a <b>bold</b> word an [INSTRUMENT]?",
        "What does the <s> tag do in HTML?",
        "### Instruction:\nSay hi.",
        "The user: a person. An assistant helps.",
        "List<|>s: what are they?",
        "Q: What is 2+2?\nA:",
    ],
)
def test_other_text_is_not_taken_for_markup(text: str) -> None:
    assert find_markup(text) is None


def test_a_rewrite_command_tells_what_was_left_out(
    tmp_path: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*(qa(at) for at in range(4)), {"question": "no answer"}]
    path = recipe(tmp_path, rows, on_bad_row="skip")
    done = command(
        "rewrite", path, "rewrite.backend=fake", "rewrite.min_accepted=0", "gap=false", "--dir", tmp_path / "run"
    )
    assert done.code == 0, done.said
    assert f"1 row of the data couldn't be used; they are in {tmp_path / 'run/data/bad_rows.jsonl'}" in caplog.text
    exported = command("export", tmp_path / "run", "--to", "jsonl")
    assert "1 row of the data couldn't be used" in exported.said
    assert re.search(r"Wrote 4 rows \(.*\): ", exported.said)


def test_tasks_that_make_or_read_rows_in_their_own_way_are_checked_too(tmp_path: Path, command: Command) -> None:
    """A column that only the grader reads is not unused, and rows that a task makes are in no file."""
    (tmp_path / "r.yaml").write_text(json.dumps({"model": "demo", "task": "reading", "data": {"n": 20}}))
    done = command("check", "--no-probe", tmp_path / "r.yaml")
    assert (done.code, "unused" in done.said) == (0, False)
    done = command("check", "--no-probe", tmp_path / "r.yaml", "task=demo-tool")
    assert (done.code, "unused" in done.said) == (0, False)
    assert (
        "not trained on: answer (20 of 20 rows)"
        in command("check", "--no-probe", tmp_path / "r.yaml", "task=demo-maths").said
    )


def test_the_heldout_prompt_is_that_of_a_heldout_row(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at) for at in range(40)], heldout=1)
    shown = (
        command("check", "--no-probe", path, "evaluate.tasks=[heldout]").out.partition("\nWhat")[0].split("Prompt: ")
    )
    asked = {part.splitlines()[0]: set(re.findall(r"Question \d+", part)) for part in shown[1:]}
    assert command(
        "run", path, "rewrite.backend=fake", "gap=false", "--dir", tmp_path / "run", "arms={seed: {data: none}}"
    )
    held = json.loads((tmp_path / "run" / "data" / "heldout.jsonl").read_text())
    assert asked["evaluation of heldout"] == {held["messages"][0]["content"].removesuffix("?")}
    assert asked["rewriting"] != asked["evaluation of heldout"]


def test_a_file_for_a_task_that_makes_its_rows_is_refused(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at) for at in range(4)])
    done = command("check", "--no-probe", path, "task=demo-maths")
    assert done.code == 2
    assert "d.jsonl: the package makes the rows of demo-maths itself. Write `path: demo-maths` for them" in done.said


def test_references_without_facts_are_counted_and_not_compared(tmp_path: Path, command: Command) -> None:
    rows = [qa(at, answer="It was a fine day." if at % 2 else "We went to Rome in 1990.") for at in range(60)]
    path = recipe(tmp_path, rows, heldout=20)
    done = command("check", "--no-probe", path, "rewrite.grader=facts")
    assert re.search(r"\d+ of 60 references add no fact that can be compared", done.said)
    assert re.search(r" heldout \(the others of its 20 add no fact to compare\)\n", done.out)
    assert "  not checked  nothing to compare in the reference" in done.out
    few = r"heldout: \d+ items to compare can show only a change of \d\d points or more; the data has \d+ rows, so"
    assert re.search(few, done.said)
    done = command("check", "--no-probe", path, "rewrite.grader=none")
    assert "add no fact" not in done.said
    assert re.search(r" 20 +\d+\.\d  heldout\n", done.out)
    unread = command("check", "--no-probe", path, "evaluate.tasks=[heldout, {task: gsm8k, n: 500}, ifeval]")
    assert re.search(r" 500 +\d+\.\d  gsm8k\n", unread.out), "its n is known, although its items can't be read"
    assert re.search(r" \? +\?  ifeval \(lm-eval counts the items when it asks them\)\n", unread.out)


def test_the_prompt_that_is_shown_is_one_with_the_optional_fields(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at, context="A long hint." if at == 7 else None) for at in range(20)])
    assert "Question 7?\nA long hint." in command("check", "--no-probe", path).out


def test_one_prompt_of_each_kind_is_shown_and_the_others_are_counted(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at) for at in range(20)], heldout=5)
    asked = ["check", "--no-probe", path, "evaluate.tasks=[demo-lists, heldout, demo-tool, demo-code]"]
    done, kinds = command(*asked), ["rewriting", "training, with what is trained in ⟦⟧"]
    shown = [*kinds, "evaluation of demo-lists", "evaluation of heldout"]
    assert re.findall(r"^Prompt: (.*)$", done.out, re.M) == shown
    assert "Not shown: the prompts of 2 more tasks; add --prompts to see them." in done.out
    every = [*shown, "evaluation of demo-tool", "evaluation of demo-code"]
    done = command(*asked, "--prompts")
    assert (re.findall(r"^Prompt: (.*)$", done.out, re.M), "Not shown:" in done.out) == (every, False)
    (document,) = json.loads(command(*asked, "--json").out)["experiments"]
    assert [prompt["kind"] for prompt in document["prompts"]] == every


def test_unreadable_data_stands_below_no_prompts(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at) for at in range(3)])
    asked = ["check", "--no-probe", path, "evaluate.tasks=[demo-lists]"]
    assert "Prompt: evaluation of demo-lists" in command(*asked).said
    done = command(*asked, "data.columns={context: hint}")
    assert (done.code, "Prompt:" in done.said) == (2, False)
    assert "has no column 'hint' for `context`" in done.said


def test_a_recipe_that_compares_nothing_is_warned_of(tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, [qa(at) for at in range(3)])
    assert "Nothing will be compared, as no task is evaluated" in command("check", "--no-probe", path).said
