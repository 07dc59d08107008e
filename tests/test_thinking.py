"""Thinking models through the commands: the three steps of own traces, masked and empty blocks, thinking turned off,
limits of a trace, rows with reasoning, and what is reported about traces."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.server import Server, reply
from support.tiny import CHATML, tiny_model, tiny_tokenizer

from selfdistill import load_recipe, run
from selfdistill.backends import open_backend
from selfdistill.data import data_notes, prepare, read_conversations
from selfdistill.data.export import FORMATS
from selfdistill.errors import StageError
from selfdistill.generation.rewriter import Rewriter
from selfdistill.grading import make_grader
from selfdistill.grading.trace_states import hedging, trace_state
from selfdistill.measure.trace_measures import trace_results, trace_row
from selfdistill.models.renderer import Renderer
from selfdistill.pipeline import rewrite
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.evaluate import answer_stage
from selfdistill.pipeline.reasoning import thinks, thought_of
from selfdistill.pipeline.rewrite import answer_sets
from selfdistill.pipeline.train import train_stage
from selfdistill.recipe import ArmConfig, DataConfig, Filters, ModelConfig, Recipe, Sampling
from selfdistill.store.experiment import Experiment
from selfdistill.types import Completion, Example, Finish, Message, Prompt, Thought

# As Qwen 3's: the model opens its think block itself, reasoning of the last turn is shown, and there is a switch.
QWEN = CHATML.replace(
    "{{ message.content }}",
    "{% if message.role == 'assistant' and loop.last %}<think>\n{{ message.reasoning_content or '' }}\n</think>\n\n"
    "{% endif %}{{ message.content }}",
).replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
)
ARMS = {
    "seed": {"data": "none"},
    "vanilla": {"data": "original"},
    "sdft": {"data": "rewrites"},
    "sdft-mask": {"data": "rewrites", "reasoning": "mask"},
    "vanilla-empty": {"data": "original", "reasoning": "empty"},
    "vanilla-off": {"data": "original", "reasoning": "off"},
}
ROWS = 12


def recipe_in(folder: Path, server: Server | None = None, rows: Any = None, **changes: Any) -> Path:
    """A recipe with a tiny thinking model, and arms with every kind of think block."""
    write_rows(folder / "rows.jsonl", rows or sum_rows(ROWS))
    model = tiny_model(folder / "model", chat_template=QWEN, context=1024)
    served = {"server": {"url": server.url, "api": "completions"}} if server else {}
    values = {
        "model": {"path": str(model), "dtype": "float32", **served, **changes.pop("model", {})},
        "data": {"path": str(folder / "rows.jsonl"), "heldout": 2},
        "rewrite": {
            "backend": "openai" if server else "fake",
            "grader": "final_number",
            "template": "using",
            "min_accepted": 0,
            **changes.pop("rewrite", {}),
        },
        "train": {"max_steps": 1, "batch_size": 2, "micro_batch_size": 2, "max_length": 512},
        "arms": ARMS,
        "gap": False,
        "shift": {"kl_prompts": 0},
        "evaluate": {"backend": "hf", "tasks": ["heldout"], "sampling": {"max_new_tokens": 4}},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def answers(body: dict[str, Any], _number: int = 0) -> Any:
    """Without the reference: right for every third number, without a trace for the next. With it: a trace that mentions
    the reference for the numbers of the third kind, if they are odd."""
    found = re.findall(r"What is (\d+) plus", body["prompt"])
    number, guided = int(found[-1]), "reference answer" in body["prompt"]
    right = f"I add {number} twice.\n#### {2 * number}"
    if guided:
        trace = "Let me follow the reference answer." if number % 2 else f"Hmm, {number} and {number}."
        return reply(f"<think>\n{trace}\n</think>\n\n{right}")
    if number % 3 == 0:
        return reply(f"<think>\nWait, twice {number}?\n</think>\n\n{right}")
    return reply(right if number % 3 == 1 else "<think>\nNo idea.\n</think>\n\nIt is 1000.")


def the_blocks_of_each_arm(folder: Path, verdict: dict[str, Any]) -> None:
    rows = {
        arm: {int(re.findall(r"\d+", row["prompt"][-1]["content"])[0]): row for row in read_rows(path)}
        for arm in ARMS
        if (path := folder / "arms" / arm / "data.jsonl").is_file()
    }
    for number, row in rows["sdft"].items():
        if number % 3 == 0:
            assert (row["source"], row["thought"]) == ("self", {"text": f"Wait, twice {number}?", "trained": True})
        elif number % 2 == 0:
            assert (row["source"], row["thought"]["trained"]) == ("rewrite", True)
            assert row["response"].startswith("I add"), "the answer without its trace"
        else:
            assert (row["source"], row["thought"]) == ("original", {"text": "", "trained": False})
    assert {row["source"] for row in rows["sdft-mask"].values()} == {"rewrite"}, "only the trace was at fault"
    for arm, thought in (("vanilla", False), ("sdft-mask", False), ("vanilla-empty", True)):
        assert all(row["thought"] == {"text": "", "trained": thought} for row in rows[arm].values()), arm
    assert all("thought" not in row for row in rows["vanilla-off"].values())
    sources = Counter(row["source"] for row in rows["sdft"].values())
    assert verdict["thinking"]["arms"]["sdft"]["sources"] == sources
    said = " ".join([*verdict["notes"], *verdict["summary"]])
    assert f"{sources['self']} rows with the seed's own trace and answer, {sources['rewrite']} with a guided" in said
    assert "sdft trains on think traces that vanilla does not have" in said
    assert "The equal pair is sdft-mask and vanilla." in said
    assert "vanilla-empty, reasoning empty, on purpose, to show what that costs: 10 rows after an empty" in said
    equal = {arm: pair["equal"] for arm, pair in verdict["baseline_arms"].items()}
    assert equal == {"sdft": False, "sdft-mask": True, "vanilla-empty": False, "vanilla-off": False}


def the_traces_of_each_arm(folder: Path, verdict: dict[str, Any]) -> None:
    (task,) = verdict["thinking"]["tasks"]
    assert set(task["arms"]) == ARMS.keys() - {"vanilla-off"}, "an arm that does not think has no traces to report"
    for of in task["arms"].values():
        assert of["n"] == sum(of["states"].values()) == 2
    assert ">Think traces</h2>" in (folder / "report.html").read_text(encoding="utf-8")
    grades = read_rows(folder / "arms" / "seed" / "evaluate" / "heldout" / "grades.jsonl")
    assert {trace["state"] for row in grades for trace in row["traces"]} <= {"missing", "empty", "truncated"}


def test_a_run_trains_and_reports_think_blocks(tmp_path: Path, server: Server, command: Callable[..., Done]) -> None:
    server.script = answers
    folder = tmp_path / "run"
    done = command("run", recipe_in(tmp_path, server), "--dir", folder)
    assert done.code == 0, done.said
    assert "Think traces of these that can be trained on: 5; not: 5 its think trace: talks about" in done.said
    assert "Think traces, with 95 % intervals" in done.said
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    the_blocks_of_each_arm(folder, verdict)
    the_traces_of_each_arm(folder, verdict)
    assert command("export", folder, "--to", "trl").code == 0
    exported = [row["completion"][0] for row in read_rows(folder / "export" / "trl" / "run_sdft.jsonl")]
    assert (
        sum("reasoning_content" in turn for turn in exported) == verdict["thinking"]["arms"]["sdft"]["blocks"]["traces"]
    )


def test_check_says_what_happens(tmp_path: Path, server: Server, command: Callable[..., Done]) -> None:
    server.script = answers
    recipe = recipe_in(tmp_path, server)
    done = command("check", recipe, "--no-probe")
    assert done.code == 0, done.said
    assert "the model thinks before it answers" in done.said
    assert "(1) the seed's own trace and answer" in done.said
    assert "max_thinking_tokens is not set in rewrite.sampling and evaluate.sampling" in done.said
    assert "vanilla-empty: original, empty think blocks trained on purpose" in done.said
    (tmp_path / "off").mkdir()
    plain = {name: ARMS[name] for name in ("seed", "vanilla", "sdft")}
    off = command("check", recipe_in(tmp_path / "off", model={"reasoning": "off"}, arms=plain), "--no-probe")
    assert "turned off in rewriting, training and evaluation" in off.said


@pytest.mark.parametrize(
    ("rewrite", "steps", "checked"),
    [
        ({}, ["self", ""], True),
        ({"grader": "judge"}, ["self", ""], False),  # the judge is asked later, about each answer
        ({"grader": "none"}, [""], False),
        ({"grader": "none", "own_unchecked": True}, ["self", ""], False),
    ],
)
def test_own_answers_need_a_grader_unless_the_recipe_does_without(
    tmp_path: Path, rewrite: dict[str, Any], steps: list[str], checked: bool
) -> None:
    context = make_context(load_recipe(recipe_in(tmp_path, rewrite=rewrite)))
    sets = answer_sets(context, context.recipe.arms["sdft"])
    assert [each.name for each in sets] == steps
    assert [each.rewriter.must_be_checked for each in sets] == [checked and step == "self" for step in steps]
    assert [each.name for each in answer_sets(context, context.recipe.arms["sdft-mask"])] == [""]


def test_answers_of_an_arm_on_them_alone_need_no_check(tmp_path: Path) -> None:
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "own": {"data": "self"}}
    context = make_context(load_recipe(recipe_in(tmp_path, arms=arms, rewrite={"grader": "none"})))
    (own,) = answer_sets(context, context.recipe.arms["own"])
    assert not own.rewriter.must_be_checked


@pytest.mark.parametrize("own", [False, True])
def test_too_few_rows_are_those_without_a_trace_to_train_on(tmp_path: Path, server: Server, own: bool) -> None:
    """Rewrites that all pass with unusable traces stop the run; rewrites that fail after own answers don't."""

    def script(body: dict[str, Any], _number: int = 0) -> Any:
        number = int(re.findall(r"What is (\d+) plus", body["prompt"])[-1])
        guided = "reference answer" in body["prompt"]
        trace = "Let me follow the reference answer." if guided else f"Twice {number}."
        return reply(f"<think>\n{trace}\n</think>\n\n#### {1000 if own == guided else 2 * number}")

    server.script = script
    arms = {name: ARMS[name] for name in ("seed", "vanilla", "sdft")}
    rewriting = {"min_accepted": 0.05, "filters": {"min_length_ratio": None}}
    experiment = Experiment(tmp_path / "run", load_recipe(recipe_in(tmp_path, server, arms=arms, rewrite=rewriting)))
    if own:
        assert rewrite(experiment)["rate"] == 0
    else:
        with pytest.raises(StageError, match=r"Only 0 of 10 rows have an answer of the seed with a think trace"):
            rewrite(experiment)


def test_each_decision_is_another_training(tmp_path: Path) -> None:
    arms = {"seed": {"data": "none"}, "a": {"data": "original"}}
    arms |= {f"a-{how}": {"data": "original", "reasoning": how} for how in ("own", "mask", "empty", "off")}
    context = make_context(load_recipe(recipe_in(tmp_path, arms=arms)))
    settings = {}
    for name, trained in context.runs.items():
        if stage := train_stage(context, trained):
            settings[name] = json.dumps(stage.settings, sort_keys=True)
    assert settings["a"] == settings["a-own"], "the default"
    assert len(set(settings.values())) == 4
    tasks = list(context.tasks.values())
    asked = {name: answer_stage(context, each, tasks[0]).settings for name, each in context.runs.items()}
    assert asked["a-off"] != asked["a"] == asked["a-mask"] == asked["seed"]


@pytest.mark.parametrize(("seed", "checkpoint"), [(QWEN, CHATML), (CHATML, QWEN)])
def test_a_checkpoints_own_template_says_whether_it_thinks(tmp_path: Path, seed: str, checkpoint: str) -> None:
    """And with it, whether lm-eval's answers depend on the limit of a trace."""
    theirs = str(tiny_model(tmp_path / "theirs", chat_template=checkpoint))
    off = {"path": theirs, "reasoning": "off"}
    arms = {
        "seed": {"data": "none"},
        "theirs": {"checkpoint": {"path": theirs}},
        "theirs-off": {"checkpoint": off if checkpoint == QWEN else {"path": theirs}},
        "short": {"checkpoint": {"path": theirs}, "sampling": {"max_thinking_tokens": 5}},
    }
    path = recipe_in(tmp_path, arms=arms, evaluate={"tasks": ["ifeval"]})
    limits: dict[int | None, dict[str, Any]] = {}
    tiny_model(tmp_path / "model", chat_template=seed, context=1024)
    for limit in (None, 30):
        changed = load_recipe(path, [f"evaluate.sampling.max_thinking_tokens={limit or 'null'}"])
        context = make_context(changed)
        task = context.tasks["ifeval"]
        limits[limit] = {
            name: answer_stage(context, each, task).settings.get("max_thinking_tokens")
            for name, each in context.runs.items()
        }
        own = {name: thinks(context, arm) for name, arm in context.recipe.arms.items()}
        thinking = checkpoint == QWEN
        assert own == {"seed": seed == QWEN, "theirs": thinking, "theirs-off": False, "short": thinking}
    assert limits[None] == {"seed": None, "theirs": None, "theirs-off": None, "short": 5 if thinking else None}
    assert limits[30]["seed"] == (30 if seed == QWEN else None)
    assert (limits[30]["theirs"], limits[30]["short"]) == ((30, 5) if thinking else (None, None))


# ---- rows that bring reasoning


def with_reasoning(count: int) -> list[dict[str, Any]]:
    rows = []
    for number, row in enumerate(sum_rows(count)):
        answer = {"role": "assistant", "content": row["answer"]}
        if number % 2:
            answer["reasoning_content"] = f"Twice {number}."
        rows.append({"messages": [{"role": "user", "content": row["question"]}, answer]})
    return rows


def test_reasoning_of_a_row_is_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original"}}
    recipe = recipe_in(tmp_path, rows=with_reasoning(ROWS), arms=arms, evaluate={"tasks": []})
    verdict = run(load_recipe(recipe), tmp_path / "run")
    thoughts = [row["thought"] for row in read_rows(tmp_path / "run/arms/vanilla/data.jsonl")]
    assert {bool(thought["text"]) for thought in thoughts} == {True, False}
    assert all(thought["trained"] == bool(thought["text"]) for thought in thoughts)
    assert any("with reasoning, which is trained on as part of" in note for note in verdict["notes"])
    exported = FORMATS["jsonl"](tmp_path / "run", "vanilla", tmp_path / "out").notes
    assert not any("held reasoning" in said for said in [*exported, *caplog.messages])


BROUGHT = Thought("Twice 2.")


@pytest.mark.parametrize(
    ("how", "source", "thought", "trained"),
    [
        ("own", "original", BROUGHT, BROUGHT),
        ("own", "original", None, Thought("", False)),
        ("own", "rewrite", BROUGHT, BROUGHT),
        ("mask", "original", BROUGHT, Thought("Twice 2.", False)),
        ("mask", "rewrite", BROUGHT, Thought("", False)),
        ("mask", "original", None, Thought("", False)),
        ("empty", "original", BROUGHT, Thought("", True)),
        ("off", "original", BROUGHT, None),
        (None, "original", BROUGHT, None),
    ],
)
def test_the_think_block_of_a_training_row(how: Any, source: str, thought: Any, trained: Any) -> None:
    assert thought_of(how, source, thought) == trained


def test_reasoning_of_rows_is_left_out_for_a_model_that_does_not_think(tmp_path: Path) -> None:
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original"}}
    recipe = recipe_in(tmp_path, rows=with_reasoning(ROWS), arms=arms, evaluate={"tasks": []})
    tiny_model(tmp_path / "model", chat_template=CHATML, context=1024)
    verdict = run(load_recipe(recipe), tmp_path / "run")
    assert all("thought" not in row for row in read_rows(tmp_path / "run/arms/vanilla/data.jsonl"))
    exported = FORMATS["jsonl"](tmp_path / "run", "vanilla", tmp_path / "out").notes
    for notes in (verdict["notes"], exported):
        assert any("held reasoning, which was left out" in each for each in notes)
    assert verdict["thinking"] is None


def test_marks_of_a_trace_in_other_turns_are_counted(tmp_path: Path) -> None:
    rows = sum_rows(3)
    rows[1]["question"] += " <think>It is easy.</think>"
    path = write_rows(tmp_path / "rows.jsonl", rows)
    counts = prepare(DataConfig(path=str(path)), tmp_path, read_conversations, lambda *_: None)
    assert (counts.think_marks, counts.think_mark) == (1, "<think>")
    assert any(
        "such as <think>, stand in a turn that is not the assistant's in 1 row" in note
        for note in data_notes(counts.to_json())
    )


# ---- the recipe


@pytest.mark.parametrize(
    ("model", "arm", "said"),
    [
        ({}, {"data": "original", "reasoning": "empty"}, "call it vanilla-empty"),
        ({"reasoning": "off"}, {"data": "original", "reasoning": "mask"}, r"model\.reasoning is off"),
        ({}, {"data": "none", "reasoning": "own"}, "trains nothing"),
    ],
)
def test_a_decision_that_does_not_fit_its_arm_is_refused(model: Any, arm: Any, said: str) -> None:
    values = {"model": {"path": "m", **model}, "task": "demo-maths", "arms": {"s": {"data": "none"}, "vanilla": arm}}
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(values)


# ---- verification


EXAMPLE = Example.of((Message("user", "What is 2 plus 2?"),), "2 + 2 = 4.\n#### 4")
RIGHT = "It is 4.\n#### 4"


def verified(text: str, finish: Finish = "stop", guided: bool = True) -> Any:
    from selfdistill.generation.prompts import REWRITING

    filters, template = Filters(min_length_ratio=None), REWRITING["using"] if guided else None
    rewriter = Rewriter(template, make_grader("final_number"), Sampling(), filters, thinks=True)
    render = Renderer(tiny_tokenizer(QWEN))
    return rewriter.verify(EXAMPLE, Completion("a", text, finish), render.untrainable)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"<think>\nTwo and two.\n</think>\n\n{RIGHT}", None),
        (RIGHT, "no think trace"),
        (f"<think>\n\n</think>\n\n{RIGHT}", "empty think trace"),
        (f"<think>\nTwo <think>or</think> two.\n</think>\n\n{RIGHT}", "think trace with a think trace inside"),
        (f"<think>\nThe reference answer says 4.\n</think>\n\n{RIGHT}", "its think trace: talks about the reference"),
        (f"<think>\nI should rewrite this.\n</think>\n\n{RIGHT}", "its think trace: talks about the reference"),
        (f"<think>\nThe given answer is 4.\n</think>\n\n{RIGHT}", "its think trace: talks about the reference"),
    ],
)
def test_the_answer_is_graded_and_the_trace_looked_at_apart(text: str, fault: str | None) -> None:
    rewrite = verified(text)
    assert rewrite.grade.passed
    assert rewrite.response == RIGHT
    assert rewrite.trace_fault == fault
    assert rewrite.completion.raw == text, "the text as it was written is kept"


def test_an_own_trace_may_use_any_words() -> None:
    assert verified(f"<think>\nThe reference is missing.\n</think>\n\n{RIGHT}", guided=False).trace_fault is None


@pytest.mark.parametrize(("finish", "reason"), [("length", "cut off inside"), ("stop", "ends inside")])
def test_a_trace_that_never_closes_is_no_answer(finish: Finish, reason: str) -> None:
    rewrite = verified(f"<think>\nTwo and two.\n{RIGHT}", finish)
    assert not rewrite.grade.passed
    assert reason in rewrite.grade.reason


# ---- states and measures


@pytest.mark.parametrize(
    ("text", "finish", "state"),
    [
        ("<think>\nHm.\n</think>\n\n4", "stop", "valid"),
        ("<think>\nHm.\n</think>\n\n4", "length", "valid"),
        ("<think>\n\n</think>\n\n4", "stop", "empty"),
        ("4", "stop", "missing"),
        ("<think>\nHm", "length", "truncated"),
        ("<think>\nHm", "loop", "truncated"),
        ("<think>\nHm", "stop", "unclosed"),
        ("<think>\nA\n<think>\nB</think>\n\n4", "stop", "nested"),
        ("<think>\nThe tag `<think>` opens.\n</think>\n\n4", "stop", "valid"),
    ],
)
def test_states_of_a_trace(text: str, finish: Finish, state: str) -> None:
    assert trace_state(Completion("a", text, finish)) == state


def test_hedging_is_counted_by_words() -> None:
    assert hedging("Wait, maybe it's 4. I'm not sure. Actually it is.") == (4, 10)
    assert hedging("") == (0, 0)


def graded(states: list[str], passed: list[bool], tokens: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "bucket": "passed" if right else "failed",
            "grade": {"value": None},
            "ends": ["stop"],
            "traces": [{"state": state, "tokens": tokens + number % 5, "hedges": 2, "words": 100}],
        }
        for number, (state, right) in enumerate(zip(states, passed, strict=True))
    ]


def test_measures_are_compared_item_by_item() -> None:
    whole, half = ["valid"] * 60, ["valid", "missing"] * 30
    rows = {
        "seed": [graded(whole, [True] * 60, 100)],
        "vanilla": [graded(half, [True] * 60, 50)],
    }
    found = trace_results({"maths": rows}, [("vanilla", "seed", False)], 0.05)
    (task,) = found["tasks"]
    vanilla = task["arms"]["vanilla"]
    assert vanilla["states"] == {"valid": 30, "missing": 30}
    assert vanilla["valid"]["value"] == 0.5
    assert (vanilla["accuracy"]["n"], vanilla["accuracy"]["value"]) == (30, 1.0)
    assert 50 <= vanilla["tokens"]["low"] <= vanilla["tokens"]["value"] <= vanilla["tokens"]["high"] <= 55
    assert vanilla["hedges"]["value"] == pytest.approx(2)
    (valid,), (tokens,) = found["comparisons"]["valid"], found["comparisons"]["tokens"]
    assert (valid["word"], valid["lost"], valid["difference"]) == ("forgot", 30, -0.5)
    assert (tokens["word"], tokens["n"], tokens["difference"]) == ("lower", 30, pytest.approx(-50))
    assert found["comparisons"]["hedges"][0]["word"] == "can't tell"
    assert found["comparisons"]["accuracy"][0]["n"] == 30


def test_runs_of_an_arm_may_have_their_valid_traces_in_different_items() -> None:
    runs = [
        graded(states * 20, [True] * 60, 50) for states in (["valid", "missing", "valid"], ["missing", *["valid"] * 2])
    ]
    found = trace_results({"maths": {"seed": [graded(["valid"] * 60, [True] * 60, 100)], "vanilla": runs}}, [], 0.05)
    vanilla = found["tasks"][0]["arms"]["vanilla"]
    assert vanilla["states"] == {"valid": 80, "missing": 40}
    assert vanilla["tokens"]["n"] == 20
    assert 50 <= vanilla["tokens"]["value"] <= 55


def test_an_error_has_no_trace() -> None:
    assert trace_row(Completion("a", "", "error", error="x")) == []


# ---- limits of a trace while it is decoded

MENTIONED = "<think>\na `</think>` b</think>"


@pytest.mark.parametrize(
    ("text", "kept", "finish"),
    [
        ("<think>\nab</think>\n\n" + "x" * 50, "<think>\nab</think>" + ("\n\n" + "x" * 50)[:10], "length"),
        ("<think>\n" + "y" * 80, ("<think>\n" + "y" * 80)[:40], "length"),
        ("z" * 60, "z" * 10, "length"),
        ("<think>\nab</think>\n\nok<|im_end|>", "<think>\nab</think>\n\nok", "stop"),
        (MENTIONED + "x" * 50, MENTIONED + "x" * 10, "length"),
        ("<think>\n" + "a" * 20 + "</think>" + "b" * 30, "<think>\n" + "a" * 20 + "</think>" + "b" * 10, "length"),
    ],
)
def test_trace_and_answer_have_limits_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: str, finish: str
) -> None:
    """The tokens of this tokenizer are bytes; the limits are 40 for a trace and 10 for an answer."""
    import torch

    from selfdistill.backends import decoding

    model = ModelConfig(path=str(tiny_model(tmp_path / "m", chat_template=QWEN)), dtype="float32")
    wanted = tiny_tokenizer(QWEN).encode(text, add_special_tokens=False)
    step = 0

    def choose(logits: torch.Tensor, *_: Any) -> torch.Tensor:
        nonlocal step
        step += 1
        return torch.full((len(logits),), wanted[step - 1])

    monkeypatch.setattr(decoding, "choose", choose)
    sampling = Sampling(max_new_tokens=10, max_thinking_tokens=40, stop_loops=False)
    with open_backend("hf", model) as backend:
        (answer,) = backend.generate([Prompt("a", (Message("user", "Hi"),))], sampling)
    assert (answer.text, answer.finish) == (kept, finish)
    closed = kept.rfind("</think>")
    assert answer.thinking_tokens == (
        closed + len("</think>") if closed >= 0 else len(kept) if "<think>" in kept else 0
    )


def test_a_server_has_one_limit_and_may_count_the_tokens_of_a_trace(server: Server) -> None:
    message = {"role": "assistant", "content": "4", "reasoning_content": "Two."}
    usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    server.script = lambda *_: {"choices": [choice], "usage": usage}
    model = ModelConfig.model_validate({"path": "m", "server": {"url": server.url}})
    with open_backend("openai", model) as backend:
        sampling = Sampling(max_new_tokens=10, max_thinking_tokens=40)
        (answer,) = backend.generate([Prompt("a", (Message("user", "Hi"),))], sampling)
    assert server.bodies[0]["max_tokens"] == 50
    assert trace_row(answer) == [{"state": "valid", "tokens": 5, "hedges": 0, "words": 1}]


def test_a_limit_of_traces_does_not_concern_a_model_without_them(tmp_path: Path) -> None:
    model = ModelConfig(path=str(tiny_model(tmp_path / "m")), dtype="float32")
    with open_backend("hf", model) as backend:
        sampling = Sampling(max_new_tokens=6, max_thinking_tokens=40, stop_loops=False)
        (answer,) = backend.generate([Prompt("a", (Message("user", "Hi"),))], sampling)
    assert answer.tokens <= 6
    assert answer.thinking_tokens is None


def test_settings_of_earlier_experiments_keep_their_fingerprints() -> None:
    assert "max_thinking_tokens" not in Sampling().model_dump()
    assert "reasoning" not in ModelConfig(path="m").deciding("answer")
    assert "reasoning" not in ArmConfig(data="original").deciding("train")
