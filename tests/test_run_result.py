"""The results of an experiment in Python, its table in a notebook, and the example notebook."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.report_experiment import HOSTILE, write_experiment

from selfdistill import RunResult, load_result
from selfdistill.errors import ExperimentError
from selfdistill.reports.text import percent, visible
from selfdistill.types import Score

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_run.ipynb"


def test_a_result_holds_what_the_verdict_says(tmp_path: Path) -> None:
    where = write_experiment(tmp_path / "run")
    (where / "arms" / "sdft" / "model").mkdir()
    verdict = json.loads((where / "verdict.json").read_text(encoding="utf-8"))
    result = load_result(where)
    assert (result.arms, result.seed_arm) == (["seed", "vanilla", "sdft"], "seed")
    assert result.models == {"sdft": where / "arms" / "sdft" / "model"}
    for task in verdict["tasks"]:
        for arm, row in task["scores"].items():
            assert result.scores[task["task"]][arm] == Score.from_json(row)
    for row in verdict["comparisons"]:
        if row["against"] == "seed":
            assert result.word(row["task"], row["arm"]) == row["word"]
    assert result.word("gsm8k", "seed") is None
    with pytest.raises(ValueError, match=r"There is no arm 'sfdt'; choose one of seed, vanilla, sdft\."):
        result.word("gsm8k", "sfdt")
    with pytest.raises(ValueError, match=r"There is no task 'heldut'; choose one of .*gsm8k"):
        result.word("heldut", "sdft")
    assert result.headline.startswith("In this training run, vanilla forgot")
    assert result.advice.endswith(f"Your model: {where}/arms/sdft/model.")
    assert result.to_json()["verdict"] == verdict
    assert json.loads(json.dumps(result.to_json())) == result.to_json()
    assert len(repr(result)) < 1000


class Table(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags = set[str]()
        self.rows: list[list[str]] = []
        self.in_cell = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.in_cell = tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def shown(result: RunResult) -> Table:
    table = Table()
    table.feed(result._repr_html_())
    return table


def test_a_notebook_shows_scores_and_words(tmp_path: Path) -> None:
    result = load_result(write_experiment(tmp_path / "run"))
    head, *rows = shown(result).rows
    assert [cell.strip() for cell in head] == ["task", *result.arms]
    assert [row[0].partition(",")[0].removesuffix(" (target)") for row in rows] == list(result.scores)
    for row, (task, scores) in zip(rows, result.scores.items(), strict=True):
        for cell, arm in zip(row[1:], result.arms, strict=True):
            assert cell.startswith(percent(scores[arm].value))
            word = result.word(task, arm)
            assert cell.strip().endswith(word or "]")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(tmp_path: Path, text: str) -> None:
    tasks = [("PLACE", "maths", "target"), ("other", "code", "other")]
    where = write_experiment(tmp_path / "run", {"seed": (0.5, 0.9), "sdft": (0.6, 0.1)}, tasks)
    verdict = (where / "verdict.json").read_text(encoding="utf-8")
    (where / "verdict.json").write_text(verdict.replace('"PLACE"', json.dumps(text)), encoding="utf-8")
    result = load_result(where)
    assert text in result.scores
    table = shown(result)
    assert table.tags <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "caption", "code"}
    assert any(row[0].startswith(visible(text)[:10]) for row in table.rows if row)
    result._repr_html_().encode()


def test_an_experiment_without_a_verdict_says_what_to_do(tmp_path: Path) -> None:
    where = write_experiment(tmp_path / "run")
    verdict = where / "verdict.json"
    for text, words in (('{"arms": 5}', "not a verdict of this version"), ("[", "is damaged"), ("[]", "is damaged")):
        verdict.write_text(text)
        with pytest.raises(ExperimentError, match=words):
            load_result(where)
    verdict.unlink()
    with pytest.raises(ExperimentError, match=r"no verdict\.json; write it with `selfdistill report"):
        load_result(where)
    with pytest.raises(ExperimentError, match=r"There is no directory .*nope; `selfdistill run RECIPE`"):
        load_result(tmp_path / "nope")


def test_the_example_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells), "outputs are stripped"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pages = [
        output.data["text/html"] for cell in cells for output in cell.outputs if "text/html" in output.get("data", {})
    ]
    assert any("demo-maths" in page and "sdft" in page for page in pages)
    assert load_result(tmp_path / "runs" / "notebook").models.keys() == {"vanilla", "sdft"}
