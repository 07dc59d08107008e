"""`init`: what it recognises, and that what it writes is a recipe."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command import Done

from selfdistill.demo import RECIPE
from selfdistill.errors import DataError, RecipeError
from selfdistill.generation.prompts import load_template
from selfdistill.grading import make_grader
from selfdistill.pipeline.new_recipe import write_recipe
from selfdistill.recipe import Recipe, load_recipe
from selfdistill.recipe.paths import located
from selfdistill.recipe.suites import suite_tasks


def rows(references: list[str]) -> list[dict[str, str]]:
    return [{"instruction": f"Do {i}.", "output": text} for i, text in enumerate(references)]


def init(folder: Path, data: list[Any], name: str = "d.jsonl", model: str = "demo") -> tuple[Recipe, list[str], str]:
    """The recipe, what `write_recipe` says, and its text."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    said = write_recipe(model, str(path), folder / "recipe.yaml", force=True)
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    return load_recipe(folder / "recipe.yaml"), said, text


CODE = "Here it is:\n```python\ndef f(x):\n    return x + {i}\n```\nThat's all."


@pytest.mark.parametrize(
    ("references", "grader", "template"),
    [
        ([f"2+{i} is {2 + i}\n#### {2 + i}" for i in range(30)], "final_number", "math"),
        ([f"So {i}.\nThe answer is ${i},000.50." for i in range(30)], "final_number", "math"),
        ([f"shop.order(item='tea', count={i})" for i in range(30)], "function_call", "call"),
        ([CODE.replace("{i}", str(i)) for i in range(30)], "python_code", "refer"),
        ([json.dumps({"name": "Ann", "age": i}) for i in range(30)], "json", "refer"),
        (["ABCD"[i % 4] for i in range(30)], "choice", "using"),
        (["(B)", "C.", "A) Paris"] * 10, "choice", "using"),
        (
            ["positive", "Negative.", "neutral"] * 10,
            {"name": "choice", "labels": ["Negative", "neutral", "positive"]},
            "using",
        ),
        (["yes", "no"] * 10, {"name": "choice", "labels": ["no", "yes"]}, "using"),
        ([f"A story about the number {i} and a whale." for i in range(30)], "facts", "own-words"),
        ([f"A {i} is a digit, which is a long thing to say." for i in range(30)], "facts", "own-words"),
        ([f"The answer is {i}" for i in range(20)] + ["I don't know."] * 10, "facts", "own-words"),
    ],
)
def test_the_grader_is_guessed_from_the_references(
    tmp_path: Path, references: list[str], grader: Any, template: str
) -> None:
    recipe, said, _ = init(tmp_path, rows(references), model="org/model")
    assert recipe.rewrite.grader == grader
    assert recipe.rewrite.template == template
    own, _, _ = init(tmp_path, rows(references), model="demo")
    assert own.rewrite.template in ("using", "refer", "math")  # the demo's seed was taught these three
    make_grader(grader)
    load_template(template)
    assert recipe.data is not None
    assert recipe.data.format == "alpaca"
    assert said[0] == f"data: alpaca, {len(references)} rows, {len(references) // 10} held out"


def test_references_without_facts_are_counted(tmp_path: Path) -> None:
    story = ["It was a fine day.", "We went to Rome in 1990."] * 10
    recipe, said, text = init(tmp_path, rows(story))
    assert recipe.rewrite.grader == "facts"
    assert said[2].startswith("10 of 20 references add no fact that can be compared")
    assert "write grader: {all_of: [facts, similar]}" in said[2]
    assert "and the embedding model that shift.embedding names" in said[2]
    assert "{all_of: [facts, similar]}" in text
    assert not any("add no fact" in line for line in init(tmp_path, rows(["We went to Rome."] * 20))[1])


def test_a_stray_row_does_not_hide_the_kind(tmp_path: Path) -> None:
    recipe, said, _ = init(tmp_path, rows([f"f(x={i})" for i in range(99)] + ["f(x=1)('twice')"]))
    assert recipe.rewrite.grader == "function_call"
    assert "99 of 100 references are one function call" in said[1]


def test_held_out_rows_and_tasks_follow_the_data(tmp_path: Path) -> None:
    probes = [entry["task"] for entry in suite_tasks("probes", "quick")]
    for count, heldout in ((3, 0), (50, 5), (2500, 200)):
        recipe, said, _ = init(tmp_path, rows(["word"] * count))
        assert recipe.data is not None
        assert recipe.data.heldout == heldout
        tasks = [entry.task for entry in recipe.evaluate.tasks]
        assert tasks[: bool(heldout)] == ["heldout"][: bool(heldout)]
        assert tasks[bool(heldout) :] in (probes, [name for name in probes if name != "probe-code"])  # needs a sandbox
        assert ("at least 2,000 rows" in said[0]) == (count > 2000)


def test_every_comment_can_be_uncommented(tmp_path: Path) -> None:
    """A setting that is commented out is one that the recipe takes."""
    _, _, text = init(tmp_path, rows(["word"] * 30))
    lines = text.splitlines()
    shown = [i for i, line in enumerate(lines) if line.lstrip().startswith("# ") and (":" in line or "- " in line)]
    tried = 0
    for i in shown:
        if lines[i].startswith("# ") or "Data comes from" in lines[i]:
            continue  # prose
        changed = [*lines[:i], lines[i].replace("# ", "", 1), *lines[i + 1 :]]
        (tmp_path / "changed.yaml").write_text("\n".join(changed), encoding="utf-8")
        assert load_recipe(tmp_path / "changed.yaml") != load_recipe(tmp_path / "recipe.yaml"), lines[i]
        tried += 1
    assert tried >= 10


@settings(max_examples=50, deadline=None)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
        lambda name: name not in (".", "..") and len(name.encode()) < 100
    ),
    model=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)
def test_any_name_is_valid_yaml(tmp_path_factory: pytest.TempPathFactory, name: str, model: str) -> None:
    folder = tmp_path_factory.mktemp("init")
    recipe, _, _ = init(folder, rows(["word"] * 10), f"{name}.jsonl", model)
    assert recipe.data is not None
    assert (recipe.model.path, recipe.data.path) == (as_typed(model), str(folder / f"{name}.jsonl"))


def as_typed(model: str) -> str:
    """A model as the command line means it: a path is absolute, another name stays as it is."""
    return str(located({"model": {"path": model}}, Path.cwd())["model"]["path"])


@pytest.mark.parametrize("model", ["~", "~/models", "./~", "./gone", ".", "models/a/b", "/", "~nobody"])
def test_a_model_is_the_one_that_the_command_line_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """`~` is the user's home, and a folder of that name is `./~`, wherever the recipe is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~" / "models").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "below"):
        folder.mkdir(exist_ok=True)
        assert init(folder, rows(["word"] * 10), model=model)[0].model.path == as_typed(model)
    assert as_typed("~") == str(Path.home())
    assert as_typed("./~") == str(tmp_path / "~")


@pytest.mark.parametrize(
    "name", ["yes.jsonl", "a: b.jsonl", "# c.jsonl", "'q\".jsonl", "- x.jsonl", "{a}.jsonl", "1e5"]
)
def test_names_that_yaml_reads_as_something_else_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(json.dumps(rows(["word"])), encoding="utf-8")
    write_recipe("null", name, Path("r.yaml"))
    recipe = load_recipe(Path("r.yaml"))
    assert recipe.data is not None
    assert (recipe.model.path, recipe.data.path) == ("null", str(tmp_path / name))


def test_a_recipe_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    init(tmp_path, rows(["word"] * 10))
    data, out = str(tmp_path / "d.jsonl"), tmp_path / "recipe.yaml"
    before = out.read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="is there already; name another file with --to"):
        write_recipe("other", data, out)
    assert out.read_text(encoding="utf-8") == before
    write_recipe("other", data, out, force=True)
    assert load_recipe(out).model.path == "other"


def test_columns_that_fit_no_format_are_left_to_the_user(tmp_path: Path) -> None:
    recipe, said, text = init(tmp_path, [{"Problem": f"{i}?", "Solution": "x"} for i in range(30)])
    assert "not recognised" in said[0]
    assert "has the columns Problem, Solution" in said[0]
    assert recipe.data is not None
    assert recipe.data.format == "auto"
    (line,) = (line for line in text.splitlines() if "# columns: {question: Problem, answer: Solution}" in line)
    assert len(line) < 160


def test_settings_of_the_data_are_used_and_written(tmp_path: Path, command: Callable[..., Done]) -> None:
    path, out = tmp_path / "d.jsonl", tmp_path / "r.yaml"
    path.write_text(
        "".join(f'{{"f": "Was ist {i}?", "a": "#### {i}", "k": "hm"}}\n' for i in range(30)), encoding="utf-8"
    )
    asked = ["init", "--model", "demo", "--data", path, "--to", out, "--force"]
    columns = "data.columns={question: f, answer: a, context: k}"
    done = command(*asked, columns, "data.heldout=7", "data.on_bad_row=skip")
    assert done.code == 0, done.said
    assert "data: question_answer, 30 rows, 7 held out" in done.said
    recipe, text = load_recipe(out), out.read_text(encoding="utf-8")
    assert recipe.data is not None
    assert (recipe.data.columns, recipe.data.format) == (
        {"question": "f", "answer": "a", "context": "k"},
        "question_answer",
    )
    assert (recipe.data.heldout, recipe.data.on_bad_row, recipe.rewrite.grader) == (7, "skip", "final_number")
    assert text.count("on_bad_row") == 1
    for setting, said in {
        "data.columns={question: F, answer: a}": "has no column 'F' for `question`; did you mean 'f'?",
        "data.colums={}": "unknown key `data.colums` (did you mean `data.columns`?)",
        "train.lr=1": "init takes settings of the data",
        "data.path=x": "leave out data.path",
    }.items():
        done = command(*asked, setting)
        assert done.code == 2
        assert said in " ".join(done.said.split())


def test_bad_rows_are_told(tmp_path: Path, command: Callable[..., Done]) -> None:
    bad = [{"instruction": "x"}, {"output": "y"}, "text", 3]
    recipe, said, text = init(tmp_path, [*rows(["word"] * 10), *bad])
    assert said[-6:] == [
        "4 rows can't be used:",
        "  d.jsonl line 11: `output` is missing",
        "  d.jsonl line 12: `instruction` is missing",
        "  d.jsonl line 13: is not an object with named fields",
        "  and 1 more",
        "A run stops at such rows. Fix the data; or uncomment `on_bad_row: skip` in recipe.yaml, so that a run leaves "
        "them out and lists them in data/bad_rows.jsonl.",
    ]
    assert recipe.data is not None
    assert recipe.data.on_bad_row == "stop"
    path, out = tmp_path / "recipe.yaml", tmp_path / "r.yaml"
    assert "4 rows can't be used" in command("check", "--no-probe", path).said
    (line,) = (line for line in text.splitlines() if "on_bad_row" in line)
    assert line.endswith("# 4 rows can't be used, and a run stops at them; uncomment this line to leave them out")
    path.write_text(text.replace(line, line.replace("# ", "", 1)))
    assert "4 rows can't be used and will be left out" in command("check", "--no-probe", path).said
    asked = ["init", "--model", "demo", "--data", tmp_path / "d.jsonl", "--to", out, "data.on_bad_row=skip"]
    assert "A run leaves these rows out, and lists them in data/bad_rows.jsonl." in command(*asked).said
    assert load_recipe(out).data == load_recipe(path).data


def test_repeated_rows_and_references_without_facts_are_counted_alike_by_init_and_check(
    tmp_path: Path, command: Callable[..., Done]
) -> None:
    story = [f"We met {at + 20} people." if at % 2 else "It was a fine day." for at in range(40)]
    data = [*rows(story), *rows(story)[:6]]
    recipe, said, _ = init(tmp_path, data)
    assert recipe.data is not None
    assert recipe.data.heldout == 4
    kept = "All are kept: a repeated response is rewritten once, and trained on as often as it occurs."
    assert f"6 of 46 responses repeat an earlier one exactly, with the same prompt. {kept}" in " ".join(said)
    (unchecked,) = (line for line in said if "add no fact that can be compared" in line)
    assert unchecked.startswith("23 of 46 references")
    done = command(
        "check",
        "--no-probe",
        tmp_path / "recipe.yaml",
        "data.heldout=0",
        "evaluate.tasks=[]",
        "evaluate.heldout_loss=false",
    )
    assert f"repeated 6 of 46 responses repeat an earlier one exactly, with the same prompt. {kept}" in done.said
    assert " ".join(unchecked.split()) in command("check", "--no-probe", tmp_path / "recipe.yaml").said


def test_the_demos_models_get_the_demos_rate(tmp_path: Path) -> None:
    demo = load_recipe(RECIPE).train
    assert init(tmp_path, rows(["word"] * 10))[0].train.lr == demo.lr == 8e-3
    recipe, _, text = init(tmp_path, rows(["word"] * 10), model="org/model")
    assert recipe.train.lr == 1e-4
    assert "train: {lr: 2.0e-5}}" in text


def test_a_file_that_can_not_be_read_writes_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no data file"):
        write_recipe("demo", str(tmp_path / "none.jsonl"), tmp_path / "r.yaml")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="it holds no rows"):
        write_recipe("demo", str(tmp_path / "empty.jsonl"), tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


def test_an_unreachable_hub_name_still_gets_a_recipe(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom selfdistill.pipeline.new_recipe import write_recipe\n"
        "print(write_recipe('org/model', 'no-such-org/no-such-data', Path('r.yaml')))"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "not recognised" in done.stdout
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.data is not None
    assert (recipe.data.path, recipe.data.format, recipe.data.heldout) == ("no-such-org/no-such-data", "auto", 200)


@pytest.mark.parametrize(
    ("name", "grader"),
    [
        ("sdft/gsm8k_train.json", "final_number"),
        ("gsm8k/train.jsonl", "final_number"),
        ("sdft/multiarith_test.json", "final_number"),
        ("sdft/openfunction_train.json", "function_call"),
        ("sdft/alpaca_train.json", "facts"),
        ("sdft/dolly_train.json", "facts"),
        ("sdft/lima_train.json", "facts"),
        ("mmlu/mmlu_dev.jsonl", "choice"),
    ],
)
def test_the_papers_files_get_their_graders(tmp_path: Path, real_data: Path, name: str, grader: str) -> None:
    write_recipe("demo", str(real_data / name), tmp_path / "r.yaml")
    assert load_recipe(tmp_path / "r.yaml").rewrite.grader == grader


def test_a_model_that_is_not_there_is_named_with_the_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text(json.dumps(rows(["word"])))
    Path("small").mkdir()
    Path("small/config.json").write_text("{}")
    done = command("init", "--model", "smal", "--data", "d.jsonl")
    assert done.code == 2
    choices = "choose demo, a hub name such as org/name, a GGUF file, or a model folder, such as small."
    assert f"There is no model smal; {choices}" in done.said
    assert not Path("recipe.yaml").exists()
    assert command("init", "--model", "org/name", "--data", "d.jsonl").code == 0
