"""The probes: every item of every skill and step against its grader, the same items everywhere, and the choice of the
step."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selfdistill.errors import RecipeError
from selfdistill.pipeline import run
from selfdistill.pipeline.difficulty import chosen_step, next_step, uninformative
from selfdistill.recipe import DataConfig, make_recipe
from selfdistill.recipe.suites import STEPS, SUITES, suite_tasks
from selfdistill.reports.probe_sentences import probe_notes
from selfdistill.sandbox import Ran, open_runner
from selfdistill.tasks import TASKS, get_task
from selfdistill.tasks.probes.items import CHOOSING, REPORTED, ProbeItem, draw_items
from selfdistill.tasks.probes.language_of import language_of
from selfdistill.types import Completion, Example, Prompt, content_id, messages_json

PROBES = [name for name in TASKS if name.startswith("probe-")]


def items_of(name: str, step: str) -> tuple[ProbeItem, ...]:
    module = importlib.import_module(TASKS[name].partition(":")[0])
    return draw_items(name, module.make, step)


def run_here(program: str, tests: str | None = None) -> Ran:
    """The programs of this package's own items, without a sandbox, because thousands of them are run."""
    names: dict[str, Any] = {}
    try:
        exec(program, names)
        exec(tests or "", {"function_of_the_program": names.__getitem__})
    except Exception as error:
        return Ran(False, f"raised {type(error).__name__}", "")
    return Ran(True, "ran to its end", "")


def grader_of(name: str, runner: Callable[..., Ran] = run_here) -> Callable[[Example, str], Any]:
    task = get_task(name)
    return partial(task.grade, run=runner) if "sandbox" in task.needs else task.grade


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", PROBES)
def test_every_right_answer_passes_and_three_wrong_ones_fail(name: str, step: str) -> None:
    grade, trouble = grader_of(name), []
    items = items_of(name, step)
    assert len(items) == len({item.prompt for item in items}) == CHOOSING + REPORTED
    for item in items:
        (example,) = item.conversation(step).examples()[-1:]
        assert len({*item.wrong}) == 3
        trouble += [item.gold] if not grade(example, item.gold).passed else []
        trouble += [text for text in item.wrong if grade(example, text).passed]
    assert not trouble, trouble[:3]


def test_short_code_is_graded_in_the_sandbox(bubblewrap: str) -> None:
    grade = grader_of("probe-code", open_runner(bubblewrap))
    for step in STEPS:
        for item in items_of("probe-code", step)[:2]:
            (example,) = item.conversation(step).examples()
            assert grade(example, item.gold).passed
            assert not any(grade(example, text).passed for text in item.wrong)


def digest(name: str, step: str) -> str:
    return content_id([[messages_json(item.prompt), item.gold, item.wanted] for item in items_of(name, step)])


# A changed digest means other items: raise the version of the suite in recipe/suites.py, and copy the new digests.
DIGESTS: dict[str, tuple[str, str, str]] = {
    "probe-instructions": ("d2cae10402fd2bb6", "63d36ca229008fce", "a91a508d472edf42"),
    "probe-system": ("425f5ae96e98dd21", "186cb1cf81240def", "4572a8608c0d3a42"),
    "probe-json": ("a6cf4ed7610535de", "27ce5fbd2aaba449", "61b6217a25445be1"),
    "probe-tools": ("40a5c3c804620ae2", "dc9fadaac3fe87fd", "e7755e5952e54918"),
    "probe-maths": ("2c8242cfe7bad0ad", "820b87e8b6ee77e2", "50ba457ae9ae4ff4"),
    "probe-lookup": ("df495dbf341544d9", "303b455830fb3925", "310d67acf2ba5116"),
    "probe-lists": ("954a865a5cdc33e8", "2661f0d1a76ad332", "0821aff6fb8fdd64"),
    "probe-code": ("5c1902faab9e1d7f", "318f0ebcbda49e96", "67846ed20b2588cf"),
    "probe-languages": ("a32dd019e52712d3", "e45c924ca1251c73", "cd593e4d5132af32"),
    "probe-memory": ("97a2e90cd14a1a5e", "3514d07727cd8c59", "1e138f8757030a12"),
    "probe-refusal": ("b450c5a8673eb50c", "6f02df4e584f4206", "0cb90a6a23f98064"),
    "probe-format": ("d1ba32e2a98fb994", "e78dc0d150ad5bfa", "fd655005e58998c3"),
}


def test_the_same_version_draws_the_same_items() -> None:
    found = {name: tuple(digest(name, step) for step in STEPS) for name in PROBES}
    assert SUITES["probes"].version == 1
    assert found == DIGESTS


def test_parts_of_a_step_share_no_item() -> None:
    task = get_task("probe-maths")

    def part(split: str) -> list[str]:
        assert task.test is not None
        source = task.test.model_copy(update={"split": split})
        return [row.messages[0].content for row in task.load(source, None)]

    choosing, first, second = part("easy.choosing"), part("easy.first"), part("easy.second")
    assert first + second == part("easy")
    assert len({*choosing, *first, *second}) == CHOOSING + REPORTED
    assert part("auto") == part("medium")
    with pytest.raises(RecipeError, match="has no split 'test'; choose auto, easy, medium, hard"):
        part("test")
    with pytest.raises(RecipeError, match="makes its own items"):
        list(task.load(DataConfig(path="rows.jsonl"), None))


# ---- suites


def test_a_suite_is_written_out_in_a_recipe() -> None:
    values = {"model": "demo", "task": "demo-maths"}
    recipe = make_recipe(values, ["evaluate.tasks=[heldout, {suite: probes, size: full, without: [probe-code]}]"])
    names = [entry.task for entry in recipe.evaluate.tasks]
    assert names == ["heldout", *(name for name in PROBES if name != "probe-code"), "overrefusal"]
    assert {entry.n for entry in recipe.evaluate.tasks} == {REPORTED, None}
    quick = make_recipe(values, ["evaluate.tasks=[{suite: probes}]"]).evaluate.tasks
    assert [(entry.n, bool(entry.max_new_tokens)) for entry in quick] == [(150, True)] * 12 + [(None, True)]
    few = make_recipe(values, ["evaluate.tasks=[{suite: probes, n: 5}]"]).evaluate.tasks
    assert {entry.n for entry in few} == {5}
    for text, message in {
        "{suite: probe}": "there is no suite 'probe'; choose probes, public, demo",
        "{suite: probes, size: huge}": "there is no size 'huge' of a suite; choose quick or full",
        "{suite: probes, limit: 5}": "a suite takes size, n and without, not limit",
        "{suite: probes, without: [code]}": "the suite 'probes' has no task code to leave out",
    }.items():
        with pytest.raises(RecipeError, match=message):
            make_recipe(values, [f"evaluate.tasks=[{text}]"])


def test_suites_name_tasks_that_exist() -> None:
    for name in SUITES:
        for size in ("quick", "full"):
            assert [entry["task"] for entry in suite_tasks(name, size) if entry["task"] not in TASKS] == []
    fixed = suite_tasks("probes", steps={"probe-json": "easy"})
    assert [entry["task"] for entry in fixed if "split" in entry] == ["probe-json"]


# ---- the step


@pytest.mark.parametrize(
    ("scores", "tried", "chosen"),
    [
        ({"medium": 0.5}, ["medium"], "medium"),
        ({"medium": 0.2, "easy": 0.6}, ["medium", "easy"], "easy"),
        ({"medium": 0.2, "easy": 0.95}, ["medium", "easy"], "medium"),
        ({"medium": 0.9, "hard": 0.4}, ["medium", "hard"], "hard"),
        ({"medium": 0.0, "easy": 0.0}, ["medium", "easy"], "easy"),
        ({"medium": None}, ["medium"], "medium"),
    ],
)
def test_the_step_nearest_to_one_half_is_chosen(scores: dict[str, float], tried: list[str], chosen: str) -> None:
    found: dict[str, float | None] = {}
    while step := next_step(found):
        found[step] = scores[step]
    assert list(found) == tried
    assert chosen_step(found) == chosen


class Solver:
    """A backend that solves the easy items of lists, and nothing else."""

    name = "solver"

    def __init__(self) -> None:
        known = [item for step in STEPS for item in items_of("probe-lists", step)]
        self.easy = {item.prompt: item.gold for item in items_of("probe-lists", "easy")}
        self.asked: list[str] = []
        self.known = {item.prompt for item in known}

    def answer(self, prompt: Prompt) -> Completion:
        assert prompt.messages in self.known
        return Completion(prompt.id, self.easy.get(prompt.messages, "no idea"), "stop", 3)


@pytest.mark.parametrize(("n", "choosing"), [(20, 12), (50, 25), (90, CHOOSING)])
def test_the_seed_chooses_the_step_on_items_that_are_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, choosing: int
) -> None:
    from selfdistill.backends.fake import FakeBackend

    solver = Solver()

    def generate(self: Any, prompts: Any, *_: Any, **__: Any) -> Any:
        for prompt in prompts:
            solver.asked.append(prompt.messages[0].content)
            yield solver.answer(prompt)

    monkeypatch.setattr(FakeBackend, "generate", generate)
    recipe = make_recipe(
        {
            "model": {"path": "demo", "dtype": "float32"},
            "task": "demo-maths",
            "data": {"path": "demo-maths", "n": 4},
            "rewrite": {"min_accepted": 0},
            "arms": {"seed": {"data": "none"}},
            "gap": False,
            "evaluate": {"backend": "fake", "tasks": [{"task": "probe-lists", "n": n}]},
        }
    )
    verdict = run(recipe, tmp_path)
    (task,) = verdict["tasks"]
    assert (task["step"], task["step_scores"]) == ("easy", {"medium": 0.0, "easy": 1.0})
    assert (task["uninformative"], task["seed_score"], task["version"]) == ("ceiling", 1.0, 1)
    assert len(solver.asked) == len({*solver.asked}) == 2 * choosing + n
    items = [json.loads(line) for line in (tmp_path / "items" / "probe-lists.jsonl").read_text().splitlines()]
    assert {item["extra"]["step"] for item in items} == {"easy"}
    assert any(note.startswith("Levels of the probes") and "easy: probe-lists" in note for note in verdict["notes"])
    assert any("at the ceiling" in note and "probe-lists (easy, 100.0 %)" in note for note in verdict["notes"])
    assert "at the ceiling" in (tmp_path / "report.html").read_text()
    run(recipe, tmp_path)
    assert len(solver.asked) == 2 * choosing + n


def test_bounds_and_notes() -> None:
    assert [uninformative(value) for value in (0.1, 0.15, 0.85, 0.9, None)] == ["floor", None, None, "ceiling", None]
    assert list(probe_notes([{"task": "gsm8k"}])) == []


# ---- the language of a text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Die Katze ist auf dem Dach und schläft.", "German"),
        ("Le chat est sur le toit et il dort.", "French"),
        ("El gato está en el techo y duerme mucho.", "Spanish"),
        ("Il gatto è sul tetto e dorme, ma non è solo.", "Italian"),
        ("O gato está no telhado e não quer descer.", "Portuguese"),
        ("De kat zit op het dak en slaapt niet.", "Dutch"),
        ("Kot jest na dachu i nie śpi.", "Polish"),
        ("Kedi çatıda ve bu çok güzel bir gün.", "Turkish"),
        ("The cat is on the roof and it does not sleep.", "English"),
        ("Кошка спит на крыше.", "Russian"),
        ("猫は屋根の上で寝ています。", "Japanese"),
        ("猫在屋顶上睡觉。", "Chinese"),
        ("고양이가 지붕 위에서 잡니다.", "Korean"),
        ("Paris", None),
        ("", None),
        ("42 + 17 = 59", None),
        ("lorem ipsum dolor sit amet consectetur", None),
    ],
)
def test_the_language_is_found_by_rule(text: str, language: str | None) -> None:
    assert language_of(text) == language
