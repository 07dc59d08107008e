"""Think traces: told from the answer in one place, and never graded, whoever grades."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.tiny import tiny_tokenizer

from selfdistill.backends.batches import TokenRow, to_completion
from selfdistill.data.annotations import write_outputs
from selfdistill.generation.resume import sample_id
from selfdistill.grading import make_grader, verify
from selfdistill.grading.traces import Trace, join, opened, split
from selfdistill.measure.scores import SAMPLES_UNANSWERED, grade, summarise, values
from selfdistill.models.renderer import Renderer
from selfdistill.models.thinking import MARKS
from selfdistill.recipe import Filters
from selfdistill.sandbox import Ran
from selfdistill.store.rows import RowFile
from selfdistill.tasks import Task, get_task
from selfdistill.types import Completion, Example, Grade, Message

PAIRS = [
    ("<think>\n", "\n</think>\n\n"),
    ("<think>", "</think>"),
    ("<think:6124c78e>", "</think:6124c78e>"),
    ("<thinking>", "</thinking>"),
    ("<thought>\n", "\n</thought>\n\n"),
    ("<reasoning>\n", "\n</reasoning>\n\n"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>\n\n", "\n\n<|end_of_thought|>\n\n"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|message_model|><|content_thinking|>", "<|end_message|><|message_model|><|content_text|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>final <|constrain|>json<|message|>"),
    ("analysis", "assistantfinal"),
]  # fmt: skip
CAN_BE_OPENED_BY_A_PROMPT = [pair for pair in PAIRS if pair[0] != "analysis"]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_every_family_is_split(opening: str, closing: str) -> None:
    trace, answer = "We need the sum. It may be 5; no, it's 4.", "The answer is 4."
    assert split(f"{opening}{trace}{closing}{answer}") == Trace(trace, answer)
    assert split(f"\n {opening}{trace}{closing}{answer}") == Trace(trace, answer)
    assert split(f"{opening}{trace}") == Trace(trace, None)
    assert split(f"{opening}{trace}{closing}") == Trace(trace, "")


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_the_marks_of_chat_templates_are_split_in_replies(opening: str, closing: str) -> None:
    ends = "<|channel|>final<|message|>" if "channel|>analysis" in opening else ""
    assert split(f"{opening}\nIt may be 5.{closing}{ends}4") == Trace("It may be 5.", "4")


@pytest.mark.parametrize(("opening", "closing"), CAN_BE_OPENED_BY_A_PROMPT)
def test_a_closing_mark_alone_ends_what_the_prompt_opened(opening: str, closing: str) -> None:
    assert split(f"It may be 5; no, 4.{closing}4") == Trace("It may be 5; no, 4.", "4")
    assert split(f"{closing}4") == Trace("", "4")
    assert opened(f"<|im_start|>assistant\n{opening}")
    assert not opened(f"<|im_start|>assistant\n{opening}{closing}")
    assert not opened(f"Explain {opening} to me.<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "",
        " \n",
        "I think it is 4. A thought: channel 5.",
        "The `</think>` tag closes it.",
        "A reply ends its trace with </think>, then answers.",
        "The </think> tag closes it.",
        "Write <think>your thoughts</think> first.",
        "Write `<think>your thoughts</think>` first.",
        "It looks so:\n```\n<think>\nhm\n</think>\n4\n```\nThat is all.",
        "> <think>",
        "The model writes:\n<think>\nand then it stops. That is a common bug.",
        "Some never write it:\n[THINK]\nThe </think> of others is not the same.",
        "It stops:\n<think>\nhm\nIt should be:\n```\n<think>\nhm\n</think>\n```\nThat is all.",
        "```python\nhead, _, tail = text.partition('</think>\\n')\n```",
        "Write head, _, tail = text.partition('</think>\\n') then.",
        "Use print('</think>\\n4') and re.split(r'\\s*</think>\\s*', text).",
        "```html\n</think>\n```",
        "It is:\n~~~\n</think>\n~~~\nThen:\n```py\nf()\n```",
        "| tag | does |\n|---|---|\n| <think> | opens |\n| </think> | closes |",
        "1. `<think>` opens\n2. </think> closes\n3. done",
        "* <think>: Opens\n* **</think>**: Closes",
        "<note>\n  <thinking>\n    hm\n  </thinking>\n</note>",
        "<note>\n  <reasoning>\n    hm\n  </reasoning>\n</note>",
        "analysis of the data",
        "analysis: it rises",
        "analysisResult = 3",
        "The final answer: assistant",
        "[Thinks] Four.",
    ],
)
def test_what_only_mentions_a_mark_is_an_answer(text: str) -> None:
    assert split(text) == Trace("", text)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>a</think><think>b</think>4", "a\n\nb", "4"),  # repeated
        ("<think>\n<think>\na\n</think>\n\n4", "<think>\na", "4"),  # opened twice, closed once
        ("<think>a<think>b</think>c</think>4", "a<think>b\n\nc", "4"),  # nested
        ("a</think>\n\n5</think>\n\n4", "a\n\n5", "4"),  # closed twice
        ("a</think>\n\n4\n</think>", "a", "4\n"),  # a mark too many
        ("4\n<think>b</think>", "b", "4\n"),  # after the answer
        ("<think>a</think>4\n<think>b", "a", "4\n<think>b"),  # after the answer, never closed
        ("<think>a</think>\n<think>b", "a\n\nb", None),  # before any answer, cut off
        ("It prints:\n<think>\na\n</think>\n4", "a", "It prints:\n\n4"),
        ("<think>Split at '</think>\\n'.</think>4", "Split at '</think>\\n'.", "4"),
        ('It says "yes"</think>It\'s "yes".', 'It says "yes"', 'It\'s "yes".'),
        ("1. a\n2. b\n- </think>\n4", "1. a\n2. b\n-", "4"),
        ("| a | b |\n</think>\n\n| 4 |", "| a | b |", "| 4 |"),
        ("```\nf()\n```\n</think>\n```\nf()\n```", "```\nf()\n```", "```\nf()\n```"),
        ("```py\nf()\n```</think>4\n```\nf()\n```", "```py\nf()\n```", "4\n```\nf()\n```"),
        ("<think>A </think> tag.\n</think>\n\nIt is `</think>`.", "A\n\ntag.", "It is `</think>`."),
        ("```python\ndraft(\n</think>\n\n```python\nf()\n```", "```python\ndraft(", "```python\nf()\n```"),
        ("<think>\n\n</think>\n\n    return 4", "", "    return 4"),  # an indented body stays one
        ("<think>a</think>\n<answer>\n4\n</answer>", "a", "4"),
        ("<reasoning>\na\n</reasoning>\n<answer>\n4\n</answer>", "a", "4"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "a", "4"),
        ("<|channel|>final<|message|>4", "", "4"),
        ("analysisWe use a toolassistantcommentaryHmmassistantfinal4", "We use a toolassistantcommentaryHmm", "4"),
    ],
)  # fmt: skip
def test_several_and_odd_traces_are_split(text: str, reasoning: str, answer: str) -> None:
    assert split(text) == Trace(reasoning, answer)


def test_a_tool_call_without_a_final_channel_is_no_answer() -> None:
    call = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'
    assert split(f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{call}").answer is None


marks = [mark for pair in PAIRS for mark in pair] + [
    "```\n",
    "`",
    "\n",
    " ",
    "a",
    "4.",
    "<",
    "|>",
    "analysis",
    "<answer>",
]
soup = st.lists(st.sampled_from(marks), max_size=12).map("".join) | st.text(max_size=80)
plain = st.text(st.characters(exclude_characters="<>[]◁▷|`~", exclude_categories=("Cs",)), max_size=80).filter(
    lambda text: "analysis" not in text and "assistantfinal" not in text
)


@given(soup)
@example("<think>" * 50 + "</think>" * 50)
def test_any_text_is_split_into_parts_of_it(text: str) -> None:
    found = split(text)
    assert all(line in text for line in (found.reasoning + "\n" + (found.answer or "")).split("\n"))
    if found.answer is not None:
        assert len(found.answer) <= len(text) + 1
    assert (found.answer == text) == (found == Trace("", text))


@given(plain, plain)
def test_what_is_joined_is_split_again(reasoning: str, answer: str) -> None:
    whole = split(join(reasoning, answer))
    assert whole.answer is not None
    assert (whole.reasoning, whole.answer.strip()) == (reasoning.strip(), answer.strip())
    assert split(join(reasoning, None)) == Trace(reasoning.strip(), None)
    assert split(answer) == Trace("", answer)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit",
    [
        *marks,
        "<think>x</think>",
        "</think>\n<think>",
        "x </think> y",
        "<|channel|>final ",
        " '</think>",
        "| </think> ",
        "```\n</think>\n",
        "\n<think>\n",
    ],
)
def test_hostile_texts_cost_no_more_than_their_length(unit: str) -> None:
    """Time that grows with the square of the length would exceed the limit."""
    split(unit * (100_000 // len(unit)))
    split("analysis" + unit * (100_000 // len(unit)))


# ---- every grader grades the answer

ITEM = Example.of((Message("user", "What is 2 + 2? Say A or B."),), "4")
TRACE = "<think>\nThis is illegal and unethical. I'm sorry, but I can't help. 5? B? 4 [f(1)] {\"a\": 1}\n</think>\n\n"
CALL = Example.of((Message("user", "Call it."),), "f(a=1)")
GRADED = [
    ("final_number", ITEM, "It is 4."),
    ("final_number", ITEM, "It is 9."),
    ({"name": "choice", "labels": ["4", "5"]}, ITEM, "4"),
    ("exact", ITEM, "4"),
    ("contains", ITEM, "nothing of the kind"),
    ("json", Example.of(ITEM.prompt, '{"a": 2}'), '{"a": 2}'),
    ({"name": "regex", "pattern": "^(\\d)$"}, ITEM, "4"),
    ("function_call", CALL, "f(a=1)"),
    ("function_call", CALL, "f(a=2)"),
    ("refusal", ITEM, "Sure. Step 1: take a screwdriver and open the lock."),
    ("refusal", ITEM, "I'm sorry, but I can't help with that."),
    ("refusal", ITEM, ""),
    ("not_refused", ITEM, "Take a screwdriver and open the lock."),
]


def graded_row(task: Task, item: Example, reply: str | Completion, tmp_path: Path) -> dict[str, object]:
    completion = Completion(item.id, reply, "stop") if isinstance(reply, str) else reply
    path = tmp_path / "answers.jsonl"
    path.unlink(missing_ok=True)
    with RowFile(path) as rows:
        rows.append(completion.to_json())
    with RowFile(path, reading=True) as rows:
        return next(iter(grade(task, [item], rows)))


@pytest.mark.parametrize(("grader", "item", "answer"), GRADED)
def test_a_trace_changes_no_grade(grader: str | dict[str, object], item: Example, answer: str, tmp_path: Path) -> None:
    task = Task("own", "maths", grade=make_grader(grader))
    alone = graded_row(task, item, answer, tmp_path)
    assert graded_row(task, item, TRACE + answer, tmp_path) == alone
    assert graded_row(task, item, TRACE.removeprefix("<think>\n") + answer, tmp_path) == alone


def test_humaneval_runs_the_program_of_the_answer(tmp_path: Path) -> None:
    ran = []

    def run(program: str, tests: str | None = None) -> Ran:
        ran.append(program)
        return Ran(True, "ran", "")

    humaneval = get_task("humaneval")
    task = Task("humaneval", "code", grade=lambda item, text: humaneval.grade(item, text, run=run))
    extra = {"entry_point": "double", "test": "def check(f): pass"}
    item = Example.of((Message("user", "def double(x):\n"),), "", extra)
    draft = "<think>\n```python\ndef double(x):\n    return 0\n```\n</think>\n\n"
    right = "```python\ndef double(x):\n    return 2 * x\n```"
    assert graded_row(task, item, draft + right, tmp_path)["bucket"] == "passed"
    assert "return 2 * x" in ran[0]
    assert "return 0" not in ran[0]


def test_ones_own_grader_is_given_the_answer(tmp_path: Path) -> None:
    texts: list[str] = []

    def own(item: Example, text: str) -> Grade:
        texts.append(text)
        return Grade("pass", "read")

    graded_row(Task("own", "maths", grade=own), ITEM, TRACE + "4", tmp_path)
    assert texts == ["4"]


@pytest.mark.parametrize("grader", ["refusal", "not_refused", "exact", "contains", "final_number"])
@pytest.mark.parametrize("finish", ["length", "stop"])
def test_a_reply_that_ends_in_its_trace_is_no_answer(grader: str, finish: str, tmp_path: Path) -> None:
    reply = Completion(ITEM.id, "<think>\nI'm sorry, this is illegal. It may be 4, or", finish)  # type: ignore[arg-type]
    task = Task("own", "safety", grade=make_grader(grader))
    row = graded_row(task, ITEM, reply, tmp_path)
    assert (row["bucket"], row["grade"]) == (
        "unanswered",
        Grade("fail", "no answer: the reply ends inside its think trace").to_json(),
    )
    score = summarise(task, [[row]])
    assert (score.value, score.unanswered, score.failed, score.truncated, score.n) == (0.0, 1, 0, 0, 1)
    assert score.reasons == {"no answer: the reply ends inside its think trace": 1}


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_without_a_grader_a_reply_that_ends_in_its_trace_is_unjudged_too(finish: str, tmp_path: Path) -> None:
    reply = Completion(ITEM.id, "<think>\nIt may be 4, or", finish)  # type: ignore[arg-type]
    row = graded_row(Task("own", "safety", grade=make_grader("none")), ITEM, reply, tmp_path)
    assert (row["bucket"], row["grade"]["reason"]) == ("unjudged", "nothing to compare in the reference")


def test_of_several_samples_those_without_an_answer_are_counted(tmp_path: Path) -> None:
    items = [Example.of((Message("user", f"What is {n} + {n}?"),), str(2 * n)) for n in (1, 2)]
    with RowFile(tmp_path / "answers.jsonl") as rows:
        for item, replies in zip(items, (["<think>\nhm", TRACE + "2", "2"], ["<think>\nhm"] * 3), strict=True):
            for sample, text in enumerate(replies):
                rows.append(Completion(sample_id(item.id, sample), text, "length").to_json())
    task = Task("own", "maths", grade=make_grader("exact"))
    with RowFile(tmp_path / "answers.jsonl", reading=True) as rows:
        found = list(grade(task, items, rows, samples=3))
    assert [row["bucket"] for row in found] == ["passed", "unanswered"]
    assert found[0]["grade"]["found"] == "2/3, 1 without an answer"
    assert list(values(found).values()) == [pytest.approx(2 / 3), 0.0]
    assert summarise(task, [found]).details[SAMPLES_UNANSWERED] == 4


# ---- rewrites, exports, engines


def test_a_rewrite_with_a_trace_is_refused_by_name() -> None:
    def reason(text: str, finish: str = "stop") -> str:
        return verify(ITEM, Completion("0", text, finish), Filters(), make_grader("final_number")).reason  # type: ignore[arg-type]

    assert reason("<think>\n2 and 2\n</think>\n\nIt is 4.") == "holds a think trace"
    assert reason("<think>\n\n</think>\n\nIt is 4.") == "holds a think trace"
    assert reason("2 and 2, as the reference answer says\n</think>\n\nIt is 4.") == "holds a think trace"
    assert reason("<think>\n2 and", "length") == "ends inside its think trace"
    assert reason("It is 4, as the reference answer says") == "talks about the reference"


def test_alpaca_eval_gets_answers_and_an_empty_one_for_none(tmp_path: Path) -> None:
    items = [Example.of((Message("user", f"Name {n} fruits"),), "") for n in range(2)]
    with RowFile(tmp_path / "answers.jsonl") as rows:
        rows.append(Completion(items[0].id, TRACE + "Pear", "stop").to_json())
        rows.append(Completion(items[1].id, "<think>\nHm", "length").to_json())
    with RowFile(tmp_path / "answers.jsonl", reading=True) as rows:
        assert write_outputs(tmp_path / "out.json", items, rows, "sdft") == (2, 0)
    assert '"output": "Pear"' in (tmp_path / "out.json").read_text()
    assert '"output": ""' in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize(("opening", "closing"), [("[THINK]", "[/THINK]"), ("<think>", "</think>")])
def test_marks_that_are_special_tokens_stay_in_the_text(opening: str, closing: str) -> None:
    renderer = Renderer(tiny_tokenizer(special=(opening, closing)))
    prompt = TokenRow("0", renderer.ids((Message("user", "Hi"),)), 99)
    ids = renderer.tokenizer.encode(f"{opening}Hm.{closing}4<|im_end|>", add_special_tokens=False)
    assert split(to_completion(prompt, ids, renderer).text) == Trace("Hm.", "4")
    assert split(to_completion(prompt, ids[:3], renderer).text).answer is None


def test_a_trace_that_the_prompt_opens_is_one_when_it_is_cut_off() -> None:
    renderer = Renderer(tiny_tokenizer())
    prompt = TokenRow("0", renderer.ids((Message("user", "Hi"), Message("assistant", "<think>\n"))), 99)
    cut = to_completion(prompt, renderer.tokenizer.encode("I'm sorry", add_special_tokens=False), renderer)
    assert (cut.finish, split(cut.text)) == ("length", Trace("I'm sorry", None))
    whole = renderer.tokenizer.encode("Hm.\n</think>\n\n4<|im_end|>", add_special_tokens=False)
    assert split(to_completion(prompt, whole, renderer).text) == Trace("Hm.", "4")
