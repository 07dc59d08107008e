"""The sentences name the training runs that they are about, and claim no more than the intervals allow."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.comparisons import MARGIN, pair
from support.pages import Page, headline, printed, verdict_of
from support.report_experiment import RATES, write_experiment, write_json

from selfdistill.measure.comparisons import Comparison, Pair, compare
from selfdistill.measure.stats import Values
from selfdistill.pipeline.results import needed_runs
from selfdistill.reports import verdict_table, write_comparison, write_report
from selfdistill.reports.findings import Findings
from selfdistill.reports.notes import notes
from selfdistill.reports.sentences import headline as headline_of
from selfdistill.reports.sentences import summary
from selfdistill.reports.text import during
from selfdistill.types import Score

TASKS = [
    {"task": name, "role": "other" if name != "gsm8k" else "target", "metric": "accuracy", "scores": {}}
    for name in ("gsm8k", "code")
]


def made(rows: Sequence[Comparison]) -> dict[str, Any]:
    """The verdict of an experiment with these comparisons, and nothing to note besides."""
    empty = {
        key: {}
        for key in (
            "data",
            "items",
            "settings_left_out",
            "taken_from",
            "training",
            "not_evaluated",
            "shift",
            "trained_on",
        )
    }
    nothing = {"note": None, "few_rows": [], "fake": False, "no_sandbox": False, "python_asserts": False,
               "gap_unmeasured": False, "shift_unmeasured": [], "weights": None}  # fmt: skip
    return {
        "arms": ["seed", "vanilla", "sdft"], "seed_arm": "seed", "swept": [], "margin": MARGIN, "tasks": TASKS,
        "comparisons": [row.to_json() for row in rows],
        "baseline_arms": {"sdft": {"against": "vanilla", "equal": True}},
        "acceptance": None, "sweeps": [], "runs_needed": needed_runs(rows, "seed", MARGIN), "caveats": nothing, **empty,
    }  # fmt: skip


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
def test_every_sentence_about_an_arm_names_the_runs(runs: int, said: str, lost: int) -> None:
    verdict = made(family(runs, lost))
    sentences = summary(verdict)
    assert len(sentences) >= 4
    assert not [sentence for sentence in sentences if said not in sentence.lower()]
    shown = headline_of(Findings.of(verdict))
    assert shown.lower().count(said) == shown.count(".") - len(re.findall(r"\d\.\d", shown)) == 2
    assert bool(list(notes(verdict))) == (runs == 1)
    assert [during(number) for number in (1, 3)] == ["in this training run", "over 3 training runs"]


def test_the_note_on_a_single_run_says_what_it_does_not_cover_and_how_many_runs_would() -> None:
    (enough,) = notes(made(compare([pair("code", 20, 20, 960)], MARGIN)))
    assert "not how much another training of the same arm would differ" in enough
    assert re.search(
        r"differ by 2 points .*\d runs \(seeds: \[0, 1.*\]\) find a drop of 10 points in one task in 80 %", enough
    )
    (few,) = notes(made(compare([pair("code", 5, 5, 40)], MARGIN)))
    said = r"10 runs per arm would find only a drop of (\d\d(?:\.\d)?) points or more in one task in 80 %"
    assert (found := re.search(said, few))
    assert 10 < float(found[1]) < 40
    assert few.endswith("More runs add little to that: to find a drop of 10 points, evaluate on more items.")


def test_arms_with_too_few_items_share_one_sentence() -> None:
    rows = compare([pair("code", 1, 2, 17)], MARGIN)
    both = [replace(row, arm=arm) for row in rows for arm in ("vanilla", "sdft")]
    shown = headline_of(Findings.of(made(both)))
    said = "whether vanilla (−5.0 points on average) or sdft (−5.0 points on average) forgot any of 1 other task"
    assert shown.startswith(f"Too few items to tell {said} in this training run.")


def test_an_interval_without_zero_is_not_called_no_change(tmp_path: Path) -> None:
    """n = 1,319: −1.7 points, interval −3.0 to −0.5. Corrected over eight tasks it is neither forgot nor unchanged."""
    pairs = [pair(f"t{task}", 30, 30, 1259) for task in range(7)] + [pair("gsm8k", 21, 43, 1255)]
    rows = compare(pairs, MARGIN)
    assert (rows[-1].word, round(100 * rows[-1].low, 1), round(100 * rows[-1].high, 1)) == ("kept", -2.9, -0.5)
    sentences = summary(made(rows))
    assert "lost less than 5 points, if any, on gsm8k (−1.7 points" in sentences[0]
    write_experiment(tmp_path, {arm: RATES[arm] for arm in ("seed", "vanilla")}, rewrites=[])
    verdict = verdict_of(tmp_path) | {"comparisons": [row.to_json() for row in rows], "summary": sentences}
    write_json(tmp_path / "verdict.json", verdict)
    text = Page(write_report(tmp_path)).text
    assert "lost less than 5 points, if any (−1.7)" in text
    assert not re.search(r"no change|no clear change|unchanged|level|= kept", text, re.IGNORECASE)
    assert "≥ kept" in text


def test_an_arm_that_is_above_before_correction_is_not_called_below() -> None:
    pairs = [pair(f"t{task}", 30, 30, 1259) for task in range(7)] + [pair("gsm8k", 43, 21, 1255)]
    rows = compare([replace(each, arm="sdft", against="vanilla") for each in pairs], MARGIN)
    assert (rows[-1].word, rows[-1].low > 0) == ("kept", True)
    (sentence,) = [each for each in summary(made(rows)) if each.startswith("On gsm8k")]
    assert "sdft is not below vanilla in this training run (+1.7 points" in sentence
    assert sentence.endswith("; it is above, but not after the correction over all tasks).")


def test_page_terminal_and_comparison_say_which_runs_and_which_margin(tmp_path: Path) -> None:
    for name, runs in (("one", 1), ("three", 3)):
        write_experiment(tmp_path / name, rewrites=[])
        verdict = verdict_of(tmp_path / name) | {"margin": 0.08}
        for row in verdict["comparisons"]:
            row["runs"] = runs
        write_json(tmp_path / name / "verdict.json", verdict)
        text = Page(write_report(tmp_path / name)).text
        said = "this training run" if runs == 1 else "3 training runs"
        assert headline(tmp_path / name).lower().count(said) == 2
        assert f"words are about {said} of each arm" in text
        assert ("another training would differ" in text) == (runs == 1)
        assert "a drop of 8 points or more is ruled out" in text
        assert f"The words are about {said} of each arm." in printed(verdict_table(verdict))
    write_comparison([tmp_path / "one", tmp_path / "three"], tmp_path / "compare.html")
    text = Page(tmp_path / "compare.html").text
    assert "this training run of each arm in one, 3 training runs of each arm in three" in text


def test_scores_over_other_items_than_the_change_show_their_numbers() -> None:
    mine, other = dict.fromkeys(range(15), 1.0), {n: float(n % 2) for n in range(28)}
    rows = compare([Pair("code", "sdft", "seed", [mine], [other])], MARGIN)
    seed = Score("code", "accuracy", 0.5, 0.3, 0.7, 28, 14, 14).to_json()
    sdft = Score("code", "accuracy", 1.0, 0.8, 1.0, 28, 15, 0, errors=13).to_json()

    def table(**scores: Any) -> str:
        task = {"task": "code", "role": "other", "metric": "accuracy", "n": 28, "scores": scores, "runs": {}}
        said = printed(verdict_table(made(rows) | {"arms": ["seed", "sdft"], "tasks": [task]}))
        return " ".join(said.split())

    said = table(seed=seed, sdft=sdft)
    assert [words in said for words in ("n=28", "n=15", "a change over")] == [True] * 3
    even = {**seed, "n": 15, "passed": 7, "failed": 8}
    assert "n=" not in table(seed=even, sdft=sdft)


def test_comparisons_that_an_early_end_left_open_have_a_footnote() -> None:
    verdict = made(family(1, 300))
    row = {**verdict["comparisons"][0], "word": "not decided", "needed": None}
    gate = {"ended_early": True, "looks": [0.25], "looks_planned": [0.25, 0.5, 1.0]}
    tasks = [{**task, "n": 50} for task in TASKS]
    said = " ".join(printed(verdict_table({**verdict, "tasks": tasks, "comparisons": [row], "gate": gate})).split())
    assert "Not decided: the gate ended at look 1 of 3." in said
