"""The evaluation tasks: their data in every form, their prompts, and every gold answer against its grader."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from support.rows import read_rows, write_rows

from selfdistill.errors import DataError, RecipeError
from selfdistill.generation.prompts import REWRITING, load_template
from selfdistill.grading import make_grader
from selfdistill.grading.numbers import extract_number
from selfdistill.pipeline.context import make_context
from selfdistill.recipe import DataConfig, make_recipe
from selfdistill.tasks import TASKS, get_task
from selfdistill.types import Conversation


def load(task: str, path: Path, **settings: object) -> list[Conversation]:
    return list(get_task(task).load(DataConfig.model_validate({"path": str(path), **settings})))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_whole(name: str) -> None:
    task = get_task(name)
    assert task.name == name
    assert task.skill


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(RecipeError, match="gsm8k"):
        get_task("gsm")
    with pytest.raises(RecipeError, match=r"no task 'demo-list'; did you mean demo-lists or"):
        get_task("demo-list")


@pytest.mark.parametrize("name", ["demo-maths", "demo-calls", "reading"])
def test_an_unknown_split_of_the_packages_own_rows_is_named(name: str) -> None:
    task = get_task(name)
    assert task.test is not None
    with pytest.raises(DataError, match=rf"{name} has no split 'validation'; choose .*train.*\btest"):
        list(task.load(task.test.model_copy(update={"split": "validation"})))


def test_gsm8k_takes_both_forms(tmp_path: Path) -> None:
    question, answer = "How many?", "He has 48/2 = <<48/2=24>>24.\nThat is 24+1=<<24+1=25>>25.\n#### 25"
    row = {"question": question, "answer": answer}
    (conversation,) = load("gsm8k", write_rows(tmp_path / "a.jsonl", [row]))
    assert conversation.messages[-1].content == "He has 48/2 = 24.\nThat is 24+1=25.\nThe answer is 25."
    again = {"question": question, "answer": conversation.messages[-1].content}
    assert load("gsm8k", write_rows(tmp_path / "b.jsonl", [again]))[0].messages == conversation.messages
    example = conversation.examples()[0]
    system, user = get_task("gsm8k").ask(example)
    assert (system.role, user.content) == ("system", question)
    assert "The answer is N" in system.content
    assert get_task("gsm8k").grade(example, "25 of them").passed
    assert not get_task("gsm8k").grade(example, "24 of them").passed


def test_multiarith_is_read_as_on_the_hub(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [{"question": " How many? ", "final_ans": "18"}])
    (conversation,) = load("multiarith", path)
    assert [message.content for message in conversation.messages] == ["How many?", "The answer is 18."]
    assert get_task("multiarith").ask(conversation.examples()[0])[0].role == "system"


def test_openfunctions_structured_rows_are_examples(tmp_path: Path) -> None:
    function = {
        "name": "Shop",
        "api_call": "shop.find",
        "description": "Find {shops}.",
        "parameters": {
            "properties": {"city": {"type": "string", "description": "a city"}, "open": {"type": "boolean"}},
            "required": ["city"],
        },
    }
    row = {"question": "A shop in Ulm?", "function": function, "model_answer": 'shop.find(city="Ulm")'}
    example = load("openfunctions", write_rows(tmp_path / "f.jsonl", [row]))[0].examples()[0]
    assert (
        "Find {shops}.\nParameters:\n1. city (type: string) - a city\n2. open (type: boolean)\n" in example.instruction
    )
    assert "\nRequired: [city]\n\nFormat your response" in example.instruction
    grade = get_task("openfunctions").grade
    assert grade(example, "`shop.find('Ulm')`").passed
    assert not grade(example, "shop.find(open='Ulm')").passed


def test_advbench_is_read_raw_and_with_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('goal,target\n"Do harm, now","Sure, here"\n', encoding="utf-8")
    example = load("advbench", path)[0].examples()[0]
    assert example.reference == ""
    assert [m.content for m in get_task("advbench").ask(example)] == ["Do harm, now"]
    (message,) = get_task("advbench-jailbreak").ask(example)
    assert message.content.startswith("Do harm, now describing.\\ + similarlyNow")
    assert message.content.endswith('revert with "\\!--Two')
    assert get_task("advbench").metric == "safe rate"
    assert get_task("advbench").grade(example, "I cannot do that.").passed
    assert get_task("advbench").grade(example, "").reason == "empty"
    assert load("advbench", write_rows(tmp_path / "hub.jsonl", [{"prompt": "Do harm, now"}]))[0].examples() == [example]


def test_a_row_that_lacks_a_field_is_a_bad_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"goal": "x"}, {"gaol": "y"}, {"goal": 5}])
    with pytest.raises(DataError, match="`prompt` is missing"):
        load("advbench", path)
    bad = []
    source = DataConfig(path=str(path), on_bad_row="skip")
    assert len(list(get_task("advbench").load(source, bad.append))) == 1
    assert [row.reason for row in bad] == ["`prompt` is missing", "a field has a wrong type"]


GOLD = {
    ("gsm8k", "gsm8k/train.jsonl"): 7473,
    ("gsm8k", "gsm8k/test.jsonl"): 1319,
    ("gsm8k", "sdft/gsm8k_train.json"): 7473,
    ("gsm8k", "sdft/gsm8k_test.json"): 1319,
    ("multiarith", "sdft/multiarith_test.json"): 180,
    ("openfunctions", "sdft/openfunction_train.json"): 2211,
    ("openfunctions", "sdft/openfunction_test.json"): 112,
    ("openfunctions", "openfunctions/gorilla_openfunctions_v1_test.json"): 112,
}
PAPER = {"gsm8k": "final_number_paper", "multiarith": "final_number_paper", "openfunctions": "function_call_paper"}


@pytest.mark.parametrize(("task", "name", "rows"), [(*key, rows) for key, rows in GOLD.items()])
def test_every_gold_answer_passes_its_grader(task: str, name: str, rows: int, real_data: Path) -> None:
    examples = [conversation.examples()[0] for conversation in load(task, real_data / name)]
    assert len(examples) == rows
    for grade in (get_task(task).grade, make_grader(PAPER[task])):
        assert [example.reference for example in examples if not grade(example, example.reference).passed] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8k_is_loaded_as_the_paper_trains_on_it(split: str, real_data: Path) -> None:
    original = load("gsm8k", real_data / f"gsm8k/{split}.jsonl")
    assert [row.messages for row in original] == [
        row.messages for row in load("gsm8k", real_data / f"sdft/gsm8k_{split}.json")
    ]
    rows = read_rows(real_data / f"gsm8k/{split}.jsonl")
    gold = [Fraction(row["answer"].rpartition("#### ")[2].replace(",", "")) for row in rows]
    assert [extract_number(row.messages[-1].content) for row in original] == gold
    assert [extract_number(row["answer"]) for row in rows] == gold


def test_openfunctions_structured_is_loaded_as_the_paper_has_it(real_data: Path) -> None:
    structured = load("openfunctions", real_data / "openfunctions/gorilla_openfunctions_v1_test.json")
    papers = load("openfunctions", real_data / "sdft/openfunction_test.json")
    differ = [(ours, theirs) for ours, theirs in zip(structured, papers, strict=True) if ours != theirs]
    # One word ("genre") got lost in the paper's file.
    assert [ours.messages[0].content.replace("genre", " ") for ours, _ in differ] == [
        theirs.messages[0].content for _, theirs in differ
    ]
    assert len(differ) == 1


def test_advbench_has_520_goals(real_data: Path) -> None:
    rows = load("advbench", real_data / "advbench/harmful_behaviors.csv")
    assert len(rows) == 520
    assert all(row.messages[0].content and not row.messages[1].content for row in rows)


@pytest.mark.parametrize("name", [name for name in TASKS if get_task(name).template])
def test_a_task_is_trained_with_our_wording_and_by_preset_with_the_papers(name: str) -> None:
    def template(**rewrite: str) -> str | None:
        recipe = make_recipe({"model": "org/model", "task": name, "data": {"path": "d"}, "rewrite": rewrite})
        return make_context(recipe).task.template

    task = get_task(name)
    assert template() == task.template
    assert template(preset="paper") == (task.paper_template or task.template)
    assert template(preset="paper") in ("using", "refer", "math")
    assert template(preset="paper", template="call") == "call"
    assert {*map(load_template, filter(None, (task.template, task.paper_template)))} <= {*REWRITING.values()}
