"""Rewrites that were kept without a check of their content are never called accepted; the judge decides on the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill.errors import RecipeError
from selfdistill.pipeline import rewrite
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import make_recipe
from selfdistill.reports import acceptance_lines
from selfdistill.reports.kept import doubt, kept_sentence
from selfdistill.reports.rewrites import browser_page, survey
from selfdistill.store.experiment import Experiment


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=2048)


def recipe_of(model: Path, folder: Path, grader: Any, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(write_rows(folder / "rows.jsonl", sum_rows(8)))},
        "rewrite": {"backend": "fake", "grader": grader, "filters": {"min_length_ratio": None}, "min_accepted": 0},
        "gap": False,
        **changes,
    }


def test_without_a_grader_rewrites_are_kept_unchecked(model: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    counts = rewrite(Experiment(where, make_recipe(recipe_of(model, tmp_path, "none"))))
    assert counts["accepted"] == 0
    assert counts["unchecked"] == counts["rate"] * counts["rows"] > 0
    assert acceptance_lines(counts).startswith(f"Rewrites kept, content not checked: {counts['unchecked']} of 8")
    assert "accepted" not in acceptance_lines(counts)
    found = survey(where)
    assert found is not None
    assert found.acceptance() == {key: counts[key] for key in found.acceptance()}
    page = browser_page(where, "run", found)
    assert f"<h1>{counts['unchecked']} of 8 rewrites kept, content not checked</h1>" in page
    assert '"source":"unchecked"' in page.replace('": "', '":"')


def counts(accepted: int, unchecked: int, rows: int = 400) -> dict[str, Any]:
    return {"rows": rows, "accepted": accepted, "unchecked": unchecked, "reasons": {"empty": rows - accepted}}


def test_accepted_and_unchecked_rewrites_are_counted_apart() -> None:
    assert kept_sentence(counts(363, 0)) == "363 of 400 rewrites were accepted (90.8 %)"
    assert kept_sentence(counts(0, 363)) == "363 of 400 rewrites were kept, content not checked (90.8 %)"
    both = "100 of 400 rewrites were accepted (25.0 %); 50 were kept, content not checked (12.5 %)"
    assert kept_sentence(counts(100, 50)) == both
    assert kept_sentence({"rows": 4, "accepted": 0, "reasons": {}}) == "0 of 4 rewrites were accepted (0.0 %)"


def test_few_rewrites_are_doubt() -> None:
    for rewritten, share, rest in ((44, "11.0 %", "89.0 %"), (100, "25.0 %", "75.0 %"), (200, "50.0 %", "50.0 %")):
        said = doubt(counts(rewritten, 0))
        assert said is not None
        assert said.startswith(f"Only {share} of the rows that SDFT trains on are rewrites; the other {rest} are the")
        assert said in acceptance_lines(counts(rewritten, 0))
    assert doubt(counts(201, 0)) is None
    assert doubt(counts(120, 120)) is None
    assert doubt(counts(120, 121)) == (
        "The content of 121 of the 241 rewrites that are trained on was not checked: read some of them before you "
        "trust the arm."
    )


def test_the_judge_decides_on_the_rewrites_that_pass_and_is_asked_once(model: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    values = recipe_of(model, tmp_path, {"all_of": ["final_number", {"name": "judge", "threshold": 1e-9}]})
    values["judge"] = {"model": {"path": str(model), "dtype": "float32"}}
    lenient = rewrite(Experiment(where, make_recipe(values)))
    replies = read_rows(where / "rewrite" / "judged.jsonl")
    assert lenient["accepted"] > 0, (lenient["reasons"], replies[:2])
    assert lenient["unchecked"] == 0
    assert len(replies) == 4 * lenient["accepted"], "two words in two orders"
    values["rewrite"]["grader"]["all_of"][1]["threshold"] = 1 - 1e-9

    strict = rewrite(Experiment(where, make_recipe(values)))
    assert strict["accepted"] == 0
    assert strict["reasons"]["the judge finds other content"] == lenient["accepted"]
    assert read_rows(where / "rewrite" / "judged.jsonl") == replies
    kept = next(
        row for row in read_rows(where / "rewrite" / "rewrites.jsonl") if row["grade"]["found"].startswith("yes")
    )
    assert kept["source"] == "original"


def test_the_replies_of_a_judge_that_only_writes_are_read(model: Path, tmp_path: Path) -> None:
    counts = rewrite(Experiment(tmp_path / "run", make_recipe(recipe_of(model, tmp_path, "judge"))))
    decided = {"the judge finds other content", "the judge returned no verdict"}
    assert counts["accepted"] + sum(counts["reasons"].get(reason, 0) for reason in decided) > 0
    assert counts["unchecked"] == 0


def test_a_classifier_can_not_compare_two_texts(model: Path, tmp_path: Path) -> None:
    values = recipe_of(model, tmp_path, "judge", judge={"model": {"path": str(model)}, "backend": "classifier"})
    with pytest.raises(RecipeError, match=r"judge.backend is a classifier; name a chat model"):
        stages_of(make_context(make_recipe(values)))


def test_an_embedding_model_that_is_not_there_is_missing_before_the_run(model: Path, tmp_path: Path) -> None:
    from selfdistill.pipeline.needs import missing_here

    values = recipe_of(model, tmp_path, {"all_of": ["facts", "similar"]}, shift={"embedding": str(tmp_path)})
    (missing,) = missing_here(make_context(make_recipe(values)), [])
    assert missing.startswith("The grader similar: The ")
    assert "set shift.embedding to a folder" in missing or "pip install 'selfdistill[shift]'" in missing
