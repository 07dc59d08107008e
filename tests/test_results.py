"""The kept experiments of docs/results: small, without texts of a dataset, and enough to compute every figure again."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from selfdistill import make_recipe, run
from tools.kept_results import join, keep, read, show, summary

RESULTS = Path(__file__).parents[1] / "docs" / "results"
KEPT = sorted(RESULTS.glob("*.json.xz"))
EXPERIMENTS = {name: list(files) for name, files in groupby(KEPT, lambda file: file.name.split(".")[0].split("-")[0])}
OTHERS = ("lists", "benign")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_pages_say_what_the_kept_items_give(name: str) -> None:
    """`join` raises if a comparison of single items differs from its part's verdict."""
    assert all(file.stat().st_size < 1_000_000 for file in EXPERIMENTS[name])
    found = join([read(file) for file in EXPERIMENTS[name]])
    for page, made in (("tables.md", show), ("README.md", summary)):
        assert made(found) in (RESULTS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.name)
def test_no_text_of_the_data_is_kept(file: Path, real_data: Path) -> None:
    text = json.dumps(read(file), ensure_ascii=False)
    for name in ("dolly_train", "gsm8k_train", "openfunction_train"):
        rows = json.loads((real_data / "sdft" / f"{name}.json").read_text(encoding="utf-8"))
        long = {value for row in rows for value in row.values() if isinstance(value, str) and len(value) > 25}
        assert not [value for value in long if json.dumps(value, ensure_ascii=False)[1:-1] in text]


def kept_run(folder: Path, seeds: list[int], items: int = 12) -> Any:
    recipe = make_recipe(
        {
            "model": "demo",
            "task": "demo-maths",
            "data": {"n": 8},
            "seeds": seeds,
            "train": {"max_steps": 1},
            "arms": {"seed": {"data": "none"}, "vanilla": {"data": "original"}},
            "evaluate": {
                "heldout_loss": True,
                "tasks": [{"task": "demo-maths", "n": items}, *({"task": f"demo-{name}", "n": 12} for name in OTHERS)],
            },
            "shift": {"kl_prompts": 0},
            "gap": False,
        }
    )
    run(recipe, folder)
    return json.loads(json.dumps(keep(folder)))


def test_what_is_kept_of_a_run_gives_its_comparisons_at_once_or_in_parts(tmp_path: Path) -> None:
    kept = kept_run(tmp_path / "both", [0, 1])
    whole = join([kept])
    assert {*whole.values} == {"seed", "vanilla", "vanilla@1"}
    shown = show(whole)
    assert "| vanilla | seed | 12 |" in shown
    assert "| mean change on the other tasks (2) | against | points | 95 % |" in shown
    assert "| vanilla | 2 |" in summary(whole)

    parts = join([kept_run(tmp_path / "first", [0]), kept_run(tmp_path / "second", [1])])
    assert show(parts) == shown + "\n\nseed was measured again: 0 of 36 values differ."

    with pytest.raises(ValueError, match="two parts differ in their items"):
        join([kept, kept_run(tmp_path / "others", [1], items=10)])
    kept["values"]["vanilla"]["demo-maths"][0][2] += 1
    with pytest.raises(ValueError, match="demo-maths, vanilla against seed"):
        join([kept])
