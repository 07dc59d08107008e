"""The end of each command: what happened, what changed, and what to do next."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.report_experiment import write_experiment

from selfdistill.cli.show import show_verdict
from selfdistill.reports import write_report
from selfdistill.reports.findings import Findings
from selfdistill.reports.next_steps import next_steps
from selfdistill.reports.sentences import beyond_tables, headline, summary

Command = Callable[..., Done]
TASKS = [("gsm8k", "maths", "target"), ("tools", "calls", "other"), ("code", "code", "other")]
SEED = (0.30, 0.95, 0.95)
HAPPENED = (
    "In this training run, fine-tuning on your originals (vanilla) made {} of 2 other tasks worse; on rewrites (sdft) "
    "{} of 2."
)


@pytest.mark.parametrize(
    ("vanilla", "sdft", "worse", "advice"),
    [
        ((0.6, 0.2, 0.2), (0.7, 0.95, 0.95), (2, 0), "Use sdft. Your model: {}/arms/sdft/model."),
        ((0.6, 0.2, 0.2), (0.7, 0.95, 0.4), (2, 1), "Use sdft, and first read its answers to code, which got worse."),
        ((0.7, 0.95, 0.95), (0.7, 0.2, 0.95), (0, 1), "Use vanilla. Your model: {}/arms/vanilla/model."),
        ((0.6, 0.1, 0.1), (0.6, 0.3, 0.3), (2, 2), "sdft is the better one, and got worse on each of them: lower"),
        ((0.3, 0.2, 0.2), (0.3, 0.95, 0.95), (2, 0), "sdft did not measurably gain on its target: train it"),
    ],
)  # fmt: skip
def test_a_run_ends_with_what_happened_and_what_to_do(
    vanilla: tuple[float, ...], sdft: tuple[float, ...], worse: tuple[int, int], advice: str, tmp_path: Path
) -> None:
    where = write_experiment(tmp_path / "run", {"seed": SEED, "vanilla": vanilla, "sdft": sdft}, TASKS, n=3000)
    for arm in ("vanilla", "sdft"):
        (where / "arms" / arm / "model").mkdir()
    sentence, _ = next_steps(json.loads((where / "verdict.json").read_text()), where)
    assert sentence.startswith(f"{HAPPENED.format(*worse)} {advice.format(where)}")
    page = write_report(where).read_text()
    assert sentence.removeprefix(HAPPENED.format(*worse)).strip() in page, "the advice"
    assert HAPPENED.format(*worse) not in page, "the headline says it"


def lower_loss(difference: float) -> dict[str, Any]:
    """The part of a verdict that says that the arm sdft has a lower held-out loss."""
    found = {"difference": difference, "low": difference - 0.02, "high": difference + 0.02, "word": "lower", "runs": 1}
    return {"heldout_loss": [{"task": "heldout", "comparisons": [{"arm": "sdft", "against": "seed", **found}]}]}


def test_a_target_whose_score_says_nothing_is_judged_by_the_heldout_loss_too(tmp_path: Path) -> None:
    """A grader that hardly any answer passes, as `facts` with a small model, shows no gain of an arm that learnt."""
    rates = {"seed": (0.02, 0.95, 0.95), "sdft": (0.02, 0.95, 0.95)}
    where = write_experiment(tmp_path / "run", rates, TASKS, n=3000)
    verdict = json.loads((where / "verdict.json").read_text())
    assert "sdft did not measurably gain on its target" in next_steps(verdict, where)[0]
    found, _ = next_steps(verdict | lower_loss(-0.2), where)
    assert "sdft learnt from your data by its held-out loss (−0.200 nats per token), but its score" in found


def test_what_a_model_lost_comes_before_what_it_learnt(tmp_path: Path) -> None:
    rates = {"seed": (0.02, 0.95, 0.95, 0.95), "sdft": (0.02, 0.2, 0.95, 0.95)}
    tasks = [*TASKS, ("lists", "lists", "other")]
    where = write_experiment(tmp_path / "run", rates, tasks, n=3000)
    verdict = json.loads((where / "verdict.json").read_text())
    verdict |= lower_loss(-4.1)
    assert (
        "sdft did not measurably gain on its target and got worse on tools: lower train.lr"
        in next_steps(verdict, where)[0]
    )  # one of three tasks, but the mean of the three is lost too


@pytest.mark.parametrize(("looped", "said"), [(9, True), (2, False)])
def test_a_model_whose_answers_end_in_loops_is_not_to_be_used(looped: int, said: bool, tmp_path: Path) -> None:
    rates = {"seed": SEED, "sdft": (0.7, 0.95, 0.95)}
    where = write_experiment(tmp_path / "run", rates, TASKS, n=3000)
    verdict = json.loads((where / "verdict.json").read_text())
    shares = {"seed": 0, "sdft": looped}
    arms = {
        arm: {"n": 10, "endings": {"loop": n, "stop": 10 - n}, "value": n / 10, "low": 0.0, "high": 1.0}
        for arm, n in shares.items()
    }
    worse = {"task": "gsm8k", "arm": "sdft", "against": "seed", "word": "forgot" if said else "can't tell"}
    verdict |= {"degeneration": {"tasks": [{"task": "gsm8k", "arms": arms}], "comparisons": [worse]}}
    sentence = next_steps(verdict, where)[0]
    assert ("More answers end in a loop or in garble than the seed's: sdft on gsm8k." in sentence) == said
    broken = "90 % of the answers of sdft to gsm8k end in a loop or in garble, or are empty (with the seed model 0 %)"
    assert (broken in sentence) == said
    assert ("Use sdft." in sentence) != said


def joined(text: str) -> str:
    """Without spaces, since a terminal breaks lines, and paths too."""
    return "".join(text.split())


def test_the_end_of_a_run_says_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"seed": SEED, "vanilla": (0.6, 0.2, 0.2), "sdft": (0.7, 0.95, 0.95)}
    where = write_experiment(tmp_path / "run", rates, TASKS, n=3000)
    (where / "arms" / "sdft" / "model").mkdir()
    verdict = {"swept": [], "sweeps": [], "gap": None, **json.loads((where / "verdict.json").read_text())}
    verdict |= {"notes": ["The first note.", "Another note."]}
    show_verdict(verdict, where)
    shown = joined(capsys.readouterr().out)
    sentence, commands = next_steps(verdict, where)
    once = [sentence, *(command for _, command in commands), *beyond_tables(verdict), *verdict["notes"]]
    assert [shown.count(joined(each)) for each in once] == [1] * len(once)
    assert shown.count("report.html") == shown.count("Rewritesaccepted") == 1
    in_tables = [each for each in summary(verdict) if each not in beyond_tables(verdict)]
    assert len(in_tables) == 3
    assert not any(joined(each) in shown for each in [headline(Findings.of(verdict)), *in_tables])


def test_arms_of_a_sweep_have_curves_and_no_sentence_of_their_own(tmp_path: Path) -> None:
    rates = {"seed": SEED, "vanilla": (0.6, 0.2, 0.2), "sdft": (0.7, 0.95, 0.95)}
    verdict = json.loads((write_experiment(tmp_path, rates, TASKS) / "verdict.json").read_text()) | {"sweeps": []}
    said = [[each for each in beyond_tables(verdict | {"swept": swept}) if "sdft" in each] for swept in ([], ["sdft"])]
    assert said[0][0].startswith("On average over 2 other tasks, sdft is 69.5 points above vanilla")
    assert said[1] == []


def test_the_commands_are_those_of_the_model_that_is_there(tmp_path: Path) -> None:
    where = write_experiment(tmp_path / "my run", {"seed": SEED, "sdft": (0.7, 0.95, 0.95)}, TASKS)
    verdict = json.loads((where / "verdict.json").read_text())
    assert next_steps(verdict, where)[1] == []
    model = where / "arms" / "sdft" / "model"
    model.mkdir()
    full = dict(next_steps(verdict, where)[1])
    assert full["serve with vLLM"] == f"vllm serve '{model}'"
    assert "AutoModelForCausalLM.from_pretrained" in next(iter(full.values()))
    (model / "adapter_config.json").touch()
    adapted = dict(next_steps(verdict, where)[1])
    assert adapted["merge the adapter into the weights"] == f"selfdistill train '{where}' --arm sdft train.merge=true"
    assert adapted["serve with vLLM, once merged"] == f"vllm serve '{where}/arms/sdft/merged'"
    assert "AutoPeftModelForCausalLM.from_pretrained" in next(iter(adapted.values()))
    page = write_report(where).read_text()
    assert "train.merge=true" in page
    assert "webbrowser" not in page


def test_rewrite_export_and_regrade_say_what_changed_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {
        "model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 40}, "gap": False,
        "rewrite": {"backend": "fake", "min_accepted": 0}, "arms": {"seed": {"data": "none"}},
        "evaluate": {"backend": "fake", "tasks": ["demo-lists"]},
    }  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    first, again, other = (
        command("rewrite", "r.yaml", *more) for more in ((), (), ("rewrite.filters={refusal: false}",))
    )
    assert "Nothing changed." not in first.out
    assert "Nothing changed." in again.out
    assert first.out.splitlines()[-1] == "Next: selfdistill train runs/r"
    assert other.code == 0
    where = "runs/r/export/trl/r_sdft.jsonl"
    done = command("export", "runs/r", "--to", "trl")
    assert f" original): {where} (new)" in done.out
    assert done.out.splitlines()[-1] == "Next: trl sft --model_name_or_path MODEL --dataset_name runs/r/export/trl"
    assert f"{where} (unchanged)" in command("export", "runs/r", "--to", "trl").out
    assert command("run", "r.yaml").code == 0
    done = command("regrade", "runs/r")
    assert "Graded 200 answers again: no score changed." in done.out
    saved = json.loads(Path("runs/r/verdict.json").read_text())
    saved["tasks"][0]["scores"]["seed"] |= {"value": 0.5, "passed": 100}
    Path("runs/r/verdict.json").write_text(json.dumps(saved))
    assert "Graded 200 answers again: seed on demo-lists 50.0 → " in command("regrade", "runs/r").out
