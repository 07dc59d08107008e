"""The verdict's sentences name the training runs that they are about, and claim no more than the intervals do."""

import re
from pathlib import Path

import pytest
from support.comparisons import MARGIN, pair
from support.pages import Page, headline, printed, verdict_of
from support.report_experiment import RATES, write_experiment, write_json

from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.stats import Values
from selfdistill.pipeline.context import Context, make_context
from selfdistill.recipe import make_recipe
from selfdistill.reports import verdict_table, write_comparison, write_report
from selfdistill.reports.findings import Findings
from selfdistill.reports.sentences import runs_note, summarise

TASKS = [{"task": name, "role": "other" if name != "gsm8k" else "target", "scores": {}} for name in ("gsm8k", "code")]


@pytest.fixture(scope="module")
def plan() -> Context:
    return make_context(make_recipe({"model": "demo", "task": "gsm8k"}))


def noisy(lost: int, shift: int) -> Values:
    return {n: float((n + shift) % 1000 >= lost) for n in range(1000)}


def family(runs: int, lost: int) -> list[Comparison]:
    """vanilla loses `lost` of 1,000 items of each task, sdft none."""
    seed: Values = dict.fromkeys(range(1000), 1.0)
    tuned = {"vanilla": [noisy(lost, run) for run in range(runs)], "sdft": [noisy(0, run) for run in range(runs)]}
    pairs = [Pair(task["task"], arm, "seed", tuned[arm], [seed]) for task in TASKS for arm in tuned]
    pairs += [Pair(task["task"], "sdft", "vanilla", *tuned.values(), both_trained=True) for task in TASKS]
    return compare(pairs, MARGIN)


@pytest.mark.parametrize(("runs", "said"), [(1, "this training run"), (3, "3 training runs")])
@pytest.mark.parametrize("lost", [0, 400])
def test_every_sentence_about_an_arm_names_the_runs(plan: Context, runs: int, said: str, lost: int) -> None:
    rows = family(runs, lost)
    sentences = summarise(plan, TASKS, rows, None, MARGIN)
    assert len(sentences) >= 4
    assert not [sentence for sentence in sentences if said not in sentence.lower()]
    verdict = {"arms": ["seed", "vanilla", "sdft"], "tasks": TASKS, "comparisons": [row.to_json() for row in rows]}
    told = Findings.of(verdict).headline()
    assert told.count(said) == told.count(".") - len(re.findall(r"\d\.\d", told)) == 2
    assert bool(runs_note(plan, rows, MARGIN)) == (runs == 1)


def test_one_run_says_what_it_does_not_cover_and_how_many_runs_would(plan: Context) -> None:
    (enough,) = runs_note(plan, compare([pair("code", 20, 20, 960)], MARGIN), MARGIN)
    assert "not how far another training of the same arm would differ" in enough
    assert re.search(
        r"differ by 2 points .*\d runs \(seeds: \[0, 1.*\]\) find a drop of 10 points in one task in 80 %", enough
    )
    (few,) = runs_note(plan, compare([pair("code", 5, 5, 40)], MARGIN), MARGIN)
    assert "even 10 runs would not find a drop of 10 points" in few


def test_no_change_is_not_printed_of_an_interval_without_zero(plan: Context, tmp_path: Path) -> None:
    """n = 1,319: −1.7 points, interval −3.0 to −0.5. Corrected over eight tasks it is neither forgot nor unchanged."""
    pairs = [pair(f"t{task}", 30, 30, 1259) for task in range(7)] + [pair("gsm8k", 21, 43, 1255)]
    rows = compare(pairs, MARGIN)
    assert (rows[-1].word, round(100 * rows[-1].low, 1), round(100 * rows[-1].high, 1)) == ("kept", -2.9, -0.5)
    sentences = summarise(plan, TASKS, rows, None, MARGIN)
    assert "no loss of 5 points or more on gsm8k (-1.7 points" in sentences[0]
    write_experiment(tmp_path, {arm: RATES[arm] for arm in ("seed", "vanilla")}, rewrites=[])
    verdict = verdict_of(tmp_path) | {"comparisons": [row.to_json() for row in rows], "summary": sentences}
    write_json(tmp_path / "verdict.json", verdict)
    text = Page(write_report(tmp_path)).text
    assert "did not lose 5 points or more (−1.7)" in text
    assert not re.search(r"no change|no clear change|unchanged|level|= kept", text, re.IGNORECASE)
    assert "≥ kept" in text


def test_page_terminal_and_comparison_say_which_runs_and_which_margin(tmp_path: Path) -> None:
    for name, runs in (("one", 1), ("three", 3)):
        write_experiment(tmp_path / name, rewrites=[])
        verdict = verdict_of(tmp_path / name) | {"margin": 0.08}
        for row in verdict["comparisons"]:
            row["runs"] = runs
        write_json(tmp_path / name / "verdict.json", verdict)
        text = Page(write_report(tmp_path / name)).text
        said = "this training run" if runs == 1 else "3 training runs"
        assert headline(tmp_path / name).count(said) == 2
        assert f"words are about {said} of each arm" in text
        assert ("another training would differ" in text) == (runs == 1)
        assert "a drop of 8 points or more is ruled out" in text
        assert f"The words are about {said} of each arm." in printed(verdict_table(verdict))
    write_comparison([tmp_path / "one", tmp_path / "three"], tmp_path / "compare.html")
    text = Page(tmp_path / "compare.html").text
    assert "this training run of each arm in one, 3 training runs of each arm in three" in text
