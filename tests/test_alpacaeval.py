"""AlpacaEval: its rows, the published win rates, and files that alpaca_eval can judge."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.data.annotations import WinRate, published_rates, write_outputs
from selfdistill.errors import DataError
from selfdistill.grading.judged import length_controlled
from selfdistill.measure.judge import graded
from selfdistill.measure.scores import answer, summarise
from selfdistill.recipe import DataConfig
from selfdistill.store.rows import RowFile
from selfdistill.tasks import get_task
from selfdistill.types import Completion, Example, Message

TASK = get_task("alpacaeval")
ROW = {"dataset": "koala", "instruction": "Name a fruit ", "output": "An apple.", "generator": "text_davinci_003"}


def items(path: Path) -> list[Example]:
    return [conversation.examples()[-1] for conversation in TASK.load(DataConfig(path=str(path)))]


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_row_is_an_instruction_and_the_reference_answer(tmp_path: Path) -> None:
    (item,) = items(written(tmp_path / "reference.json", [ROW]))
    assert TASK.ask(item) == (Message("user", "Name a fruit "),)
    assert (item.reference, item.extra) == ("An apple.", {"dataset": "koala"})


def test_rows_that_lack_a_field_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`output` is missing"):
        items(written(tmp_path / "a.json", [ROW, {"instruction": "Name a fruit"}]))
    with pytest.raises(DataError, match="wrong type"):
        items(written(tmp_path / "b.json", [{**ROW, "output": None}]))


def test_the_comparison_with_the_seed_grades_the_same_answers() -> None:
    against = get_task("alpacaeval-vs-seed")
    assert against.answers_of == TASK.name
    assert against.test == TASK.test
    assert against.judge is not None
    assert TASK.judge is not None
    assert (against.judge.against, TASK.judge.against) == ("seed", "reference")
    assert against.metric != TASK.metric


def test_without_the_hub_the_way_out_is_told() -> None:
    assert TASK.test is not None
    with pytest.raises(DataError, match=r"alpaca_eval\.json of the hub dataset .* give the task a `path`"):
        list(TASK.load(DataConfig(path="no-such/alpaca_eval-of-anyone", config="alpaca_eval")))


def test_both_local_forms_hold_the_same_805_items(real_data: Path) -> None:
    ours = items(real_data / "sdft" / "alpaca_eval.json")
    published = items(real_data / "alpaca_eval" / "text_davinci_003_reference.json")
    assert len(ours) == 805
    assert [item.id for item in ours] == [item.id for item in published]


def test_published_win_rates_are_reproduced(real_data: Path) -> None:
    folder = real_data / "alpaca_eval"
    llama = published_rates(folder / "llama-2-7b-chat-hf_alpaca_eval_gpt4_annotations.json")
    assert llama.percent == pytest.approx(71.36645962732919, abs=1e-9)
    assert llama.standard_error == pytest.approx(1.593038654706019, abs=1e-9)
    assert (llama.wins, llama.losses, llama.draws, llama.n, llama.unjudged) == (574, 230, 1, 805, 0)
    alpaca = published_rates(folder / "alpaca-7b_alpaca_eval_gpt4_annotations.json")
    assert alpaca.percent == pytest.approx(26.459627329192546, abs=1e-9)
    assert alpaca.standard_error == pytest.approx(1.535711469748, abs=1e-9)
    assert (alpaca.wins, alpaca.losses, alpaca.draws, alpaca.n) == (205, 584, 16, 805)
    vicuna = published_rates(folder / "vicuna-7b_weighted_alpaca_eval_gpt4_turbo_annotations.json")
    assert vicuna.percent == pytest.approx(4.16261116226087, abs=1e-9)
    assert vicuna.standard_error == pytest.approx(0.6135107768217068, abs=1e-9)
    assert (vicuna.wins, vicuna.losses, vicuna.draws, vicuna.n) == (28, 775, 2, 805)


def test_length_control_on_published_comparisons_is_what_pairs_of_one_length_show(real_data: Path) -> None:
    path = real_data / "alpaca_eval" / "alpaca-7b_alpaca_eval_gpt4_annotations.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    values = [0.5 if row["preference"] == 0 else row["preference"] - 1 for row in rows]
    differences = [len(row["output_2"]) - len(row["output_1"]) for row in rows]
    near = [value for value, difference in zip(values, differences, strict=True) if abs(difference) < 50]
    controlled = length_controlled(values, differences)
    assert len(near) > 200
    assert controlled == pytest.approx(sum(near) / len(near), abs=0.05)
    assert controlled == pytest.approx(0.2629, abs=0.02), "the leaderboard's, which also knows how hard an item is"


def rates(tmp_path: Path, preferences: list[Any]) -> WinRate:
    return published_rates(written(tmp_path / "annotations.json", [{"preference": value} for value in preferences]))


def test_draws_are_half_a_win_and_missing_judgements_are_counted_apart(tmp_path: Path) -> None:
    assert rates(tmp_path, [1, 2, 0, 1.5, None, math.nan]) == WinRate(
        percent=50.0, standard_error=pytest.approx(100 * math.sqrt(1 / 24)), wins=1, losses=1, draws=2, n=4, unjudged=2
    )
    one = rates(tmp_path, [2])
    assert (one.percent, one.n) == (100.0, 1)
    assert math.isnan(one.standard_error)


@given(st.lists(st.one_of(st.sampled_from([0, 1, 2, None]), st.floats(1, 2)), min_size=1))
def test_every_comparison_is_in_one_place(tmp_path_factory: pytest.TempPathFactory, preferences: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("annotations")
    if all(value is None for value in preferences):
        with pytest.raises(DataError, match="no judged comparison"):
            rates(folder, preferences)
        return
    found = rates(folder, preferences)
    assert found.wins + found.losses + found.draws == found.n == len(preferences) - found.unjudged
    assert 0 <= found.percent <= 100
    weighted = rates(folder, [3 - value if value else value for value in preferences])
    assert found.percent + weighted.percent == pytest.approx(100)


@pytest.mark.parametrize("bad", [3, -1, 0.5, "2", True, [], {}, math.inf])
def test_a_preference_that_is_none_names_its_row(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(DataError, match=r"annotations\.json index 2: `preference` is "):
        rates(tmp_path, [1, 2, bad])


def test_a_file_that_is_no_annotations_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="index 1: `preference` is missing"):
        published_rates(written(tmp_path / "a.json", [{"preference": 1}, {"instruction": "x"}]))
    with pytest.raises(DataError, match="index 0"):
        published_rates(written(tmp_path / "b.json", ["x"]))
    with pytest.raises(DataError, match="not a list"):
        published_rates(written(tmp_path / "c.json", {"preference": 1}))
    with pytest.raises(DataError, match="can't be read"):
        published_rates(tmp_path / "nowhere.json")
    (tmp_path / "d.json").write_text('[{"preference": 1}, {"pref', encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        published_rates(tmp_path / "d.json")
    (tmp_path / "e.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not JSON"):
        published_rates(tmp_path / "e.json")


def test_outputs_have_alpaca_evals_form_and_leave_out_what_failed(tmp_path: Path) -> None:
    rows = [{**ROW, "instruction": f"Name {n} fruits"} for n in range(3)]
    del rows[1]["dataset"]
    asked = items(written(tmp_path / "reference.json", rows))
    with RowFile(tmp_path / "answers.jsonl") as answers:
        answers.append(Completion(asked[1].id, "Pear\0", "length", 2).to_json())
        answers.append(Completion(asked[0].id, "", "error", error="out of memory").to_json())
    with RowFile(tmp_path / "answers.jsonl", reading=True) as answers:
        assert write_outputs(tmp_path / "outputs.json", asked, answers, "sdft") == (1, 2)
    assert json.loads((tmp_path / "outputs.json").read_text(encoding="utf-8")) == [
        {"dataset": "alpaca_eval", "instruction": "Name 1 fruits", "output": "Pear\0", "generator": "sdft"}
    ]


def test_published_outputs_come_out_as_they_went_in(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "alpaca_eval"
    asked = items(folder / "text_davinci_003_reference.json")
    published = json.loads((folder / "llama-2-7b-chat-hf_outputs.json").read_text(encoding="utf-8"))
    texts = {row["instruction"]: row["output"] for row in published}
    with RowFile(tmp_path / "answers.jsonl") as rows:
        for item in asked:
            rows.append(Completion(item.id, texts[item.instruction], "stop", 1).to_json())
    with RowFile(tmp_path / "answers.jsonl", reading=True) as rows:
        assert write_outputs(tmp_path / "outputs.json", asked, rows, "llama-2-7b-chat-hf") == (805, 0)
    assert json.loads((tmp_path / "outputs.json").read_text(encoding="utf-8")) == published


def test_the_whole_way_with_the_fake_backend(tmp_path: Path) -> None:
    from selfdistill.backends import open_backend
    from selfdistill.generation.resume import LazyBackend
    from selfdistill.measure.judge import judge
    from selfdistill.recipe import ModelConfig, Sampling

    asked = items(written(tmp_path / "r.json", [{**ROW, "instruction": f"Name {n} fruits"} for n in range(40)]))
    model, sampling = ModelConfig(path="nowhere"), Sampling()
    with LazyBackend(lambda: open_backend("fake", model)) as backend:
        with RowFile(tmp_path / "answers.jsonl") as rows:
            answer(TASK, asked, backend, sampling, rows, lambda *_: None)
        with RowFile(tmp_path / "answers.jsonl", reading=True) as answers:
            with RowFile(tmp_path / "replies.jsonl") as rows:
                judge(TASK, asked, answers, None, backend, sampling, rows, "fake", lambda *_: None)
            with RowFile(tmp_path / "replies.jsonl", reading=True) as rows:
                found = list(graded(TASK, asked, answers, None, rows, "fake"))
    score = summarise(TASK, [found])
    assert score.n == 40
    assert score.tied > 20, "the fake judge repeats the last line of the question"
    assert score.unjudged > 0
    assert score.errors > 0
    assert score.value == 0.5
