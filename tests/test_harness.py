"""Knowledge tasks: lm-eval asks, on local files and on its own definitions, and what it finds is saved item by item."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.rows import read_rows, sum_rows, write_rows
from support.tiny import CHATML, tiny_model, tiny_tokenizer

from selfdistill import make_recipe, run
from selfdistill.backends import hf
from selfdistill.backends.batches import TokenRow
from selfdistill.backends.hf import HFBackend
from selfdistill.demo import SEED
from selfdistill.errors import DataError, RecipeError, StageError
from selfdistill.recipe import ModelConfig, Recipe, Sampling, TaskEntry
from selfdistill.tasks import TASKS, get_task
from selfdistill.types import WHOLE, Grade, Message, Prompt, Score

pytest.importorskip("lm_eval")

from selfdistill.harness import Benchmark, evaluate, load_benchmark, open_lm

LOCAL = {
    "mmlu": "mmlu/mmlu_test_sample.jsonl",
    "arc-easy": "arc/arc_easy_validation_sample.jsonl",
    "arc-challenge": "arc/arc_challenge_validation.jsonl",
    "hellaswag": "hellaswag/hellaswag_validation_sample.jsonl",
    "winogrande": "winogrande/winogrande_xl_validation_sample.jsonl",
    "truthfulqa-mc1": "truthfulqa/truthfulqa_mc_sample.jsonl",
    "truthfulqa-mc2": "truthfulqa/truthfulqa_mc_sample.jsonl",
}
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "mmlu": [
        {"subject": subject, "question": f"Which is {c}?", "choices": [c, "nine", "an owl", "Tuesday"], "answer": a}
        for subject, a in (("abstract_algebra", "A"), ("anatomy", 0), ("anatomy", "A"))
        for c in COLOURS
    ],
    "arc-easy": [
        {
            "question": f"What is {c}?",
            "choices": {"text": [c, "nine", "an owl"], "label": list("123")},
            "answerKey": "1",
        }
        for c in COLOURS
    ],
    "hellaswag": [
        {"query": f"Painting: He takes the {c} paint. He", "choices": ["sings.", f"paints it {c}."], "gold": 1}
        for c in COLOURS
    ],
    "winogrande": [
        {
            "sentence": f"The {c} cup beat the mug, as _ was light.",
            "option1": "the cup",
            "option2": "mug",
            "answer": "1",
        }
        for c in COLOURS
    ],
    "truthfulqa-mc2": [
        {
            "question": f"Is {c} loud?",
            "mc1_targets": {"Yes.": 0, "No.": 1},
            "mc2_targets": {"Yes.": 0, "No.": 1, "Not.": 1},
        }
        for c in COLOURS
    ],
}
ROWS["arc-challenge"], ROWS["truthfulqa-mc1"] = ROWS["arc-easy"], ROWS["truthfulqa-mc2"]
IFEVAL = Path(__file__).parent / "data" / "ifeval.jsonl"


def load(name: str, path: Path | None, **settings: Any) -> Benchmark:
    return load_benchmark(get_task(name), TaskEntry(task=name, path=path and str(path), **settings))


@contextmanager
def opened(model: Path | str = "demo", adapter: Path | None = None, **settings: Any) -> Iterator[Any]:
    config = ModelConfig(path=str(model), dtype="float32", device="cpu", **settings)
    with HFBackend(config, adapter and str(adapter)) as backend:
        yield open_lm("hf", config, lambda: backend)


@pytest.fixture(scope="module")
def demo_lm() -> Iterator[Any]:
    with opened() as lm:
        yield lm


@pytest.fixture
def punkt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check of ours splits sentences; it is enough that the folder is there."""
    import nltk

    (tmp_path / "nltk" / "tokenizers" / "punkt_tab").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])


def directly(task: Any, manager: Any, few_shot: int | None = None) -> dict[str, Any]:
    """lm-eval as its own command calls it, on the model folder."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(SEED), dtype="float32", device="cpu", batch_size=4)
    found = simple_evaluate(
        lm,
        tasks=[task],
        task_manager=manager,
        num_fewshot=few_shot,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    results: dict[str, Any] = found["results"]
    return results


def local_manager(**arguments: str) -> Any:
    from lm_eval.tasks import TaskManager

    folder = next(iter({get_task(name).harness.yamls for name in LOCAL}))  # type: ignore[union-attr]
    return TaskManager(include_path=folder, include_defaults=False, metadata=arguments)


@pytest.fixture(autouse=True)
def no_survey_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """simple_evaluate notes compilers and packages beside its results, which takes seconds."""
    import lm_eval.evaluator

    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)


def test_real_files_give_the_figures_that_lm_eval_gives(real_data: Path, tmp_path: Path, demo_lm: Any) -> None:
    for name in LOCAL:
        if name == "mmlu":
            continue
        path = write_rows(tmp_path / f"{name}.jsonl", read_rows(real_data / LOCAL[name])[:12])
        score = evaluate(load(name, path), demo_lm, tmp_path / name)
        harness = get_task(name).harness
        assert harness
        found = directly(harness.task, local_manager(path=str(path)))[harness.task]
        assert score.n == 12
        assert score.value == pytest.approx(found[f"{harness.metric},none"], abs=1e-6)
        assert score.details["stderr"] == pytest.approx(found[f"{harness.metric}_stderr,none"], abs=1e-6)


def test_real_mmlu_gives_the_figures_that_lm_eval_gives(real_data: Path, tmp_path: Path, demo_lm: Any) -> None:
    from lm_eval.api.metrics import pooled_sample_stderr

    wanted = ("anatomy", "virology", "high_school_mathematics")
    rows = [row for row in read_rows(real_data / LOCAL["mmlu"]) if row["subject"] in wanted]
    path, dev = (
        write_rows(tmp_path / "test.jsonl", rows),
        write_rows(tmp_path / "mmlu_dev.jsonl", read_rows(real_data / "mmlu/mmlu_dev.jsonl")),
    )
    score = evaluate(load("mmlu", path), demo_lm, tmp_path / "out")
    subjects = [
        directly("mmlu", local_manager(path=str(path), shots=str(dev), subject=subject), 5)["mmlu"]
        for subject in wanted
    ]
    assert (score.n, score.details["few_shot"]) == (24, 5)
    assert score.value == pytest.approx(sum(found["acc,none"] for found in subjects) / 3)
    errors = [found["acc_stderr,none"] for found in subjects]
    assert score.details["stderr"] == pytest.approx(pooled_sample_stderr(errors, [8, 8, 8]))


def test_hub_tasks_are_lm_evals_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_lm: Any) -> None:
    """A folder named as the dataset is on the hub is what `datasets` reads in its place."""
    import lm_eval.tasks

    repo = tmp_path / "allenai" / "ai2_arc"
    rows = ROWS["arc-easy"]
    for split in ("train", "validation", "test"):
        write_rows(repo / "ARC-Easy" / f"{split}.jsonl", rows if split == "test" else rows[:2])
    (repo / "README.md").write_text(
        "---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: ARC-Easy/{s}.jsonl\n" for s in ("train", "validation", "test"))
        + "---\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    score = evaluate(load("arc-easy", None, few_shot=2), demo_lm, tmp_path / "hub")
    folder = Path(lm_eval.tasks.__file__).parent / "arc"
    own = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    assert score.value == pytest.approx(directly("arc_easy", own, 2)["arc_easy"]["acc,none"])
    # The same rows as a local file are asked in the same words.
    hub = evaluate(load("arc-easy", None), demo_lm, tmp_path / "hub")
    local = evaluate(load("arc-easy", repo / "ARC-Easy" / "test.jsonl"), demo_lm, tmp_path / "local")
    assert (hub.value, hub.details) == (local.value, local.details)
    assert read_rows(tmp_path / "hub" / "answers.jsonl")[0]["log_likelihoods"] == pytest.approx(
        read_rows(tmp_path / "local" / "answers.jsonl")[0]["log_likelihoods"]
    )


def test_without_the_hub_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"'winogrande' can't be loaded.*local file"):
        load("winogrande", None)


FORMAT = [
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "process_results",
    "metric_list",
    "output_type",
    "target_delimiter",
    "gen_prefix",
    "fewshot_delimiter",
    "fewshot_config",
    "generation_kwargs",
    "filter_list",
]


@pytest.mark.parametrize("name", [*LOCAL, "ifeval"])
def test_our_yamls_ask_and_count_as_lm_evals_own(name: str, punkt: None) -> None:
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    harness = get_task(name).harness
    assert harness
    folder = Path(lm_eval.tasks.__file__).parent / harness.folder
    theirs = next(
        yaml
        for path in folder.glob("*.yaml")
        if (yaml := load_yaml(path, resolve_func=True)).get("task") in (harness.task, "mmlu_anatomy")
    )
    ours = load_yaml(Path(harness.yamls) / f"{harness.task}.yaml", resolve_func=True)

    def plain(value: Any) -> str:
        return repr(value).split(" at 0x")[0]

    for key in FORMAT:
        assert plain(ours.get(key)) == plain(theirs.get(key)), key
    assert ours["metadata"]["version"] == theirs["metadata"]["version"]


def test_mmlu_describes_each_subject_as_lm_eval_does() -> None:
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml
    from lm_eval.utils import apply_template

    mmlu = get_task("mmlu").harness
    assert mmlu
    ours = load_yaml(Path(mmlu.yamls) / "mmlu.yaml", resolve_func=True)["description"]
    yamls = [load_yaml(path) for path in (Path(lm_eval.tasks.__file__).parent / mmlu.folder).glob("mmlu_*.yaml")]
    assert len(yamls) == 57
    for yaml in yamls:
        assert apply_template(ours, {"subject": yaml["dataset_name"]}) == yaml["description"]


@pytest.mark.parametrize("chat_template", ["chat", "alpaca"])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_model_is_fed_what_the_renderer_makes(chat_template: str, adds_bos: bool, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", context=2048)
    tiny_tokenizer(adds_bos=adds_bos).save_pretrained(model)
    rows = ROWS["mmlu"][:1]
    write_rows(tmp_path / "mmlu_dev.jsonl", ROWS["mmlu"][1:3])
    benchmark = load("mmlu", write_rows(tmp_path / "mmlu.jsonl", rows), few_shot=2, system="Be brief.")
    config = ModelConfig(path=str(model), dtype="float32", device="cpu", chat_template=chat_template)
    fed: list[list[int]] = []
    with HFBackend(config) as backend:
        weights, renderer = backend.loaded()
        weights.register_forward_pre_hook(
            lambda _module, _args, given: fed.extend(given["input_ids"].tolist()), with_kwargs=True
        )
        evaluate(benchmark, open_lm("hf", config, lambda: backend), tmp_path / "out")

    def question(row: dict[str, Any]) -> str:
        lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True)]
        return "\n".join([row["question"], *lines, "Answer:"])

    subject = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    chat = [Message("system", f"Be brief.\n\n{subject}")]
    for row in ROWS["mmlu"][1:3]:
        chat += [Message("user", question(row)), Message("assistant", "A")]
    chat += [Message("user", question(rows[0]))]
    # The prompt is read once for the four letters, then all but the last token of each.
    prompt, *letters = fed
    expected = {tuple(renderer.ids((*chat, Message("assistant", letter)))[:-1]) for letter in "ABCD"}
    assert {(*prompt, *letter) for letter in letters} == expected
    assert prompt.count(renderer.tokenizer.bos_token_id) == (chat_template == "alpaca")


@pytest.mark.parametrize("name", ROWS)
def test_items_are_the_same_in_every_arm(name: str, tmp_path: Path, demo_lm: Any) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS[name])
    benchmark = load(name, path, n=5, seed=3)
    scores, told = [], list[tuple[int, int]]()
    with opened(tiny_model(tmp_path / "other", context=2048)) as other:
        scores.append(evaluate(benchmark, demo_lm, tmp_path / "seed", lambda *step: told.append(step)))
        scores.append(evaluate(benchmark, other, tmp_path / "other"))
    verdicts = [read_rows(tmp_path / arm / "grades.jsonl") for arm in ("seed", "other")]
    items = list(benchmark.items())
    assert [[row["id"] for row in rows] for rows in verdicts] == [[item.id for item in items]] * 2
    assert len({item.id for item in items}) == 5
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] == len(told) - 1
    for score, rows, arm in zip(scores, verdicts, ("seed", "other"), strict=True):
        assert score == Score.from_json(json.loads(json.dumps(score.to_json())))
        alike = len({row["grade"].get("value", row["bucket"]) for row in rows}) == 1
        assert score.interval in (("wilson", "t over items") if alike else ("lm-eval standard error",))
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.high
        assert (score.n, score.task) == (5, name)
        graded = [Grade.from_json(row["grade"]) for row in rows]
        values = [v.value if v.value is not None else float(v.passed) for v in graded]
        assert score.value == pytest.approx(sum(values) / 5)
        assert score.passed == [row["bucket"] for row in rows].count("passed")
        answers = read_rows(tmp_path / arm / "answers.jsonl")
        assert [answer["id"] for answer in answers] == [row["id"] for row in rows]
        assert all(answer["text"] in answer["choices"] for answer in answers)
        if name != "truthfulqa-mc2":
            right = [answer["text"] == item.reference for answer, item in zip(answers, items, strict=True)]
            assert right == [v.passed for v in graded]


def test_draws_are_nested(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["mmlu"])
    drawn = [{item.id for item in load("mmlu", path, n=n, seed=1).items()} for n in (1, 4, None)]
    assert drawn[0] < drawn[1] < drawn[2]


def test_an_adapter_scores_as_its_merged_weights(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tiny_model(tmp_path / "base", context=2048)
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    model.save_pretrained(tmp_path / "adapter")
    merged = tiny_model(tmp_path / "merged", context=2048)
    model.merge_and_unload().save_pretrained(merged)
    benchmark = load("arc-easy", write_rows(tmp_path / "rows.jsonl", ROWS["arc-easy"]))
    found = {}
    for arm, path, adapter in (("lora", base, tmp_path / "adapter"), ("merged", merged, None), ("base", base, None)):
        with opened(path, adapter) as lm:
            evaluate(benchmark, lm, tmp_path / arm)
        found[arm] = [
            number for row in read_rows(tmp_path / arm / "answers.jsonl") for number in row["log_likelihoods"]
        ]
    assert found["lora"] == pytest.approx(found["merged"], rel=1e-4)
    assert found["lora"] != pytest.approx(found["base"], rel=1e-2)


BAD = [
    ("mmlu", "answer", None, "`answer` is missing"),
    ("mmlu", "answer", "E", "neither a letter"),
    ("mmlu", "choices", ["one"], "1 choices, not 4"),
    ("arc-easy", "choices", {"text": ["a"]}, "`label` is missing"),
    ("arc-challenge", "answerKey", "7", "none of the 3 labels"),
    ("hellaswag", "query", "", "`query` is not a text"),
    ("hellaswag", "gold", 2, "not an index"),
    ("winogrande", "sentence", "No blank.", "must have one blank"),
    ("winogrande", "option2", None, "`option2` is missing"),
    ("truthfulqa-mc1", "mc1_targets", {"Yes.": 0}, "`mc1_targets` needs true choices"),
    ("truthfulqa-mc1", "mc1_targets", {"choices": ["a", "b"], "labels": [1]}, "not as many labels as choices"),
    ("truthfulqa-mc2", "mc2_targets", None, "`mc2_targets` is missing"),
]


@pytest.mark.parametrize(("name", "field", "value", "reason"), BAD)
def test_a_bad_row_is_named_before_any_model(name: str, field: str, value: Any, reason: str, tmp_path: Path) -> None:
    broken = {key: held for key, held in ROWS[name][2].items() if key != field} | (
        {} if value is None else {field: value}
    )
    path = write_rows(tmp_path / "rows.jsonl", [*ROWS[name][:2], broken])
    with pytest.raises(DataError, match=rf"(?s)rows\.jsonl line 3.*{reason}"):
        load(name, path)


def test_other_forms_of_a_file_are_the_same_items(tmp_path: Path) -> None:
    hub = {"choices": ["Yes.", "No."], "labels": [0, 1]}
    row = {"question": "Is red loud?", "mc1_targets": hub, "mc2_targets": hub}
    (item,) = load("truthfulqa-mc1", write_rows(tmp_path / "hub.jsonl", [row])).items()
    (other,) = load("truthfulqa-mc1", write_rows(tmp_path / "own.jsonl", [
        {**row, "mc1_targets": {"Yes.": 0, "No.": 1}, "mc2_targets": {"Yes.": 0, "No.": 1}}
    ])).items()  # fmt: skip
    assert item == other
    assert item.reference == "No."


def test_too_many_few_shot_examples_stop_a_run_before_training_though_the_items_are_there(tmp_path: Path) -> None:
    questions = write_rows(tmp_path / "arc.jsonl", ROWS["arc-easy"])
    steps: list[str] = []

    def stop(step: str, _done: int, _total: int, _note: str = "") -> None:
        if step.startswith("rewrite"):
            raise KeyboardInterrupt

    def recipe(**task: Any) -> Recipe:
        return make_recipe(
            {
                "model": {"path": str(tiny_model(tmp_path / "model")), "dtype": "float32"},
                "data": {"path": str(write_rows(tmp_path / "rows.jsonl", sum_rows(4)))},
                "rewrite": {"backend": "fake"},
                "evaluate": {"tasks": [{"task": "arc-easy", "path": str(questions), **task}]},
            }
        )

    with pytest.raises(KeyboardInterrupt):
        run(recipe(), tmp_path / "run", stop)
    assert (tmp_path / "run" / "items" / "arc-easy.jsonl").is_file()
    with pytest.raises(RecipeError, match="'arc-easy' asks for 2 few-shot examples, and there are 0"):
        run(recipe(few_shot=2), tmp_path / "run", lambda step, *_: steps.append(step))
    assert {*steps} <= {WHOLE}


def test_few_shot_examples_lie_beside_mmlu_or_nowhere(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["mmlu"])
    assert load("mmlu", path).few_shot == 0
    with pytest.raises(RecipeError, match=r"5 few-shot examples.*mmlu_dev\.jsonl"):
        load("mmlu", path, few_shot=5)
    write_rows(tmp_path / "mmlu_dev.jsonl", ROWS["mmlu"])
    assert load("mmlu", path).few_shot == 5
    assert load("mmlu", path, few_shot=1).few_shot == 1
    with pytest.raises(RecipeError, match="hub's training split"):
        load("arc-easy", write_rows(tmp_path / "arc.jsonl", ROWS["arc-easy"]), few_shot=1)


def test_underflow_is_not_zero(tmp_path: Path) -> None:
    """lm-eval's mc2 is 0 / 0 where every candidate is too long; one short row of the two can be judged."""
    long = {"x" * 400: 1, "y" * 400: 0}
    rows = [{"question": "Long?", "mc1_targets": long, "mc2_targets": long}, ROWS["truthfulqa-mc2"][0]]
    with opened(tiny_model(tmp_path / "model", context=2048)) as lm:
        score = evaluate(load("truthfulqa-mc2", write_rows(tmp_path / "rows.jsonl", rows)), lm, tmp_path)
    assert (score.n, score.unjudged) == (2, 1)
    assert score.reasons["probabilities underflow"] == 1
    assert score.value is not None
    assert 0 < score.value < 1


def test_prompts_that_are_cut_are_counted(tmp_path: Path) -> None:
    rows = [*ROWS["arc-easy"][:2], {**ROWS["arc-easy"][2], "question": "Why? " * 200}]
    with opened(tiny_model(tmp_path / "model", context=512)) as lm:
        score = evaluate(load("arc-easy", write_rows(tmp_path / "rows.jsonl", rows)), lm, tmp_path)
    assert score.details["cut_prompts"] == 1


def test_ifeval_gives_the_figures_that_lm_eval_gives(tmp_path: Path, punkt: None, demo_lm: Any) -> None:
    rows = [row for row in read_rows(IFEVAL) for _ in range(2)]
    path = write_rows(tmp_path / "ifeval.jsonl", rows)
    benchmark = load("ifeval", path, max_new_tokens=12)
    score = evaluate(benchmark, demo_lm, tmp_path)
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, metadata={"path": str(path)})
    harness = get_task("ifeval").harness
    assert harness
    (task,) = manager.load([str(Path(harness.yamls) / "ifeval.yaml")])["tasks"].values()
    task.set_config("generation_kwargs", {"max_gen_toks": 12}, update=True)
    found = directly(task, manager)["ifeval"]
    assert score.value == found["prompt_level_strict_acc,none"]
    assert score.details["stderr"] == found["prompt_level_strict_acc_stderr,none"]
    assert score.details["inst_level_loose_acc"] == found["inst_level_loose_acc,none"]
    assert 0 < score.passed < score.n == 12
    assert all(reason.startswith("breaks ") for reason in score.reasons)


def test_ifeval_grades_what_follows_the_trace(tmp_path: Path, punkt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks are special tokens, which lm-eval leaves out of a text."""
    said = [  # no commas; lower case with a word in it; shorter than 400 words
        ("[THINK]Well, no commas, then.[/THINK]Rain falls. It is wet.", "passed"),
        ("[THINK]all of it, stone too[/THINK]A RIVER.", "failed"),
        ("[THINK]Bread is", "unanswered"),
    ]
    rows = [read_rows(IFEVAL)[index] for index in (0, 1, 3)]
    benchmark = load("ifeval", write_rows(tmp_path / "ifeval.jsonl", rows), max_new_tokens=90)
    with opened(tiny_model(tmp_path / "model", special=("[THINK]", "[/THINK]"), context=1024)) as lm:

        def replies(_model: Any, batch: list[TokenRow], *_: Any) -> list[list[int]]:
            found = []
            for asked in batch:
                question = lm.tokenizer.decode(asked.ids)
                text = next(text for row, (text, _) in zip(rows, said, strict=True) if row["prompt"] in question)
                found.append(lm.tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False))
            return found

        monkeypatch.setattr(hf, "decode", replies)
        score = evaluate(benchmark, lm, tmp_path)
    assert (score.passed, score.failed, score.unanswered, score.value) == (1, 1, 1, pytest.approx(1 / 3))
    assert [row["bucket"] for row in read_rows(tmp_path / "grades.jsonl")] == [bucket for _, bucket in said]
    assert [row["text"] for row in read_rows(tmp_path / "answers.jsonl")] == [text for text, _ in said], (
        "nothing is lost"
    )


OPENS = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")


def test_choices_are_scored_after_an_empty_think_block(tmp_path: Path) -> None:
    """Where an answer starts, not inside the trace that the prompt opens."""
    path = write_rows(tmp_path / "rows.jsonl", ROWS["arc-easy"])
    with opened(tiny_model(tmp_path / "model", chat_template=OPENS, context=2048)) as lm:
        asked: list[str] = []
        scored = lm._loglikelihood_tokens

        def noting(requests: Any, *args: Any, **kwargs: Any) -> Any:
            asked.extend(lm.tokenizer.decode(context + answer) for _, context, answer in requests)
            return scored(requests, *args, **kwargs)

        lm._loglikelihood_tokens = noting
        score = evaluate(load("arc-easy", path), lm, tmp_path / "out")
    assert score.n == len(ROWS["arc-easy"])
    assert asked
    choices = [choice for row in ROWS["arc-easy"] for choice in row["choices"]["text"]]
    for text in asked:
        assert text.partition("assistant\n<think>\n\n</think>\n\n")[2].strip() in choices


def test_ifeval_limits_a_trace_and_its_answer_apart(
    tmp_path: Path, punkt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(path=str(tiny_model(tmp_path / "m", chat_template=OPENS, context=4096)), dtype="float32")
    rows = read_rows(IFEVAL)[:2]
    benchmark = load("ifeval", write_rows(tmp_path / "ifeval.jsonl", rows), max_new_tokens=9)
    trace, said = "I may.</think>", ["\n\nRain.<|im_end|>", "Rain rain"]  # the second is cut off at 9 tokens
    with HFBackend(config) as backend:
        lm = open_lm("hf", config, lambda: backend, 30)
        limits: list[int] = []

        def replies(_model: Any, batch: list[TokenRow], *_: Any) -> list[list[int]]:
            limits.extend(row.limit for row in batch)
            texts = [f"{trace}{said.pop()}" for _ in batch]
            return [lm.tokenizer.encode(text, add_special_tokens=False) for text in texts]

        monkeypatch.setattr(hf, "decode", replies)
        evaluate(benchmark, lm, tmp_path)
    assert limits == [39, 39]
    graded = read_rows(tmp_path / "grades.jsonl")
    traces = [trace for row in graded for trace in row["traces"]]
    assert [(each["state"], each["tokens"]) for each in traces] == [("valid", len(trace))] * 2
    assert sorted(end for row in graded for end in row["ends"]) == ["limit", "stop"]
    assert all(answer["text"].startswith("<think>") for answer in read_rows(tmp_path / "answers.jsonl"))


def test_the_folders_generation_settings_have_no_say(
    tmp_path: Path, punkt: None, demo_lm: Any, strong_seed: str
) -> None:
    """lm-eval's answers are those of the backend, whatever generation_config.json is beside the weights."""
    benchmark = load("ifeval", IFEVAL, max_new_tokens=24)
    score = evaluate(benchmark, demo_lm, tmp_path / "own")
    config = ModelConfig(path=strong_seed, dtype="float32", device="cpu")
    with HFBackend(config) as backend:
        same = evaluate(benchmark, open_lm("hf", config, lambda: backend), tmp_path / "strong")
        items = {item.id: item for item in benchmark.items()}
        asked = [Prompt(name, item.prompt) for name, item in items.items()]
        expected = {answer.id: answer.text for answer in backend.generate(asked, Sampling(max_new_tokens=24))}
    assert same == score
    for folder in ("own", "strong"):
        found = {row["id"]: row["text"] for row in read_rows(tmp_path / folder / "answers.jsonl")}
        assert found == expected


def test_ifeval_needs_room_for_its_answers(tmp_path: Path, punkt: None) -> None:
    benchmark = load("ifeval", IFEVAL)
    with opened(tiny_model(tmp_path / "model", context=512)) as lm, pytest.raises(StageError, match="max_new_tokens"):
        evaluate(benchmark, lm, tmp_path / "out")


def test_ifeval_rows_that_cant_be_graded_show_before_any_model(tmp_path: Path, punkt: None) -> None:
    rows = read_rows(IFEVAL)
    rows[1]["instruction_id_list"][0] = "no:such_check"
    with pytest.raises(DataError, match=r"index 1 can't be graded.*no:such_check"):
        load("ifeval", write_rows(tmp_path / "rows.jsonl", rows))


def test_ifeval_without_its_sentence_splitter(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(StageError, match=r"python -m nltk\.downloader punkt_tab"):
        load("ifeval", IFEVAL)


def test_nothing_of_the_process_is_left_changed(
    tmp_path: Path, demo_lm: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    from tqdm import tqdm

    bar, hook, level, state = tqdm.__init__, demo_lm.cache_hook, logging.getLogger("lm_eval").level, random.getstate()
    evaluate(load("winogrande", write_rows(tmp_path / "rows.jsonl", ROWS["winogrande"])), demo_lm, tmp_path)
    assert (tqdm.__init__, demo_lm.cache_hook, logging.getLogger("lm_eval").level) == (bar, hook, level)
    assert random.getstate() == state
    assert capfd.readouterr() == ("", "")


def test_engines_without_log_likelihoods_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"'openai'.*hf or vllm"):
        open_lm("openai", ModelConfig(path="demo"), lambda: pytest.fail("no model is needed"))


def test_without_lm_eval_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdistill.harness.benchmark.find_spec", lambda name: None)
    with pytest.raises(StageError, match=r"lm_eval.*knowledge"):
        load("arc-easy", None)


def test_every_task_of_lm_evals_has_its_yaml() -> None:
    tasks = [task for task in map(get_task, TASKS) if task.harness]
    assert len(tasks) == 8
    for task in tasks:
        assert task.harness
        assert (Path(task.harness.yamls) / f"{task.harness.task}.yaml").is_file()


def test_likelihoods_that_are_no_numbers_are_unjudged(tmp_path: Path) -> None:
    """lm-eval takes the first candidate for the likeliest then, which in TruthfulQA is the right one."""
    with opened(tiny_model(tmp_path / "model")) as lm:
        weights = lm.model.get_output_embeddings().weight
        weights.data.fill_(float("nan"))
        score = evaluate(
            load("truthfulqa-mc1", write_rows(tmp_path / "rows.jsonl", ROWS["truthfulqa-mc1"])), lm, tmp_path
        )
    assert (score.value, score.unjudged) == (None, len(ROWS["truthfulqa-mc1"]))
    assert score.reasons["the model's likelihoods are not numbers"] == score.n


def test_likelihoods_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """Whether prompts begin alike, and which continuations stand beside a continuation, changes no likelihood."""
    import torch

    model = tiny_model(tmp_path / "model", context=512)
    beginning = list(range(10, 60))
    pairs = [
        ([*beginning, 61, 62], [63, 64, 65]),
        ([*beginning, 61, 62], [63]),
        ([*beginning, 61, 62], [66] * 9),
        (beginning, [70, 71]),
        ([200, 201], [202]),
    ]
    with HFBackend(ModelConfig(path=str(model), dtype="float32", device="cpu")) as backend:
        weights, _ = backend.loaded()
        for group in (pairs, pairs[:4], pairs[:1], pairs[::-1]):
            found = dict(backend.log_likelihoods(group))
            for place, (prompt, answer) in enumerate(group):
                with torch.inference_mode():
                    logits = weights(input_ids=torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
                expected = logits.log_softmax(-1)[range(len(answer)), answer].sum()
                assert found[place][0] == pytest.approx(float(expected), abs=1e-4)
                assert found[place][1] == (logits.argmax(-1).tolist() == answer)
