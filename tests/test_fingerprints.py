"""The steps that run again when a key of a recipe changes are those that its field declares, for every key."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfdistill.demo import SEED
from selfdistill.errors import RecipeError
from selfdistill.pipeline.context import Context, make_context
from selfdistill.pipeline.evaluate import grade_stage
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import make_recipe
from selfdistill.recipe.keys import Key, recipe_keys
from selfdistill.store.stage import Stage, plain

# A value that differs from the recipe's, for keys whose type or check does not allow a simple change.
CHANGED: dict[str, Any] = {
    "model.dtype": "bfloat16",
    "model.score_dtype": "bfloat16",
    "model.device": "cpu",
    "model.chat_template": "alpaca",
    "model.tools_in": "system",
    "model.reasoning": "off",
    "model.date": "2024-02-29",
    "model.server.api": "completions",
    "model.engine.speculate": "reference",
    "model.ray.backend": "fake",
    "model.ray.address": "auto",
    "model.labels": {"0": "safe"},
    "train.report_to": ["tensorboard"],
    "data.format": "prompt_completion",
    "data.on_bad_row": "skip",
    "rewrite.preset": "paper",
    "rewrite.template": "refer",
    "rewrite.backend": "fake",
    "rewrite.grader": "choice",
    "train.method": "full",
    "train.adapter.targets": "all-linear",
    "train.schedule": "linear",
    "train.dtype": "bfloat16",
    "train.batch_size": 16,
    "train.micro_batch_size": 4,
    "train.gradient_checkpointing": True,
    "train.extra": {"loss_type": "dft"},
    "arms.*.data": 0.5,
    "arms.*.template": "refer",
    "arms.*.best_of": 3,
    "arms.*.replay.format": "prompt_completion",
    "arms.*.replay.columns": {"question": "q"},
    "arms.*.replay.on_bad_row": "skip",
    "arms.*.train": {"lr": 0.5},
    "seeds": [0, 1],
    "sweep": {"n": [3]},
    "evaluate.tasks.*.name": "another",
    "evaluate.tasks.*.format": "prompt_completion",
    "evaluate.tasks.*.on_bad_row": "skip",
    "evaluate.backend": "fake",
    "train.budget.probes": 0.03,
    "train.budget.action": "keep",
    "train.budget.suite": "demo",
    "train.budget.step": "easy",
    "train.budget.without": ["probe-json"],
    "judge.backend": "fake",
    "gap": False,
    "sandbox": "none",
}
# Keys that change the arms, tasks or names of stages. Other tests are about these.
ELSEWHERE = {
    "task", "rewrite.preset", "arms.*.of", "arms.*.alpha", "arms.*.checkpoint", "arms.*.sampling",
    "arms.*.replay.task", "arms.*.reasoning", "rewrite.own_unchecked", "evaluate.tasks.*.task",
    "evaluate.tasks.*.few_shot", "shift.task",
}  # fmt: skip


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe with every kind of stage and every section."""
    folder = tmp_path_factory.mktemp("fingerprints")
    for name in ("rows", "others", "replayed", "more", "items"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"question": name, "answer": "#### 1"}) + "\n")
    for name in ("seed", "tuned"):
        shutil.copytree(SEED, folder / name)
    (folder / "tuned" / "config.json").write_text((SEED / "config.json").read_text() + "\n")
    model = {"path": str(folder / "seed"), "server": {"url": "http://127.0.0.1:1/v1"}, "engine": {}, "ray": {}}
    arm = {
        "data": "rewrites", "best_of": 2, "n": 1, "replay": {"path": str(folder / "replayed.jsonl"), "share": 1.0},
        "train": {"mask_above": 3.0},
    }  # fmt: skip
    return {
        "folder": str(folder),
        "model": model,
        "data": {"path": str(folder / "rows.jsonl"), "format": "question_answer", "near_duplicates": {}},
        "rewrite": {
            "backend": "ray",
            "grader": {"all_of": ["python_asserts", "similar"]},
            "sampling": {"preset": "paper"},
            "filters": {},
        },
        "train": {"adapter": {}, "launch": {"processes": 1, "config": "a.yaml"}, "budget": {"kl": 0.5}},
        "arms": {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}, "best": arm},
        "evaluate": {
            "tasks": [{"task": "heldout", "path": str(folder / "items.jsonl"), "samples": 2}, "advbench-judged"],
            "backend": "ray",
            "sampling": {"temperature": 1.0},
            "heldout_loss": True,
        },
        "judge": {"model": copy.deepcopy(model), "backend": "ray", "sampling": {}},
        "sandbox": "bubblewrap",
    }


def changed(values: dict[str, Any], key: Key) -> dict[str, Any]:
    """The recipe with another value for `key`: of the arm `best`, and of the first task."""
    folder = Path(values["folder"])
    paths = {
        "model.path": folder / "tuned",
        "judge.model.path": folder / "tuned",
        "data.path": folder / "others.jsonl",
        "arms.*.replay.path": folder / "more.jsonl",
        "evaluate.tasks.*.path": folder / "others.jsonl",
        "shift.embedding": folder / "seed",
    }
    recipe = copy.deepcopy(values)
    place: Any = recipe
    *above, last = key.path.replace("arms.*", "arms.best").replace("tasks.*", "tasks.0").split(".")
    for part in above:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[int(part)]
    short = key.path.removeprefix("judge.")
    old = place.get(last, key.field.get_default(call_default_factory=True))
    if key.path in paths:
        place[last] = str(paths[key.path])
    elif short in CHANGED or key.path in CHANGED:
        place[last] = CHANGED.get(key.path, CHANGED.get(short))
    else:
        place[last] = another(old, "str" in str(key.field.annotation))
    return recipe


def another(old: Any, takes_text: bool) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return old + 1
    if isinstance(old, float):
        return old / 2 or 0.5
    if isinstance(old, dict):
        return {"a": "b"}
    return "other" if takes_text else 1


def stages(context: Context) -> dict[str, Stage]:
    graded = [
        stage
        for run in context.runs.values()
        for task in context.tasks.values()
        if (stage := grade_stage(context, run, task))
    ]
    return {stage.name: stage for stage in (*stages_of(context), *graded)}


def changes(values: dict[str, Any], key: Key) -> set[str]:
    """The kinds of the stages whose own settings change with `key`."""

    def resolved(recipe: dict[str, Any]) -> dict[str, Any]:
        known = {name: part for name, part in recipe.items() if name != "folder"}
        return {name: plain(stage.settings) for name, stage in stages(make_context(make_recipe(known))).items()}

    before, after = resolved(values), resolved(changed(values, key))
    return {name.partition("/")[0] for name in before if name in after and before[name] != after[name]}


@pytest.mark.parametrize("key", [key for key in recipe_keys() if key.path not in ELSEWHERE], ids=lambda key: key.path)
def test_a_key_changes_the_stages_that_its_field_declares(values: dict[str, Any], key: Key) -> None:
    declared = {"train" if step == "masking" else step for step in key.reruns}
    assert changes(values, key) == declared


@pytest.mark.parametrize("path", ["train.micro_batch_size", "train.launch.processes"])
def test_a_key_that_keeps_the_results_changes_them_under_its_condition(values: dict[str, Any], path: str) -> None:
    """Each micro-batch and each process draws its own dropout."""
    key = next(key for key in recipe_keys() if key.path == path)
    assert "adapter.dropout" in key.unless
    assert changes({**values, "train": {**values["train"], "adapter": {"dropout": 0.1}}}, key) == {"train"}


def test_the_papers_preset_changes_the_grader_of_open_ended_tasks(values: dict[str, Any]) -> None:
    key = next(key for key in recipe_keys() if key.path == "rewrite.preset")
    assert changes(values, key) == {"rewrite"}  # the recipe names its grader
    assert changes({**values, "task": "gsm8k", "rewrite": {"backend": "ray"}}, key) == set()  # its own wording is ours
    assert changes({**values, "task": "dolly", "rewrite": {"backend": "ray"}}, key) == key.reruns
    assert changes({**values, "task": "dolly", "rewrite": {"backend": "ray", "grader": "facts"}}, key) == {"rewrite"}


def test_every_key_has_a_description() -> None:
    assert [key.path for key in recipe_keys() if not key.description] == []


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({"template": "a/own.txt"}, {"template": "b/own.txt"}, "rewrite/own/completions.jsonl"),
        ({"best_of": 2}, {"best_of": 2, "template": "likelihoods.txt"}, "rewrite/best-2-likelihoods.jsonl"),
    ],
)
def test_two_stages_never_write_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: dict[str, Any], other: dict[str, Any], shared: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/own.txt", "b/own.txt", "likelihoods.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f"{{instruction}} {{reference}} {name}")
    arms = {"seed": {"data": "none"}, "one": {"data": "rewrites", **one}, "other": {"data": "rewrites", **other}}
    with pytest.raises(RecipeError, match=f"Two arms would write {shared}"):
        stages_of(make_context(make_recipe({"model": "demo", "task": "demo-maths", "arms": arms})))
