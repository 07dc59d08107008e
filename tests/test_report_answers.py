"""The browser of answers: its content and its use."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.pages import Page, count_becomes, scrolls_sideways, sha256
from support.report_experiment import HOSTILE, TASKS, write_experiment, write_json
from support.rows import write_rows

from selfdistill.generation.resume import sample_id
from selfdistill.reports import write_report
from selfdistill.reports.answers import answered_tasks, answers_page
from selfdistill.reports.saved import read_experiment
from selfdistill.reports.text import BUCKETS, visible
from selfdistill.types import Completion, Example, Finish, Grade, Message, Outcome

ARMS = ("seed", "vanilla", "sdft")
OUTCOMES: dict[str, Outcome] = {"passed": "pass", "unjudged": "unjudged", "errors": "unjudged"}
FINISHES: dict[str, Finish] = {"truncated": "length", "errors": "error"}
REASONS = {"passed": "same number", "failed": "number differs", "truncated": "no number", "tied": "one of two",
           "unanswered": "no answer", "unjudged": "unreadable", "errors": "backend error: timeout"}  # fmt: skip


def make_item(number: int, text: str = "") -> Example:
    return Example.of((Message("user", f"question {number} {text}"),), f"reference {number} {text}")


def graded(item_id: str, bucket: str, **changes: Any) -> dict[str, Any]:
    verdict = Grade(OUTCOMES.get(bucket, "fail"), REASONS[bucket], f"expected {item_id}", f"found {bucket}")
    return {"id": item_id, "bucket": bucket, "grade": {**verdict.to_json(), **changes}}


def write_answers(directory: Path, task: str, items: Sequence[Example], buckets: dict[str, Sequence[str]]) -> None:
    """Writes the items of a task, and each arm's answers and grades, as the stages leave them."""
    write_rows(directory / "items" / f"{task}.jsonl", [item.to_json() for item in items])
    for arm, own in buckets.items():
        folder = directory / "arms" / arm / "evaluate" / task
        answers = {
            item.id: Completion(
                item.id,
                f"{arm} answers {item.id}",
                FINISHES.get(bucket, "stop"),
                3,
                "boom" if bucket == "errors" else None,
            ).to_json()
            for item, bucket in zip(items, own, strict=True)
        }
        write_rows(folder / "answers.jsonl", list(answers.values()))
        write_rows(folder / "grades.jsonl", [graded(item.id, b) for item, b in zip(items, own, strict=True)])


def drawn_buckets(n: int, seed: int = 0) -> dict[str, list[str]]:
    draw = random.Random(seed)
    weights = {"seed": (70, 20, 0, 5, 0, 3, 2), "vanilla": (30, 55, 0, 10, 0, 3, 2), "sdft": (65, 25, 0, 5, 0, 3, 2)}
    return {arm: draw.choices(BUCKETS, weights[arm], k=n) for arm in ARMS}


def data_of(directory: Path) -> Any:
    write_report(directory)
    return json.loads(Page(directory / "answers.html").raw["script"][0])


def task_of(directory: Path, name: str) -> Any:
    return next(task for task in data_of(directory)["tasks"] if task["name"] == name)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("demo"))
    for number, (task, _, _) in enumerate(TASKS[:3]):
        write_answers(directory, task, [make_item(n) for n in range(60)], drawn_buckets(60, number))
    write_report(directory)
    return directory


def test_each_item_is_shown_with_the_answers_of_every_arm(demo: Path) -> None:
    data = data_of(demo)
    assert [task["name"] for task in data["tasks"]] == [name for name, _, _ in TASKS[:3]]
    assert data["pairs"] == [["sdft", "vanilla"]]
    for number, task in enumerate(data["tasks"]):
        buckets = drawn_buckets(60, number)
        assert task["runs"] == list(ARMS)
        assert (task["items"], len(task["rows"]), task["damaged"]) == (60, 60, 0)
        assert task["patterns"] == Counter(row["pattern"] for row in task["rows"])
        for n, row in enumerate(task["rows"]):
            item = make_item(n)
            assert (row["row"], row["id"], row["reference"]) == (n + 1, item.id, item.reference)
            assert row["prompt"] == [["user", item.instruction]]
            for place, arm in enumerate(ARMS):
                bucket, answer = buckets[arm][n], row["answers"][place]
                assert BUCKETS[int(row["pattern"][place])] == bucket
                assert answer["reason"] == REASONS[bucket]
                assert (answer["expected"], answer["found"]) == (f"expected {item.id}", f"found {bucket}")
                finish, error = FINISHES.get(bucket, "stop"), "boom" if bucket == "errors" else None
                assert answer["texts"] == [[f"{arm} answers {item.id}", finish, error]]


def test_rows_are_joined_by_id_and_occurrence_never_by_position(tmp_path: Path) -> None:
    items = [make_item(n) for n in (0, 1, 0, 2)]
    buckets = {"seed": ["passed", "failed", "failed", "passed"], "vanilla": ["failed", "passed", "passed", "tied"]}
    write_answers(tmp_path, "maths", items, buckets)
    write_json(tmp_path / "verdict.json", {})
    in_order = task_of(tmp_path, "maths")["rows"]
    assert [row["pattern"] for row in in_order] == ["01", "10", "10", "02"]
    for name in ("answers", "grades"):
        path = tmp_path / "arms" / "vanilla" / "evaluate" / "maths" / f"{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[-1:], *lines[:-1]]))
    assert task_of(tmp_path, "maths")["rows"] == in_order


def test_an_arm_that_has_not_answered_has_no_column(tmp_path: Path) -> None:
    write_json(tmp_path / "verdict.json", {"arms": list(ARMS), "seed_arm": "seed"})
    write_answers(tmp_path, "maths", [make_item(0)], {"seed": ["passed"], "sdft": ["failed"]})
    write_answers(tmp_path, "code", [make_item(0)], {"vanilla": ["passed"]})
    (tmp_path / "arms" / "vanilla" / "evaluate" / "maths").mkdir()
    (tmp_path / "arms" / "vanilla" / "evaluate" / "code" / "grades.jsonl").unlink()
    assert task_of(tmp_path, "maths")["runs"] == ["seed", "sdft"]
    answered = task_of(tmp_path, "code")
    assert answered["runs"] == ["vanilla"]
    assert answered["rows"][0]["pattern"] == "-"
    assert "reason" not in answered["rows"][0]["answers"][0]


def test_a_task_of_lm_eval_shows_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "arms" / "seed" / "evaluate" / "arc"
    choice = {"id": "ab", "text": "Rome", "choices": ["Paris", "Rome"], "log_likelihoods": [-3.21, -1.5]}
    write_rows(folder / "answers.jsonl", [choice, {"id": "cd", "text": "words"}])
    write_rows(folder / "grades.jsonl", [graded("ab", "passed"), graded("cd", "failed")])
    write_json(tmp_path / "verdict.json", {})
    rows = task_of(tmp_path, "arc")["rows"]
    assert [(row["prompt"], row["reference"]) for row in rows] == [([], None)] * 2
    assert [row["answers"][0]["texts"][0][0] for row in rows] == ["  Paris  (−3.21)\n▸ Rome  (−1.50)", "words"]


def test_a_judged_task_shows_the_answers_that_were_judged_and_the_seeds(tmp_path: Path) -> None:
    items = [make_item(n) for n in range(3)]
    write_answers(tmp_path, "alpaca", items, {"seed": ["passed"] * 3, "sdft": ["passed"] * 3})
    judged = tmp_path / "arms" / "sdft" / "evaluate" / "helpful" / "grades.jsonl"
    write_rows(
        judged, [graded(item.id, b, value=0.5) for item, b in zip(items, ("tied", "passed", "failed"), strict=True)]
    )
    tasks = [{"task": name, "role": "other", "answers_of": "alpaca"} for name in ("alpaca", "helpful")]
    verdict = {
        "arms": ["seed", "sdft"],
        "tasks": [{**task, "scores": {}, "runs": {}, "skill": "s", "n": 3} for task in tasks],
    }
    write_json(tmp_path / "verdict.json", verdict)
    task = task_of(tmp_path, "helpful")
    assert task["runs"] == ["seed", "sdft"]
    assert [row["pattern"] for row in task["rows"]] == ["-2", "-0", "-1"]
    assert [row["reference"] for row in task["rows"]] == [item.reference for item in items]
    assert task["rows"][0]["answers"][0]["texts"] == [[f"seed answers {items[0].id}", "stop", None]]
    assert task["rows"][0]["answers"][1]["value"] == 0.5


def test_several_samples_of_an_item_are_shown(tmp_path: Path) -> None:
    item = make_item(0)
    write_answers(tmp_path, "code", [item], {"seed": ["passed"]})
    samples = [Completion(sample_id(item.id, n), f"sample {n}", "stop").to_json() for n in range(13)]
    write_rows(tmp_path / "arms" / "seed" / "evaluate" / "code" / "answers.jsonl", samples)
    write_json(tmp_path / "verdict.json", {})
    answer = task_of(tmp_path, "code")["rows"][0]["answers"][0]
    assert [text for text, _, _ in answer["texts"]] == [f"sample {n}" for n in range(10)]
    assert answer["more"] == 3


def test_a_think_trace_is_separate_from_its_answer(tmp_path: Path) -> None:
    items = [make_item(0), make_item(1)]
    write_answers(tmp_path, "code", items, {"seed": ["passed", "unanswered"]})
    replies = ["<think>\nHm.\n</think>\n\nYes.", "<think>\nHm, or"]
    rows = [Completion(item.id, text, "stop").to_json() for item, text in zip(items, replies, strict=True)]
    write_rows(tmp_path / "arms" / "seed" / "evaluate" / "code" / "answers.jsonl", rows)
    write_json(tmp_path / "verdict.json", {})
    shown = [row["answers"][0]["texts"] for row in task_of(tmp_path, "code")["rows"]]
    assert shown == [[["Yes.", "stop", None, "Hm."]], [[None, "stop", None, "Hm, or"]]]
    assert [row["pattern"] for row in task_of(tmp_path, "code")["rows"]] == ["0", "4"]


def test_runs_of_an_arm_follow_each_other_and_are_paired_with_the_baseline_arm(tmp_path: Path) -> None:
    runs = ["seed", "vanilla@0", "vanilla@1", "sdft@0", "sdft@1"]
    write_answers(tmp_path, "maths", [make_item(0)], {run: ["passed"] for run in reversed(runs)})
    pair = {"task": "maths", "arm": "sdft", "against": "vanilla", "word": "kept", "difference": 0.0}
    baselines = {"sdft": {"against": "vanilla", "equal": True}}
    write_json(tmp_path / "verdict.json", {"arms": list(ARMS), "comparisons": [pair], "baseline_arms": baselines})
    (task,) = answered_tasks(tmp_path, json.loads((tmp_path / "verdict.json").read_text()))
    assert list(task.runs) == runs
    page = answers_page([task], read_experiment(tmp_path))
    assert '"pairs":[["sdft@0","vanilla@0"],["sdft@1","vanilla@1"]]' in page


def test_damaged_lines_are_counted_and_the_others_shown(tmp_path: Path) -> None:
    write_answers(tmp_path, "maths", [make_item(0), make_item(1)], {"seed": ["passed", "failed"]})
    folder = tmp_path / "arms" / "seed" / "evaluate" / "maths"
    for path, lines in {
        tmp_path / "items" / "maths.jsonl": b'{"id": "x"}\n[1]\n',
        folder / "answers.jsonl": b'{"text": "no id"}\n{"id": "y", "te',
        folder / "grades.jsonl": b'{"id": "z", "bucket": "lost", "grade": {}}\n\xff\xfe\n',
    }.items():
        with path.open("ab") as file:
            file.write(lines)
    write_json(tmp_path / "verdict.json", {})
    task = task_of(tmp_path, "maths")
    assert task["damaged"] == 6
    assert task["patterns"] == {"0": 1, "1": 1}


def test_of_many_items_a_sample_that_prefers_those_on_which_arms_differ(tmp_path: Path) -> None:
    items = [make_item(n) for n in range(3_000)]
    differ = {n for n in range(3_000) if n % 5 == 0}
    write_json(tmp_path / "verdict.json", {})
    seed, vanilla = ["passed"] * 3_000, ["truncated" if n in differ else "passed" for n in range(3_000)]
    write_answers(tmp_path, "maths", items, {"seed": seed, "vanilla": vanilla})
    task = task_of(tmp_path, "maths")
    assert (task["items"], len(task["rows"])) == (3_000, 1_000)
    assert task["patterns"] == {"00": 2_400, "03": 600}
    assert {row["row"] - 1 for row in task["rows"] if row["pattern"] == "03"} == differ
    assert [row["row"] for row in task["rows"]] == sorted(row["row"] for row in task["rows"])
    # The draw depends on the items, not on their order.
    write_answers(tmp_path, "maths", items[::-1], {"seed": seed, "vanilla": vanilla[::-1]})
    assert {row["id"] for row in task_of(tmp_path, "maths")["rows"]} == {row["id"] for row in task["rows"]}


def test_a_page_of_long_answers_stays_within_its_size(tmp_path: Path) -> None:
    long, draw = "word " * 3_000, drawn_buckets(40)
    write_answers(tmp_path, "small", [make_item(n) for n in range(40)], draw)
    for task in ("long", "longer"):
        write_answers(tmp_path, task, [make_item(n, long) for n in range(40)], draw)
    write_json(tmp_path / "verdict.json", {})
    saved, tasks = read_experiment(tmp_path), answered_tasks(tmp_path, {})
    page = answers_page(tasks, saved, max_bytes=300_000)
    assert len(page.encode()) < 350_000
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    shown = {task["name"]: len(task["rows"]) for task in data["tasks"]}
    assert shown["small"] == 40
    assert 5 < shown["long"] < 40
    assert 5 < shown["longer"] < 40
    assert all(task["items"] == 40 for task in data["tasks"])


def hostile_experiment(directory: Path) -> Path:
    items = [make_item(n, text) for n, text in enumerate(HOSTILE)]
    items += [make_item(len(items), "x" * 100_000)]
    write_answers(directory, "maths", items, {arm: buckets[: len(items)] for arm, buckets in drawn_buckets(50).items()})
    folder = directory / "arms" / "sdft" / "evaluate" / "maths"
    texts = [*HOSTILE, "<b>" * 40_000]
    answers = [Completion(item.id, text, "stop", 3) for item, text in zip(items, texts, strict=True)]
    write_rows(folder / "answers.jsonl", [answer.to_json() for answer in answers])
    rows = [graded(item.id, "failed", reason=t, expected=t, found=t) for item, t in zip(items, texts, strict=True)]
    write_rows(folder / "grades.jsonl", rows)
    write_json(directory / "verdict.json", {"arms": list(ARMS), "seed_arm": "seed"})
    write_report(directory)
    return directory


def test_hostile_answers_arrive_visible_and_cut_in_a_page_that_runs_only_its_own(tmp_path: Path) -> None:
    page = Page(hostile_experiment(tmp_path) / "answers.html")
    assert len(page.raw["script"]) == 2
    assert not any(character in page.raw["script"][0] for character in "<>&\u2028\u2029\x00\x1b\u202e")
    policy = page.meta("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert sha256(page.raw["script"][1]) in policy
    assert sha256(page.raw["style"][0]) in policy
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base")
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "style")]
    (task,) = json.loads(page.raw["script"][0])["tasks"]
    for row, text in zip(task["rows"], HOSTILE, strict=False):
        assert row["answers"][2]["texts"][0][0] == visible(text)
        assert row["answers"][2]["expected"] == visible(text)
        assert row["reference"].endswith(visible(text))
    assert len(task["rows"]) == len(HOSTILE) + 1
    assert all(
        len(text) < 8_100 for text in (task["rows"][-1]["reference"], task["rows"][-1]["answers"][2]["texts"][0][0])
    )


def test_the_report_links_to_answers_only_where_there_are_any(demo: Path, tmp_path: Path) -> None:
    links = {a["href"] for tag, a in Page(demo / "report.html").tags if tag == "a" and "answers" in (a["href"] or "")}
    assert "answers.html#task=multiarith&filter=lost:vanilla" in links
    assert "answers.html#task=gsm8k&filter=won:sdft" in links
    assert "answers.html#task=tools" in links
    assert not [link for link in links if "jailbreak" in (link or "")]
    bare = write_report(write_experiment(tmp_path, rewrites=[]))
    assert "answers.html" not in bare.read_text()
    assert not (tmp_path / "answers.html").exists()


def test_the_same_experiment_gives_the_same_bytes(demo: Path) -> None:
    before = (demo / "answers.html").read_bytes()
    write_report(demo)
    assert (demo / "answers.html").read_bytes() == before


def test_every_score_on_the_page_lists_the_outcomes_of_its_items(tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    score = verdict["tasks"][0]["scores"]["vanilla"]
    score |= {"passed": 1_234, "failed": 5, "tied": 6, "truncated": 7, "unjudged": 8, "errors": 1, "n": 1_263}
    score |= {"unanswered": 2}
    verdict["tasks"][0]["scores"]["sdft"] |= {"passed": 9, "failed": 0, "truncated": 0, "errors": 0, "n": 9}
    write_json(tmp_path / "verdict.json", verdict)
    text = Page(write_report(tmp_path)).text
    # In the table of a laptop, and in the cards of a phone.
    assert text.count("1,234 passed · 5 failed · 6 tied · 7 cut off · 2 unanswered · 8 unjudged · 1 error ") == 2
    assert text.count(" 9 passed · 0 failed ") == 2


def expected_items(pattern: Any, task: int = 0) -> set[str]:
    """The names on the page of a demo task's items whose buckets pass a test."""
    drawn = drawn_buckets(60, task)
    rows = zip(*(drawn[arm] for arm in ARMS), strict=True)
    return {f"row-{n}" for n, buckets in enumerate(rows, 1) if pattern(dict(zip(ARMS, buckets, strict=True)))}


def right(bucket: str) -> bool:
    return bucket == "passed"


def wrong(bucket: str) -> bool:
    return bucket in ("failed", "truncated")


FILTERS = {
    "lost:vanilla": (
        "forgotten by vanilla: seed right, vanilla wrong",
        lambda b: right(b["seed"]) and wrong(b["vanilla"]),
    ),
    "lost:sdft": ("forgotten by sdft: seed right, sdft wrong", lambda b: right(b["seed"]) and wrong(b["sdft"])),
    "won:sdft": ("learnt by sdft: seed wrong, sdft right", lambda b: wrong(b["seed"]) and right(b["sdft"])),
    "differ:sdft:vanilla": (
        "sdft differs from vanilla",
        lambda b: (right(b["sdft"]) and wrong(b["vanilla"])) or (wrong(b["sdft"]) and right(b["vanilla"])),
    ),
    "differ": ("outcomes differ", lambda b: any(map(right, b.values())) and any(map(wrong, b.values()))),
}


def shown_items(page: Any) -> set[str]:
    """The items on all pages that pass the filters."""
    found: list[str] = []
    while True:
        found += page.locator("article").evaluate_all("nodes => nodes.map((node) => node.id)")
        if page.is_disabled("#next"):
            assert len(found) == len(set(found))
            return set(found)
        page.click("#next")


@pytest.mark.browser
class TestInABrowser:
    @pytest.mark.parametrize("key", FILTERS)
    def test_each_quick_filter_shows_its_items_and_how_many(self, visit: Any, demo: Path, key: str) -> None:
        name, pattern = FILTERS[key]
        page = visit(demo / "answers.html", fragment="#task=gsm8k")
        button = page.locator(f"#filters button[title='{name}']")
        wanted = expected_items(pattern)
        assert wanted
        assert (button.text_content() or "").split()[-1] == str(len(wanted))
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert (page.text_content("#count") or "").endswith(f"of {len(wanted)} items: {name}")
        assert shown_items(page) == wanted
        button.click()
        assert (page.text_content("#count") or "") == "1–20 of 60 items"
        linked = visit(demo / "answers.html", fragment=f"#task=gsm8k&filter={key}")
        assert shown_items(linked) == wanted

    def test_outcomes_reasons_and_search_narrow_each_other(self, visit: Any, demo: Path) -> None:
        page = visit(demo / "answers.html", fragment="#task=gsm8k")
        page.get_by_label("Outcome of vanilla").select_option("truncated")
        cut = expected_items(lambda b: b["vanilla"] == "truncated")
        assert shown_items(page) == cut
        options = page.get_by_label("Outcome of sdft").locator("option").all_text_contents()
        passed = expected_items(lambda b: b["vanilla"] == "truncated" and b["sdft"] == "passed")
        assert f"✓ passed ({len(passed)})" in options
        page.get_by_label("Outcome of sdft").select_option("passed")
        assert shown_items(page) == passed
        assert "vanilla cut off, sdft passed" in (page.text_content("#count") or "")
        page.get_by_label("Outcome of sdft").select_option("")
        page.get_by_label("Outcome of vanilla").select_option("")
        page.select_option("#reason", "backend error: timeout")
        assert shown_items(page) == expected_items(lambda b: "errors" in b.values())
        page.select_option("#reason", "")
        page.fill("#q", f"VANILLA answers {make_item(41).id}")
        count_becomes(page, "1–1 of 1 item")
        assert shown_items(page) == {"row-42"}
        page.fill("#q", "no such words")
        count_becomes(page, "0 items")
        assert page.text_content("#rows") == "No item matches."

    def test_tasks_change_and_the_address_keeps_what_is_shown(self, visit: Any, demo: Path) -> None:
        page = visit(demo / "answers.html", fragment="#filter=lost:vanilla&is:sdft=passed")
        page.select_option("#task", "multiarith")
        wanted = expected_items(lambda b: right(b["seed"]) and wrong(b["vanilla"]) and b["sdft"] == "passed", task=1)
        assert shown_items(page) == wanted
        page.reload()
        page.evaluate("location.hash = location.hash.replace(/&page=\\d+/, '')")
        shown = f"1–{min(len(wanted), 20)} of {len(wanted)} items"
        count_becomes(page, f"{shown}: {FILTERS['lost:vanilla'][0]}, sdft passed")
        assert page.input_value("#task") == "multiarith"
        other = visit(demo / "answers.html", fragment="#task=gone&filter=lost:gone&is:gone=passed&page=-3")
        assert other.text_content("#count") == "1–20 of 60 items"
        assert other.input_value("#task") == "gsm8k"

    def test_a_change_on_the_report_leads_to_its_answers(self, visit: Any, demo: Path) -> None:
        page = visit(demo / "report.html")
        link = page.locator("a[href*='task=multiarith&filter=lost:vanilla']:visible").first.get_attribute("href")
        found = visit(demo / "answers.html", fragment="#" + link.split("#")[1])
        assert shown_items(found) == expected_items(lambda b: right(b["seed"]) and wrong(b["vanilla"]), task=1)

    def test_an_answer_stands_with_its_outcome_reason_and_values(self, visit: Any, demo: Path) -> None:
        page = visit(demo / "answers.html", fragment="#task=gsm8k")
        row = data_of(demo)["tasks"][0]["rows"][0]
        sides = page.locator("#row-1 .side")
        assert sides.count() == 3
        for place, arm in enumerate(ARMS):
            bucket, side = drawn_buckets(60)[arm][0], sides.nth(place)
            assert side.locator("h3 span").first.text_content() == arm
            assert side.locator(".reason").text_content() == REASONS[bucket]
            assert side.locator(".values").text_content() == f"expected expected {row['id']}, found found {bucket}"
            assert side.locator("pre").text_content() == f"{arm} answers {row['id']}"
        boxes = [sides.nth(place).bounding_box() for place in range(3)]
        assert len({box["y"] for box in boxes}) == 1
        phone = visit(demo / "answers.html", 390, fragment="#task=gsm8k").locator("#row-1 .side")
        assert len({phone.nth(place).bounding_box()["x"] for place in range(3)}) == 1

    def test_a_think_trace_is_folded_away(self, visit: Any, tmp_path: Path) -> None:
        item = make_item(0)
        write_answers(tmp_path, "code", [item], {"seed": ["unanswered"]})
        reply = Completion(item.id, "<think>\nHm, or", "length").to_json()
        write_rows(tmp_path / "arms" / "seed" / "evaluate" / "code" / "answers.jsonl", [reply])
        write_json(tmp_path / "verdict.json", {})
        write_report(tmp_path)
        side = visit(tmp_path / "answers.html").locator("#row-1 .side")
        assert side.locator(".tag").text_content() == "✗ no answer"
        assert side.locator("summary").text_content() == "think trace Hm, or"
        assert not side.locator("details pre").is_visible()
        assert side.locator("pre:visible").text_content() == "(no answer: the reply ends inside its think trace)"

    @pytest.mark.parametrize("width", [390, 1280])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_and_nothing_in_the_data_runs(self, visit: Any, tmp_path: Path, width: int, scheme: str) -> None:
        """The fixture `visit` holds the assertions on what ran."""
        page = visit(hostile_experiment(tmp_path) / "answers.html", width, scheme)
        assert page.locator("article").count() == len(HOSTILE) + 1
        page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
        assert not scrolls_sideways(page)
        for number, text in enumerate(HOSTILE):
            shown = page.locator("article").nth(number).locator(".side").nth(2).locator("pre").text_content()
            assert shown == visible(text)
        page.select_option("#reason", index=2)
        assert page.locator("img, article script, iframe, article a").count() == 0
        red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (red + green + blue > 600) == (scheme == "light")

    def test_many_arms_with_long_names_fit(self, visit: Any, tmp_path: Path) -> None:
        arms = ["seed-" + "x" * 60, *(f"arm-{'y' * 60}{n}" for n in range(11))]
        write_answers(tmp_path, "maths", [make_item(0), make_item(1)], {arm: ["passed", "failed"] for arm in arms})
        pair = {"task": "maths", "arm": arms[2], "against": arms[1], "word": "kept"}
        baselines = {arms[2]: {"against": arms[1], "equal": True}}
        saved = {"arms": arms, "seed_arm": arms[0], "comparisons": [pair], "baseline_arms": baselines}
        write_json(tmp_path / "verdict.json", saved)
        path = tmp_path / "answers.html"
        path.write_text(answers_page(answered_tasks(tmp_path, saved), read_experiment(tmp_path)), encoding="utf-8")
        for width in (390, 1280):
            page = visit(path, width)
            assert page.locator("#row-1 .side").count() == 12
            assert not scrolls_sideways(page)

    def test_a_sample_says_so_and_counts_the_whole(self, visit: Any, tmp_path: Path) -> None:
        buckets = {"seed": ["passed"] * 1_500, "vanilla": ["failed"] * 500 + ["passed"] * 1_000}
        write_answers(tmp_path, "maths", [make_item(n) for n in range(1_500)], buckets)
        write_json(tmp_path / "verdict.json", {})
        write_report(tmp_path)
        page = visit(tmp_path / "answers.html")
        assert "a sample of 1,000 of the 1,500 items: 500 of the 500" in (page.text_content("#about") or "")
        chips = page.locator(".chips button").all_text_contents()
        assert chips == ["all 1,000 of 1,500", "outcomes differ 500 of 500"]
        page.get_by_label("Outcome of vanilla").select_option("passed")
        assert (page.text_content("#count") or "").startswith("1–20 of 500 items")


def test_how_often_a_file_is_opened_does_not_depend_on_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_experiment(tmp_path)
    items = [make_item(number) for number in range(500)]
    write_answers(tmp_path, TASKS[0][0], items, drawn_buckets(500))
    opened: Counter[str] = Counter()
    plain = Path.open

    def counting(self: Path, *arguments: Any, **named: Any) -> Any:
        opened[self.name if tmp_path in self.parents else ""] += 1
        return plain(self, *arguments, **named)

    saved = read_experiment(tmp_path)
    tasks = [task for task in answered_tasks(tmp_path, saved.verdict) if task.name == TASKS[0][0]]
    monkeypatch.setattr(Path, "open", counting)
    page = answers_page(tasks, saved, max_items=200)
    monkeypatch.undo()
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    rows = json.loads(Page(tmp_path / "page.html").raw["script"][0])["tasks"][0]["rows"]
    assert len(rows) == 200
    for row in rows:
        assert [texts[0][0] for texts in (answer["texts"] for answer in row["answers"])] == [
            f"{arm} answers {row['id']}" for arm in ARMS
        ]
    del opened[""]
    # Once to look through it, and once for each hundred items that are shown.
    assert opened == {f"{TASKS[0][0]}.jsonl": 3, "answers.jsonl": 3 * 3, "grades.jsonl": 3 * 3}


def test_the_page_opens_at_the_items_that_were_forgotten(visit: Any, demo: Path) -> None:
    page = visit(demo / "answers.html")
    buckets = drawn_buckets(60, 1)  # vanilla loses most on the second task
    wrong = ("failed", "truncated", "unanswered")
    lost = sum(a == "passed" and b in wrong for a, b in zip(buckets["seed"], buckets["vanilla"], strict=True))
    note = "forgotten by vanilla: seed right, vanilla wrong"
    assert page.text_content("#count") == f"1–{min(lost, 20)} of {lost} items: {note}"
    page.get_by_role("button", name="all 60").click()
    assert page.text_content("#count") == "1–20 of 60 items"
    page.reload()
    assert page.text_content("#count") == "1–20 of 60 items"


def test_without_a_forgotten_task_the_page_opens_at_all_items(tmp_path: Path) -> None:
    write_answers(tmp_path, "maths", [make_item(0)], {"seed": ["passed"], "vanilla": ["failed"]})
    write_json(tmp_path / "verdict.json", {})
    assert data_of(tmp_path)["start"] == {}
