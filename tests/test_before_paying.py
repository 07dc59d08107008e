"""Facts that are known before anything is paid for: `check` reports them, `run` stops for them, `preview` shows a few
rows, and answers that a directory next to this one already holds are not asked for again."""

import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.server import KEY, Server
from support.tiny import CHATML, tiny_model

from selfdistill.backends.fake import FakeBackend
from selfdistill.types import Completion, Prompt

Command = Callable[..., Done]
TRAIN = {"epochs": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256}
ARMS: dict[str, Any] = {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the prompts that the fake backend is asked."""
    ids: list[str] = []
    generate = FakeBackend.generate

    def counting(self: FakeBackend, prompts: Iterable[Prompt], sampling: Any, done: Any = ()) -> Iterator[Completion]:
        prompts = list(prompts)
        ids.extend(prompt.id for prompt in prompts if prompt.id not in done)
        return generate(self, prompts, sampling, done)

    monkeypatch.setattr(FakeBackend, "generate", counting)
    return ids


def recipe(folder: Path, seed: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    path = write_rows(folder / "rows.jsonl", sum_rows(30) if rows is None else rows)
    values = {
        "model": {"path": str(seed), "dtype": "float32"},
        "data": {"path": str(path)},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": TRAIN,
        "arms": ARMS,
        "gap": False,
        "evaluate": {"backend": "fake", "tasks": []},
        **changes,
    }
    (folder / "recipe.yaml").write_text(json.dumps(values), encoding="utf-8")
    return folder / "recipe.yaml"


def unpaid(directory: Path) -> bool:
    """Whether nothing was rewritten, trained or answered."""
    return not (directory / "rewrite").exists() and not (directory / "arms").exists()


# ---- check


def test_check_counts_what_a_run_will_do(model: Path, tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, model, data={"path": str(tmp_path / "rows.jsonl"), "heldout": 5},
                  evaluate={"backend": "fake", "tasks": ["heldout", {"task": "demo-lists", "n": 40}]})  # fmt: skip
    done = command("check", "--no-probe", path, "train.epochs=3", "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert re.search(r"tokens +prompt median 38, 95th percentile 38, longest 38; response median \d+", done.out)
    assert re.search(r"steps +vanilla 21, sdft 21 \(optimiser steps\)", done.out)  # 25 rows, 4 per step, 3 epochs
    table = r" detects   items  points  task\n +5 +(none|\d+\.\d)  heldout\n +40 +\d+\.\d  demo-lists\n"
    assert re.search(table + " +points: the smallest change", done.out), done.out
    assert "80 % of cases (level 0.05, corrected over 2 tasks; one run per arm; assuming that 20 %" in done.said
    assert re.search(rf"disk +at most .* in {tmp_path}/run: adapters .* free", done.said)
    assert not (tmp_path / "run").exists()
    assert command("run", path, "train.epochs=3", "--dir", tmp_path / "run").code == 0
    assert json.loads((tmp_path / "run/arms/sdft/train.json").read_text())["steps"] == 21


def test_several_long_rows_are_counted_and_the_longest_named(model: Path, tmp_path: Path, command: Command) -> None:
    rows = sum_rows(30)
    for at in (4, 11, 17, 20, 23):
        rows[at]["answer"] = "word " * (60 + at) + rows[at]["answer"]
    path = recipe(tmp_path, model, rows, data={"path": str(tmp_path / "rows.jsonl"), "seed": 3, "n": 28})
    drawn = "Training sequences of more than 256 tokens:"
    for done in (command("check", "--no-probe", path), command("run", path, "--dir", tmp_path / "run")):
        assert done.code == 2
        assert drawn in done.said
        assert re.search(
            r"the longest is rows.jsonl line 24 \(\d+ tokens: 'What is 23 plus 23\?'…\); rows.jsonl line 21", done.said
        )
        assert "line 5 (" not in done.said, "only the three longest"
        assert "set train.allow_unusable_rows=true, which shortens them" in done.said
    assert unpaid(tmp_path / "run")
    allowed = command("run", path, "train.allow_unusable_rows=true", "--dir", tmp_path / "allowed")
    assert allowed.code == 0, allowed.said
    assert "vanilla: shortened to train.max_length, so that the end is not trained on: 5 rows" in " ".join(
        allowed.said.split()
    )


def test_a_long_row_that_no_arm_draws_stops_nothing(model: Path, tmp_path: Path, command: Command) -> None:
    rows = [*sum_rows(10), {"question": "What is long?", "answer": "word " * 200 + "#### 1"}]
    few = {name: {**arm, **({"n": 3} if name != "seed" else {})} for name, arm in ARMS.items()}
    path = recipe(tmp_path, model, rows, arms=few)
    assert command("run", path, "--dir", tmp_path / "run").code == 0


def test_an_n_above_the_rows_is_told(model: Path, tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, model, arms={**ARMS, "sdft": {"data": "rewrites", "n": 99}},
                  evaluate={"backend": "fake", "tasks": [{"task": "demo-lists", "n": 100_000}]})  # fmt: skip
    done = command("check", "--no-probe", path, "data.n=50")
    assert "The data holds 20 rows fewer than data.n asks for" in done.said
    assert "sdft asks for 99 rows, and there are 30" in done.said
    assert re.search(r"demo-lists asks for 100,000 items, and there are \d+; all of them are asked", done.said)


@pytest.mark.parametrize("rows", [[], [{"question": "", "answer": ""}], [{"question": "Q?"}]])
def test_data_without_a_usable_row_is_one_sentence(
    model: Path, tmp_path: Path, command: Command, rows: list[dict[str, Any]]
) -> None:
    path = recipe(tmp_path, model, rows)
    for words in (["check", "--no-probe"], ["preview"], ["run"]):
        done = command(*words, path, *([] if words[0] == "check" else ["--dir", tmp_path / words[0]]))
        assert done.code == 2
        assert "Traceback" not in done.said
        assert "rows.jsonl" in done.said


# ---- run stops in its first seconds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.extra={adam_beta3: 0.9}"], "train.extra.adam_beta3 is not a setting of TRL's SFTConfig; did you mean"),
        (["train.extra={save_steps: 3}"], "train.extra.save_steps is set by train's own settings"),
        (["train.adapter.targets=[qproj]"], "the model has no linear module 'qproj' (did you mean q_proj?)"),
        (["train.launch={processes: 3}"], "is not a multiple of train.micro_batch_size 4 times 3 processes"),
        (["data.heldout=30"], "no row is left to train on"),
        (["model.device=cuda"], "there is no such GPU here"),
    ],
)
def test_what_can_be_known_stops_check_and_run(
    model: Path, tmp_path: Path, command: Command, changes: list[str], message: str
) -> None:
    if "cuda" in message or "GPU" in message:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    path = recipe(tmp_path, model)
    for words in (["check", "--no-probe"], ["run"], ["train"]):
        done = command(*words, path, *changes, *([] if words[0] == "check" else ["--dir", tmp_path / "run"]))
        assert done.code == 2, done.said
        assert message in done.said
    assert unpaid(tmp_path / "run")


def test_too_few_rows_to_replay_stop_a_run(model: Path, tmp_path: Path, command: Command) -> None:
    write_rows(tmp_path / "more.jsonl", [{"question": "What is 8?", "answer": "8"}])
    mixed = {"data": "original", "replay": {"path": str(tmp_path / "more.jsonl"), "share": 0.5}}
    path = recipe(tmp_path, model, arms={**ARMS, "mixed": mixed})
    for done in (command("check", "--no-probe", path), command("run", path, "--dir", tmp_path / "run")):
        assert done.code == 2
        assert "more.jsonl has 1 rows to replay, and a share of 0.5 of 30 rows is 15" in done.said
    assert unpaid(tmp_path / "run")
    # Another arm is not stopped by it.
    assert command("train", path, "--arm", "vanilla", "--dir", tmp_path / "one").code == 0


def test_a_disk_that_is_too_small_stops_a_run(
    model: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 70_000))
    path = recipe(tmp_path, model, arms={**ARMS, "whole": {"data": "original", "train": {"method": "full"}}})
    for done in (
        command("check", "--no-probe", path, "--dir", tmp_path / "run"),
        command("run", path, "--dir", tmp_path / "run"),
    ):
        assert done.code == 2
        assert re.search(r"The run needs about .*KiB in .*/run \(weights of fully trained arms \d+ KiB, ada", done.said)
        assert "68 KiB are free. Free some space, or name a directory on another disk with --dir." in done.said
    assert unpaid(tmp_path / "run")


@pytest.mark.parametrize("step", ["train", "evaluate", "shift"])
def test_an_arm_that_is_not_there_stops_before_the_work(
    model: Path, tmp_path: Path, command: Command, step: str
) -> None:
    done = command(step, recipe(tmp_path, model), "--arm", "sdtf", "--dir", tmp_path / "run")
    assert done.code == 2
    assert "There is no arm sdtf; the recipe has seed, vanilla, sdft." in done.said
    assert not (tmp_path / "run").exists()


def test_missing_weights_stop_before_the_rewriting(model: Path, tmp_path: Path, command: Command) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(model, partial)
    (partial / "model.safetensors").unlink()
    done = command("run", recipe(tmp_path, partial), "--dir", tmp_path / "run")
    assert done.code == 2
    assert "holds no safetensors weights" in done.said
    whole = (model / "model.safetensors").read_bytes()
    (partial / "model.safetensors").write_bytes(whole[:-1])  # a download that broke off
    for done in (
        command("check", "--no-probe", recipe(tmp_path, partial)),
        command("run", recipe(tmp_path, partial), "--dir", tmp_path / "run"),
    ):
        assert done.code == 2
        assert "can't be loaded (model.safetensors is not whole); download them again." in done.said
    assert unpaid(tmp_path / "run")


def test_a_rewrite_that_is_too_long_to_train_on_is_rejected(model: Path, tmp_path: Path, command: Command) -> None:
    # The fake backend writes a few words before the reference.
    path = recipe(tmp_path, model, train={**TRAIN, "max_length": 67})
    done = command("run", path, "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    reasons = json.loads((tmp_path / "run/manifest.json").read_text())["stages"]["verify"]["counts"]["reasons"]
    assert reasons["over 67 tokens with its prompt"] > 0
    trained = json.loads((tmp_path / "run/arms/sdft/train.json").read_text())
    assert (trained["too_long"], trained["cut"]) == (0, 0)


# ---- the probe


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that no busy machine makes too slow."""
    monkeypatch.setattr(importlib.import_module("selfdistill.pipeline.check.estimate"), "SECONDS", 500.0)


def test_a_probe_estimates_time_and_memory_and_changes_nothing(tmp_path: Path, command: Command, patient: None) -> None:
    path = recipe(tmp_path, Path("demo"), evaluate={"tasks": ["demo-lists"]},
                  rewrite={"sampling": {"max_new_tokens": 32}, "grader": "final_number"})  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    done = command("check", path, "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert re.search(r"time +about .* min: rewriting .*, answering .*, training .* min \(from a probe", done.said)
    assert re.search(r"memory +rewriting \d\.\d GiB, answering \d\.\d GiB, training \(lora\) \d\.\d GiB", done.said)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_probe_without_memory_is_a_sentence(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, patient: None
) -> None:
    path = recipe(tmp_path, Path("demo"), rewrite={"grader": "final_number"})
    limit = 700 * 2**20  # too little to import torch
    limited = partial(subprocess.Popen, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    monkeypatch.setattr(subprocess, "Popen", limited)
    done = command("check", path)
    assert done.code == 2, done.said
    assert "The probe of the backend hf ran out of memory; lower model.batch_tokens, or take a" in done.said
    assert "ran out of memory; lower train.micro_batch_size or train.max_length" in done.said


def test_a_probe_that_the_system_kills_ran_out_of_memory(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, Path("demo"), rewrite={"grader": "final_number"})
    killed = partial(subprocess.Popen, preexec_fn=lambda: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(subprocess, "Popen", killed)
    done = command("check", path)
    assert done.code == 2, done.said
    assert "The probe of the backend hf ran out of memory; lower model.batch_tokens" in done.said


def test_a_slow_probe_is_ended(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("selfdistill.pipeline.check.estimate"), "SECONDS", 0.01)
    path = recipe(tmp_path, Path("demo"), rewrite={"grader": "final_number"})
    done = command("check", path)
    assert done.code == 0, done.said
    assert "The probe of the backend hf took more than 0.01 s" in done.said


# ---- preview


def test_a_run_uses_the_rows_of_a_preview(model: Path, tmp_path: Path, command: Command, asked: list[str]) -> None:
    path = recipe(tmp_path, model)
    done = command("preview", path, "-n", 3, "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert len(asked) == 3
    for expected in ("Row 1 of 3: accepted (same number)", "Prompt: What is 0 plus 0?", "Original: 0 + 0 = 0.",
                     "Rewrite: Here it is:", "Trained on, in ⟦⟧: <|im_start|>user", "⟦Here it is:"):  # fmt: skip
        assert expected in done.out
    assert f"They are in {tmp_path}/run. Next: selfdistill run {path} --dir {tmp_path}/run" in done.said
    assert "A run stops if fewer than" not in done.said
    kept = read_rows(tmp_path / "run/rewrite/completions.jsonl")
    assert command("preview", path, "-n", 3, "--dir", tmp_path / "run").out == done.out
    assert len(asked) == 3, "nothing is asked twice"
    assert command("run", path, "--dir", tmp_path / "run").code == 0
    assert len(asked) == len(set(asked)) == 30
    assert read_rows(tmp_path / "run/rewrite/completions.jsonl")[:3] == kept
    assert command("preview", path, "-n", 2, "--dir", tmp_path / "run").code == 0
    assert len(asked) == 30
    failing = command("preview", path, "-n", 3, "--dir", tmp_path / "run", "rewrite.grader=exact").said
    assert "A run stops if fewer than" in failing


def test_a_preview_of_more_rows_than_there_are_shows_all(model: Path, tmp_path: Path, command: Command) -> None:
    rows = sum_rows(20)
    done = command("preview", recipe(tmp_path, model, [*rows, *rows]), "-n", 500, "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert "Row 20 of 20" in done.out
    assert "only 20 different training rows, so all are shown; -n asked for 500." in done.said
    assert "rejected, so the original is trained on (" in done.out


def test_other_settings_after_a_preview_are_no_error(
    model: Path, tmp_path: Path, command: Command, asked: list[str]
) -> None:
    path = recipe(tmp_path, model)
    assert command("preview", path, "--dir", tmp_path / "run").code == 0
    other = command("preview", path, "rewrite.template=refer", "--dir", tmp_path / "run")
    assert other.code == 0, other.said
    assert len(asked) == 10
    assert command("rewrite", path, "rewrite.template=refer", "--dir", tmp_path / "run").code == 0
    assert len(asked) == 35


def test_other_rows_may_be_drawn_until_work_was_done_on_them(model: Path, tmp_path: Path, command: Command) -> None:
    path = recipe(tmp_path, model)
    assert command("preview", path, "--dir", tmp_path / "run").code == 0
    done = command("rewrite", path, "data.n=20", "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert len(read_rows(tmp_path / "run/data/train.jsonl")) == 20
    again = command("rewrite", path, "data.n=10", "--dir", tmp_path / "run")
    assert again.code == 2
    assert "made with other settings for data: data.n (20 → 10)" in again.said


@pytest.mark.parametrize("backend", ["hf", "openai"])
def test_real_engines_preview(tmp_path: Path, command: Command, server: Server, backend: str) -> None:
    url = {"url": server.url, "key_env": "TEST_KEY"}
    path = recipe(tmp_path, Path("demo"), model={"path": "demo", "server": url}, evaluate={"tasks": []},
                  rewrite={"backend": backend, "sampling": {"max_new_tokens": 4}, "min_accepted": 0})  # fmt: skip
    done = command("preview", path, "-n", 2, "--dir", tmp_path / "run")
    assert done.code == 0, done.said
    assert "Row 2 of 2:" in done.out
    assert KEY not in done.out
    assert len(read_rows(tmp_path / "run/rewrite/completions.jsonl")) == 2


# ---- answers are shared between directories


@pytest.mark.usefixtures("neighbours")
def test_answers_are_taken_from_a_directory_with_equal_settings(
    model: Path, tmp_path: Path, command: Command, asked: list[str]
) -> None:
    path, runs = recipe(tmp_path, model), tmp_path / "runs"
    assert command("run", path, "--dir", runs / "first").code == 0
    assert len(asked) == 30
    again = command("run", path, "train.lr=1e-3", "rewrite.filters.refusal=false", "--dir", runs / "second")
    assert again.code == 0
    assert len(asked) == 30
    assert f"rewrite: 30 answers of the seed, taken from {runs}/first" in again.said
    first, second = (runs / name / "rewrite/completions.jsonl" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_ino != second.stat().st_ino, "a change of one is not a change of the other"
    counts = json.loads((runs / "second/manifest.json").read_text())["stages"]["rewrite"]["counts"]
    assert (counts["taken_from"], counts["taken"]) == (str(runs / "first"), 30)
    assert "30 answers of the seed, taken from" in (runs / "second/report.html").read_text()


def damage(first: Path) -> None:
    file = first / "rewrite/completions.jsonl"
    file.write_bytes(file.read_bytes().replace(b"Here", b"Hear", 1))


def unfinish(first: Path) -> None:
    shutil.rmtree(first / "rewrite")


def spoil_manifest(first: Path) -> None:
    (first / "manifest.json").write_text("{")


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("change", "hurt"),
    [
        ("rewrite.sampling.seed=1", None),
        ("rewrite.template=refer", None),
        ("data.n=20", None),
        ("train.lr=1", damage),
        ("train.lr=1", unfinish),
        ("train.lr=1", spoil_manifest),
    ],
)
def test_answers_are_not_taken_if_settings_or_files_differ(
    model: Path, tmp_path: Path, command: Command, asked: list[str], change: str, hurt: Callable[[Path], None] | None
) -> None:
    path, runs = recipe(tmp_path, model), tmp_path / "runs"
    assert command("rewrite", path, "--dir", runs / "first").code == 0
    if hurt:
        hurt(runs / "first")
    there = {file: file.read_bytes() for file in (runs / "first").rglob("*") if file.is_file()}
    asked.clear()
    assert command("rewrite", path, change, "--dir", runs / "second").code == 0
    assert len(asked) == (20 if "n=20" in change else 30)
    assert {file: file.read_bytes() for file in (runs / "first").rglob("*") if file.is_file()} == there


@pytest.mark.usefixtures("neighbours")
def test_answers_of_another_day_are_taken_only_if_no_prompt_holds_the_date(
    tmp_path: Path, command: Command, asked: list[str]
) -> None:
    for name, template, number in (("dated", "{{ strftime_now('%Y') }}" + CHATML, 60), ("plain", CHATML, 30)):
        folder = tmp_path / name
        seed = tiny_model(folder / "model", chat_template=template)
        path = recipe(folder, seed)
        asked.clear()
        for day in ("2026-01-01", "2026-01-02"):
            created = recipe(folder, seed, model={"path": str(seed), "dtype": "float32", "date": day})
            assert path == created
            assert command("rewrite", path, "--dir", folder / "runs" / day).code == 0
        assert len(asked) == number
