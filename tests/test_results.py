"""The kept experiments of docs/results: small, without texts of a dataset, and enough to compute every figure again."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from selfdistill import make_recipe, run
from tools.kept_results import keep, show, summary

RESULTS = Path(__file__).parents[1] / "docs" / "results"
KEPT = sorted(RESULTS.glob("*.json.xz"))


def read(file: Path) -> Any:
    return json.loads(lzma.decompress(file.read_bytes()))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.name)
def test_the_page_says_what_the_kept_items_give(file: Path) -> None:
    """`show` raises if a comparison of single items differs from the verdict."""
    assert file.stat().st_size < 1_000_000
    for page, made in (("tables.md", show), ("README.md", summary)):
        assert made(read(file)) in (RESULTS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.name)
def test_no_text_of_the_data_is_kept(file: Path, real_data: Path) -> None:
    text = json.dumps(read(file), ensure_ascii=False)
    for name in ("dolly_train", "gsm8k_train", "openfunction_train"):
        rows = json.loads((real_data / "sdft" / f"{name}.json").read_text(encoding="utf-8"))
        long = {value for row in rows for value in row.values() if isinstance(value, str) and len(value) > 25}
        assert not [value for value in long if json.dumps(value, ensure_ascii=False)[1:-1] in text]


def test_what_is_kept_of_a_run_gives_its_comparisons(tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "model": "demo",
            "task": "demo-maths",
            "data": {"n": 8},
            "seeds": [0, 1],
            "train": {"max_steps": 1},
            "arms": {"seed": {"data": "none"}, "vanilla": {"data": "original"}},
            "evaluate": {
                "heldout_loss": True,
                "tasks": [{"task": "demo-maths", "n": 12}, {"task": "demo-lists", "n": 12}],
            },
            "shift": {"kl_prompts": 0},
            "gap": False,
        }
    )
    run(recipe, tmp_path / "run")
    kept = json.loads(json.dumps(keep(tmp_path / "run")))
    assert {*kept["values"]} == {"seed", "vanilla", "vanilla@1"}
    shown = show(kept)
    assert "| vanilla | seed | 12 |" in shown
    assert "| mean change on the other tasks (1) | against | points | 95 % |" in shown
    assert "| | seed | vanilla |" in summary(kept)

    kept["values"]["vanilla"]["demo-maths"][0][2] += 1
    with pytest.raises(ValueError, match="demo-maths, vanilla against seed"):
        show(kept)
