"""Figures, their data and files, and several experiments side by side."""

from __future__ import annotations

import csv
import io
import json
import re
from importlib import resources
from itertools import combinations
from math import dist
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pages import Page, verdict_of
from support.report_experiment import (
    HOSTILE,
    RATES,
    SWEPT,
    TASKS,
    made_rewrites,
    poisoned,
    write_analysis,
    write_experiment,
    write_gap,
    write_items,
    write_json,
    write_rewrites,
    write_shift,
)
from support.rows import read_rows, write_rows
from typer.testing import CliRunner

from selfdistill.cli import app
from selfdistill.errors import ExperimentError
from selfdistill.reports import write_comparison, write_figures, write_report
from selfdistill.reports.figures import FIGURES, as_csv
from selfdistill.reports.figures.canvas import geometric
from selfdistill.reports.svg import arm_slots, light_palette

ALL = {"verdict", "sweeps", "acceptance", "gap", "forgetting", "similarity", "layers", "loss"}


@pytest.fixture(scope="module")
def files(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "new"
    paths = write_figures(whole, folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def shown(directory: Path) -> set[str]:
    """The figures on the page."""
    page = Page(write_report(directory))
    return {str(a["id"]).removeprefix("figure-") for tag, a in page.tags if tag == "figure"}


def test_every_figure_stands_on_the_page_with_its_data(whole: Path, files: Path) -> None:
    page = Page(whole / "report.html")
    links = {a["download"]: a["href"] or "" for tag, a in page.tags if tag == "a" and "download" in a}
    assert set(links) == {f"{figure.name}.csv" for figure in FIGURES} == {f"{name}.csv" for name in ALL}
    for name, link in links.items():
        assert link.startswith("data:text/csv;charset=utf-8,")
        assert unquote(link.split(",", 1)[1]) == (files / str(name)).read_text(encoding="utf-8")
    assert (whole / "report.html").stat().st_size < 3_000_000


def test_files_for_papers_are_png_pdf_and_csv(files: Path) -> None:
    assert {path.name for path in files.iterdir()} == {
        f"{name}.{kind}" for name in ALL for kind in ("png", "pdf", "csv")
    }
    for path in files.iterdir():
        head = path.read_bytes()[:5]
        assert head[:4] == b"\x89PNG" if path.suffix == ".png" else head == b"%PDF-" if path.suffix == ".pdf" else head


def test_files_are_in_the_pages_light_colours(files: Path) -> None:
    from matplotlib.image import imread

    picture = imread(files / "acceptance.png")
    colours = {
        tuple(round(255 * float(channel)) for channel in pixel[:3]) for line in picture[::4] for pixel in line[::4]
    }
    blue = light_palette().arm(2)
    assert tuple(int(blue[place : place + 2], 16) for place in (1, 3, 5)) in colours
    assert (255, 255, 255) in colours


def test_two_runs_write_the_same_files(tmp_path: Path) -> None:
    write_experiment(tmp_path / "x")
    first, again = (write_figures(tmp_path / "x", tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in again]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, again, strict=True))


def test_the_verdicts_data_are_the_verdicts(whole: Path, files: Path) -> None:
    verdict = verdict_of(whole)
    scores = {task["task"]: task["scores"] for task in verdict["tasks"]}
    rows = rows_of(files / "verdict.csv")
    # Only the last arm of the sweep over `mix`: the figure of the sweep shows the remaining arms.
    assert {row["arm"] for row in rows} == {"seed", "vanilla", "sdft", "mix=1"}
    assert len(rows) == 4 * len(TASKS)
    for row in rows:
        assert float(row["score"]) == scores[row["task"]][row["arm"]]["value"]
        assert float(row["low"]) < float(row["score"]) < float(row["high"])
    changes = {
        (row["task"], row["arm"]): row["difference"] for row in verdict["comparisons"] if row["against"] == "seed"
    }
    assert {(r["task"], r["arm"]): float(r["change"]) for r in rows if r["change"]} == {
        key: change for key, change in changes.items() if key[1] in ("vanilla", "sdft", "mix=1")
    }


def test_a_sweeps_curves_hold_the_swept_scores(whole: Path, files: Path) -> None:
    scores = {task["task"]: task["scores"] for task in verdict_of(whole)["tasks"]}
    rows = rows_of(files / "sweeps.csv")
    assert len(rows) == 2 * (2 * len(SWEPT["n"]) + len(SWEPT["mix"]))
    for row in rows:
        names = [task for task, _, role in TASKS if (role == "target") == (row["of"] == "target")]
        values = [scores[name][row["arm"]]["value"] for name in names]
        assert float(row["score"]) == pytest.approx(sum(values) / len(values))
        assert float(row["low"]) < float(row["score"]) < float(row["high"])
        widths = [scores[name][row["arm"]]["high"] - scores[name][row["arm"]]["low"] for name in names]
        assert float(row["high"]) - float(row["low"]) <= max(widths) + 1e-9
    assert "swept setting" in Page(whole / "report.html").text


@pytest.mark.parametrize(
    "points",
    [
        [("template", "sdft", "using", "sdft"), ("template", "sdft", "refer", "vanilla")],
        [("n", "sdft", 500, "sdft")],  # one point
        [("mix", "mix", 0.0, "vanilla"), ("mix", "mix", 1.0, "sdft")],  # the recipe's own arms
        [("train.lr", "sdft", 1e-5, "sdft"), ("train.lr", "sdft", 1e-4, "vanilla"), ("train.lr", "sdft", 1e-3, "sdft")],
        [("train.adapter.target", "sdft", ["q", "v"], "sdft"), ("train.adapter.target", "sdft", None, "vanilla")],
    ],
)
def test_sweeps_of_all_kinds_are_drawn(tmp_path: Path, points: list[tuple[str, str, Any, str]]) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = verdict_of(tmp_path)
    verdict["sweeps"] = [dict(zip(("parameter", "series", "value", "arm"), point, strict=True)) for point in points]
    write_json(tmp_path / "verdict.json", verdict)
    assert "sweeps" in shown(tmp_path)
    write_figures(tmp_path, tmp_path / "f")
    assert [row["arm"] for row in rows_of(tmp_path / "f" / "sweeps.csv")[::2]] == [arm for *_, arm in points]


def test_a_swept_arm_without_all_evaluations_is_no_point(tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = verdict_of(tmp_path)
    verdict["sweeps"] = [
        {"parameter": "n", "series": "sdft", "value": n, "arm": arm}
        for n, arm in ((1, "sdft"), (2, "vanilla"), (3, "sdft.n=3"))
    ]
    del verdict["tasks"][3]["scores"]["vanilla"]
    write_json(tmp_path / "verdict.json", verdict)
    write_figures(tmp_path, tmp_path / "f")
    rows = rows_of(tmp_path / "f" / "sweeps.csv")
    assert {(row["arm"], row["of"]) for row in rows} == {("sdft", "target"), ("sdft", "other"), ("vanilla", "target")}


@pytest.mark.parametrize(
    ("values", "log"),
    [([500, 1000, 2000, 4000], True), ([0, 0.25, 0.5, 0.75, 1], False), ([0.1, 0.3, 0.5, 0.7, 0.9], False),
     ([1e-5, 1e-4, 1e-3], True), ([100, 200], False), ([7], False), ([-1, 10, 100], False)],
)  # fmt: skip
def test_an_axis_is_logarithmic_where_that_is_more_even(values: list[float], log: bool) -> None:
    assert geometric(values) == log


def test_forgetting_against_shift_is_spearmans(whole: Path, files: Path) -> None:
    from scipy.stats import spearmanr

    verdict = verdict_of(whole)
    rows = rows_of(files / "forgetting.csv")
    assert {row["run"] for row in rows} == {path.stem for path in (whole / "shift").glob("*.json")}
    others = [task for task in verdict["tasks"] if task["role"] == "other"]
    seed = {task["task"]: task["scores"]["seed"]["value"] for task in others}
    for row in rows:
        changes = [task["runs"][row["arm"]][row["run"]] - seed[task["task"]] for task in others]
        # Arms are compared on the items that both could judge, so that figures differ a little.
        assert float(row["mean change on other tasks"]) == pytest.approx(sum(changes) / len(changes), abs=0.01)
        saved = json.loads((whole / "shift" / f"{row['run']}.json").read_text())
        assert float(row["rouge_l"]) == saved["metrics"]["rouge_l"]["mean"]
        assert float(row["agreement"]) == saved["metrics"]["agreement"]["mean"]
        assert float(row["relative"]) == saved["parameters"]["relative"]
    x, y = ([float(row[key]) for row in rows] for key in ("kl", "mean change on other tasks"))
    rho = f"ρ = {spearmanr(x, y).statistic:+.2f}, n = {len(rows)}".replace("-", "−")
    assert f"KL, nats per token {rho}" in (whole / "report.html").read_text()


def test_two_runs_show_no_correlation(tmp_path: Path) -> None:
    write_analysis(tmp_path, seeds=(0,), sweeps=False)
    assert shown(tmp_path) == ALL - {"sweeps", "forgetting"}


def test_the_gaps_data_are_the_rows(whole: Path, files: Path) -> None:
    gap = read_rows(whole / "rewrite" / "gap.jsonl")
    rows = rows_of(files / "gap.csv")
    for name in ("original responses", "responses SDFT trains on"):
        own = [row for row in rows if row["responses"] == name]
        assert sum(int(row["rows"]) for row in own) == len(gap)
        assert sum(float(row["share"]) for row in own) == pytest.approx(1)
    edge = float(rows[0]["nats to"])
    inside = sum(row[row["chosen"]]["nll"] < edge for row in gap)
    first = next(row for row in rows if row["responses"] == "responses SDFT trains on")
    assert int(first["rows"]) == inside
    mean = sum(row["original"]["nll"] for row in gap) / len(gap)
    assert f"original responses: mean of the responses {mean:.2f}" in (whole / "report.html").read_text()


def test_the_rows_furthest_off_the_distribution_link_to_the_browser(tmp_path: Path) -> None:
    rewrites = list(made_rewrites(5_400))
    write_rewrites(tmp_path, rewrites)
    furthest = write_gap(tmp_path, rewrites)["off_distribution"]
    write_json(tmp_path / "verdict.json", {"gap": {"off_distribution": furthest}})
    page = Page(write_report(tmp_path))
    assert {f"rewrites.html#q={row}" for row in furthest} <= {a.get("href") for tag, a in page.tags if tag == "a"}
    rows = json.loads(Page(tmp_path / "rewrites.html").raw["script"][0])
    assert set(furthest) <= {row["id"] for row in rows}
    assert len(rows) == 5_000


def test_layers_are_of_all_their_matrices(tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    write_shift(tmp_path, "sdft", 0.5)
    path = tmp_path / "shift" / "sdft.json"
    saved = json.loads(path.read_text())
    saved["parameters"]["layers"] = [
        {"name": "model.layers.0.self_attn.q_proj.weight", "norm": 3.0, "relative": 0.3},
        {"name": "model.layers.0.self_attn.v_proj.weight", "norm": 4.0, "relative": 0.1},
        {"name": "model.layers.1.self_attn.q_proj.weight", "norm": 1.0, "relative": None},
        {"name": "lm_head.weight", "norm": 1.0, "relative": 0.1},
    ]
    write_json(path, saved)
    write_figures(tmp_path, tmp_path / "f")
    (row,) = rows_of(tmp_path / "f" / "layers.csv")
    assert (row["arm"], row["layer"]) == ("sdft", "0")
    assert float(row["relative change"]) == pytest.approx(5 / (10**2 + 40**2) ** 0.5)


@pytest.mark.parametrize(
    ("removed", "gone"),
    [
        ("shift", {"forgetting", "similarity", "layers"}),
        ("rewrite/gap.jsonl", {"gap"}),
        ("arms", {"loss"}),
        ("verdict.json", {"verdict", "sweeps", "forgetting"}),
        ("manifest.json", set()),
    ],
)
def test_a_figure_without_data_is_absent(tmp_path: Path, removed: str, gone: set[str]) -> None:
    write_analysis(tmp_path / "x")
    (tmp_path / "x" / removed).rename(tmp_path / "away")
    if removed == "shift":
        write_json(tmp_path / "x" / "verdict.json", verdict_of(tmp_path / "x") | {"shift": {}})
    assert shown(tmp_path / "x") == ALL - gone


def test_missing_measures_are_left_out_and_new_ones_shown(tmp_path: Path) -> None:
    write_analysis(tmp_path, seeds=(0,), sweeps=False)
    for path in (tmp_path / "shift").glob("*.json"):
        row = json.loads(path.read_text())
        del row["metrics"]["cosine"], row["distributions"]["cosine"]
        row["metrics"] |= {"a_new_one": {"mean": 0.123, "low": None, "high": None}, "kl": {"mean": None}}
        write_json(path, row | {"missing": {"cosine": "no model"}, "parameters": None})
    page = Page(write_report(tmp_path))
    assert "a new one" in page.text
    assert "embedding cosine" not in page.text
    assert "KL, nats" not in page.text
    assert "0.123" in page.text
    assert "layers" not in {a.get("id", "")[7:] for tag, a in page.tags if tag == "figure"}


def test_shift_of_an_arm_that_the_recipe_no_longer_has_is_not_shown(tmp_path: Path) -> None:
    write_analysis(tmp_path, sweeps=False)
    write_shift(tmp_path, "gone@0", 0.5)
    assert "gone@0" not in Page(write_report(tmp_path)).text


DAMAGED = [
    "{",
    "[]",
    '{"id": "x"}',
    '{"original": 3}',
    '{"original": {"nll": NaN, "tokens": 1}}',
    '{"original": {"nll": null, "tokens": 0, "error": "too long"}, "chosen": "original"}',
]


@pytest.mark.parametrize("line", DAMAGED)
def test_damaged_gap_rows_are_left_out(tmp_path: Path, line: str) -> None:
    rewrites = list(made_rewrites(30))
    write_rewrites(tmp_path, rewrites)
    write_gap(tmp_path, rewrites)
    write_figures(tmp_path, tmp_path / "before")
    with (tmp_path / "rewrite" / "gap.jsonl").open("a") as file:
        file.write(line + "\n")
    write_figures(tmp_path, tmp_path / "after")
    assert (tmp_path / "before" / "gap.csv").read_text() == (tmp_path / "after" / "gap.csv").read_text()


def test_hostile_names_stay_text_in_figures(tmp_path: Path) -> None:
    write_analysis(tmp_path, seeds=(0,))
    text = " ".join(HOSTILE[:3])
    verdict = verdict_of(tmp_path)
    for row in verdict["sweeps"]:
        row["parameter"] += text
    write_json(tmp_path / "verdict.json", verdict)
    source = write_report(tmp_path).read_text()
    assert "<script>window" not in source
    assert "<img" not in source


def test_arms_of_a_sweep_look_like_their_series() -> None:
    sweeps = [
        {"arm": "sdft.n=5", "series": "sdft"},
        {"arm": "mix=0.5", "series": "mix"},
        {"arm": "own", "series": "mix"},
    ]
    slots = arm_slots(["seed", "own", "sdft", "sdft.n=5", "mix=0.5"], "seed", sweeps)
    assert slots["sdft.n=5"] == slots["sdft"] == 2
    assert len({slots[arm] for arm in ("seed", "own", "sdft", "mix=0.5")}) == 4


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =x", "\t=x", "=cmd|'/c calc'!A1"])
def test_formulas_stay_text_in_a_spreadsheet(text: str) -> None:
    ((cell, number),) = list(csv.reader(io.StringIO(as_csv(["a", "b"], [[text, -1.5]]))))[1:]
    assert cell == f"'{text}"
    assert number == "-1.5"


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r")), st.floats(allow_nan=False)
        )
    )
)
def test_csv_reads_back(rows: list[tuple[str, float]]) -> None:
    read = list(csv.reader(io.StringIO(as_csv(["text", "number"], rows), newline="")))[1:]
    assert [(text.removeprefix("'"), float(number)) for text, number in read] == [
        (text.removeprefix("'"), number) for text, number in rows
    ]
    assert not any(text.lstrip()[:1] in set("=+-@") and text.strip() for text, _ in read)


# ---- several experiments


def experiments(folder: Path, **items: range) -> list[Path]:
    paths = [write_experiment(folder / name, rewrites=[]) for name in items]
    for path, asked in zip(paths, items.values(), strict=True):
        for task, *_ in TASKS:
            write_items(path, task, asked if task == "code" else range(200))
    return paths


def columns(path: Path) -> list[str]:
    table = re.search(r"<thead>.*?</thead>", path.read_text(), re.DOTALL)
    assert table
    return [
        " ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<th>(.*?)</th>", table[0], re.DOTALL)
    ]


def test_experiments_stand_side_by_side(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(200), b=range(200))
    assert write_comparison(paths, tmp_path / "compare.html") == []
    page = Page(tmp_path / "compare.html")
    assert columns(tmp_path / "compare.html") == ["experiment", "arm", *(task for task, *_ in TASKS)]
    table = page.text.split(" Scores experiment ")[1]
    assert table.count("a seed") == table.count("b sdft") == 1
    for task in verdict_of(paths[0])["tasks"]:
        score = task["scores"]["sdft"]
        wanted = f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
        assert page.text.count(wanted) >= 2
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert {link for link in links if not str(link).startswith("data:text/csv")} == {"a/report.html", "b/report.html"}


def test_other_items_are_refused_and_named(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(200), b=range(100, 300), c=range(200))
    (refused,) = write_comparison(paths, tmp_path / "out" / "x.html")
    assert refused == (
        "code is not compared in one column: different items in a, c (200 items, accuracy) and b (200 items, "
        "accuracy), 100 in common."
    )
    heads = columns(tmp_path / "out" / "x.html")
    assert heads[heads.index("tools") + 1 :][:2] == ["code as asked by a, c", "code as asked by b"]
    assert refused in Page(tmp_path / "out" / "x.html").text
    assert 'href="../a/report.html"' in (tmp_path / "out" / "x.html").read_text()


def test_the_same_items_in_another_order_are_the_same_and_one_asked_twice_is_not(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(50), b=range(50))
    asked = (paths[0] / "items" / "code.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in asked]
    write_rows(paths[1] / "items" / "code.jsonl", reversed(rows))
    assert write_comparison(paths, tmp_path / "x.html") == []
    write_rows(paths[1] / "items" / "code.jsonl", [*rows, rows[0]])
    assert len(write_comparison(paths, tmp_path / "x.html")) == 1


def test_items_that_are_not_on_file_are_compared_with_none(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(5), b=range(5))
    for path in paths:
        (path / "items" / "code.jsonl").unlink()
    (refused,) = write_comparison(paths, tmp_path / "x.html")
    assert refused.startswith("code is not compared")
    assert "a (not on file) and b (not on file)" in refused


def test_another_metric_is_another_column(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(5), b=range(5))
    verdict = verdict_of(paths[1])
    verdict["tasks"][0]["metric"] = "win rate"
    write_json(paths[1] / "verdict.json", verdict)
    (refused,) = write_comparison(paths, tmp_path / "x.html")
    assert "win rate" in refused


def test_what_is_asked_in_another_way_is_another_column(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(5), b=range(5))
    for path, temperature in zip(paths, (0.0, 0.95), strict=True):
        verdict = verdict_of(path)
        verdict["tasks"][0]["asked"] = {"system": None, "temperature": temperature}
        write_json(path / "verdict.json", verdict)
    (refused,) = write_comparison(paths, tmp_path / "x.html")
    assert "asked or scored in different ways in a (200 items, " in refused
    assert refused.endswith("temperature 0.0) and b (200 items, accuracy, temperature 0.95).")


def test_experiments_of_one_name_and_half_finished_ones_are_told_apart(tmp_path: Path) -> None:
    paths = [write_experiment(tmp_path / name / "run", rewrites=[]) for name in ("a", "b")]
    (paths[1] / "verdict.json").unlink()
    write_comparison(paths, tmp_path / "x.html")
    text = Page(tmp_path / "x.html").text
    assert "a/run seed" in text
    assert "No verdict yet." in text
    with pytest.raises(ExperimentError, match="named twice"):
        write_comparison([paths[0], paths[0] / ".." / "run"], tmp_path / "x.html")
    with pytest.raises(ExperimentError, match="holds no experiment"):
        write_comparison([paths[0], tmp_path], tmp_path / "x.html")


def test_hostile_names_stay_text_side_by_side(tmp_path: Path) -> None:
    pages = []
    for name, suffix in (("plain", "x"), ("hostile", " ".join(HOSTILE))):
        paths = experiments(tmp_path / name, a=range(5), b=range(9))
        for path in paths:
            write_json(path / "verdict.json", poisoned(verdict_of(path), suffix))
        write_comparison(paths, tmp_path / name / "x.html")
        pages.append([tag for tag, _ in Page(tmp_path / name / "x.html").tags])
    assert pages[0] == pages[1]


def test_the_command_writes_figures_and_comparisons(tmp_path: Path) -> None:
    paths = experiments(tmp_path, a=range(5), b=range(9))
    folder = ["--figures", str(tmp_path / "f")]
    done = CliRunner().invoke(app, ["report", *map(str, paths), *folder], catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "compare.html").is_file()
    assert {path.name for path in (tmp_path / "f").iterdir()} == {"a", "b"}
    assert (tmp_path / "f" / "b" / "loss.pdf").is_file()
    done = CliRunner().invoke(app, ["report", str(paths[0]), "--figures", str(tmp_path / "g")], catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "g" / "loss.csv").is_file()


# Severe dichromacy in linear RGB (Machado, Oliveira and Fernandes 2009, https://doi.org/10.1109/TVCG.2009.113).
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}


def oklab(colour: str, seen: tuple[tuple[float, ...], ...]) -> list[float]:
    """A colour as seen by an eye, in OKLab (https://bottosson.github.io/posts/oklab/)."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]

    def times(rows: tuple[tuple[float, ...], ...], values: list[float]) -> list[float]:
        return [sum(a * b for a, b in zip(row, values, strict=True)) for row in rows]

    mixed = [min(max(value, 0.0), 1.0) for value in times(seen, linear)]
    cones = times(((0.4122, 0.5363, 0.0514), (0.2119, 0.6807, 0.1074), (0.0883, 0.2817, 0.6300)), mixed)
    roots = [cone ** (1 / 3) for cone in cones]
    return times(((0.2105, 0.7936, -0.0041), (1.9780, -2.4286, 0.4506), (0.0259, 0.7828, -0.8087)), roots)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("eye", BLINDNESS)
def test_ten_arms_have_colours_that_every_eye_tells_apart(scheme: str, eye: str) -> None:
    css = (resources.files("selfdistill.reports") / "templates" / "base.css").read_text(encoding="utf-8")
    part = css.split("@media (prefers-color-scheme: dark)")[scheme == "dark"]
    colours = dict(re.findall(r"--arm-(\d+): (#\w{6})", part))
    seen = [oklab(colours[str(slot)], BLINDNESS[eye]) for slot in range(10)]
    assert min(dist(a, b) for a, b in combinations(seen, 2)) > 0.06


def test_nine_arms_have_nine_colours_in_figure_and_page(tmp_path: Path) -> None:
    rates = {"seed": RATES["seed"], "vanilla": RATES["vanilla"], **{f"arm-{n}": RATES["sdft"] for n in range(7)}}
    html = write_report(write_experiment(tmp_path, rates, rewrites=[])).read_text()
    figure = html[html.index('id="figure-verdict"') :].split("</figure>")[0]
    drawn = {slot for slot in range(12) if f"var(--arm-{slot})" in figure}
    icons = set(re.findall(r'title="([^"]+)"><svg class="marker".*?var\(--arm-(\d+)\)', html))
    assert len(icons) == len({slot for _, slot in icons}) == 9
    assert {int(slot) for _, slot in icons} == drawn
