"""What filters rejects, what it lets pass, and how it joins with a grader."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.data import read_conversations
from selfdistill.generation.prompts import REWRITING, load_template
from selfdistill.generation.rewriter import Rewriter
from selfdistill.grading import make_grader, verify
from selfdistill.grading.filters import check, leaks
from selfdistill.grading.leaks import template_headings
from selfdistill.recipe import DataConfig, Filters, Sampling
from selfdistill.store.rows import RowFile
from selfdistill.types import Completion, Example, Finish, Grade, Message

ENGLISH = "The river rises in the hills and reaches the sea after a long way through the plain."
CHINESE = "这条河发源于山区，经过平原上漫长的路程后流入大海。"
RUSSIAN = "Река берёт начало в горах и после долгого пути по равнине впадает в море."


def reason(text: str, reference: str = ENGLISH, finish: Finish = "stop", **keys: Any) -> Any:
    example = Example.of((Message("user", "Tell me of the river."),), reference)
    return check(example, Completion(example.id, text, finish), Filters(**keys))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It begins in the hills.", None),
        ("", "empty"),
        (" \n ", "empty"),
        ("It begins in the hills.<|im_end|>", "chat marker in the text"),
        ("It begins.</s>", "chat marker in the text"),
        ("It begins. [INST] Go on", "chat marker in the text"),
        ("It begins.\n### Instruction:\nMore", "heading of the rewriting template"),
        ("As the reference answer says, it begins.", "talks about the reference"),
        ("Here is my own answer: it begins.", "talks about the reference"),
        ("Now it’s your turn: it begins.", "talks about the prompt"),
        ("Based on the given instruction, it begins.", "talks about the prompt"),
        ("I'm sorry, but I can't talk about rivers.", "refuses, unlike the reference"),
        ("As an explorer said, rivers cannot be late.", None),
        ("It flows and flows " * 30, "repeats itself"),
        ("It flows.\n" * 30, "repeats itself"),
        ("Well " + "ha" * 100, "repeats itself"),
        ("很长" * 30, "repeats itself"),
        ("| a | b |\n|-----------------------------------------|---|\n| it | flows |", None),
        (RUSSIAN, "other script than the reference"),
        (CHINESE, "other script than the reference"),
        ("It flows. 2 + 2 = 4 ± 0 ≈ 4", None),
    ],
)
def test_each_kind_of_leak_has_its_reason(text: str, found: str | None) -> None:
    assert reason(text) == found


LEAKS = {
    "talks about the reference": """
As stated in the reference, it opened in 1931.
Per the reference, it opened in 1931.
The reference notes that it opened late.
I used the reference as a guide: it opened late.
Following the provided guide, it opened late.
Here's my own response: it opened late.
Rewritten answer: it opened late.
Based on the guide, it opened in 1931.
Using the provided guide, we find that it opened late.
Here's a rephrased version of the response: it opened late.
Here is my version of the answer: it opened late.
In my own words: it opened late.
The sample answer mentions that it opened late.
It opened late. Note: I kept all facts, names and numbers from the original.
Here is the answer in my own words: it opened late.
Gemäß der Referenz wurde sie 1931 eröffnet.
Auf Grundlage der Musterlösung sind es 9.
Hier ist meine eigene Antwort: 9.
Selon la réponse de référence, il y en a 9.
Voici ma propre réponse : 9.
Según la referencia, son 9.
Esta es mi propia respuesta: 9.
Secondo la risposta di riferimento sono 9.
De acordo com a resposta de referência, são 9.
Com base na referência, são 9.
Volgens het referentieantwoord zijn het er 9.
Zgodnie z odpowiedzią referencyjną jest ich 9.
Согласно эталонному ответу, их девять.
Вот мой собственный ответ: девять.
根据参考答案，一共有九个。
以下是我自己的回答：九个。
参考回答によると、九つです。
참고 답변에 따르면 아홉 개입니다.
""",
    "talks about the prompt": """
Your answer is too short, so I have rephrased it.
I'll rephrase this: it opened late.
I've rewritten the answer: it opened late.
I rephrased your answer: it opened late.
Here is your response: it opened late.
The prompt asks when it opened.
It opened late. Our response to the task is 1931.
It opened late. Please provide your answer in a table.
""",
}
HARMLESS = """
The reference desk is beside the stairs, and the reference manual on it.
A reference to the list is passed; copying it costs nothing.
He told the story in his own words, and wrote his own answers.
We look forward to your response.
The tour guide answered all the questions about the guidebook.
According to the guide, tip 15%. The reference guide is at /docs.
Follow the guide above, or use the guide provided by the maker.
The variable holds a reference; using the reference, we can change the object.
Use the reference, not a copy.
Please provide your answer by Friday.
Your answer is correct if x > 0.
Let me rewrite this as a fraction. I will rewrite it in words.
Die Referenzliste hängt im ersten Stock.
Como referencia, la torre mide 300 metros.
Le livre de référence coûte neuf euros.
Il punto di riferimento è la torre.
Она ответила своими словами.
参考文献见最后一页。
참고로 역은 강가에 있습니다.
"""


@pytest.mark.parametrize(("text", "found"), [(t, r) for r, ts in LEAKS.items() for t in ts.strip().splitlines()])
def test_talk_of_the_reference_is_found_in_any_language(text: str, found: str) -> None:
    assert reason(text, "9", script=False) == found
    assert reason(text, f"Write this: {text}", script=False) is None, "the original holds it too"
    assert reason(text, "9", script=False, reference_talk=False) is None


@pytest.mark.parametrize(
    "text", ["The guide says that it opened late.", "**Rewritten:** it opened late.", "Rephrased: it is late."]
)
def test_some_talk_of_the_reference_counts_only_at_the_start(text: str) -> None:
    assert reason(text) == "talks about the reference"
    assert reason(f"So I went in.\n{text}") is None
    assert reason(text, text) is None


@pytest.mark.parametrize("text", HARMLESS.strip().splitlines())
def test_harmless_references_are_kept(text: str) -> None:
    assert reason(text, "9", script=False) is None


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        ("It is 9.\n\nUser: And with one more?\nAssistant: It is 10.", True),
        ("User: And with one more?\nAssistant: It is 10.", True),
        ("It is 9.\n**Human:** And with one more?\n**AI:** It is 10.", True),
        ("It is 9.\n\nHuman: And with one more?", True),
        ("Assistant: It is 9.", True),
        ("Es sind 9.\nBenutzer: Und danach?\nAssistent: 10.", True),
        ("一共九个。\n用户：还有呢？\n助手：十个。", True),
        ("Q: And with one more?\nA: 10.", True),
        ("It is 9.\n\n**Question:** And with one more?\n**Answer:** 10.", True),
        ("It is 9.\nBot: What else?\nUser: Nothing.", True),
        ("Bot: Discord", False),
        ("Q: the charge\nA: the area", False),
        ("Is it 9?\nA: yes\nB: no", False),
        ("User: names a column; Assistant: names another.", False),
        ("User: root\nPassword: none", False),
        ("AI: artificial intelligence\nOS: operating system", False),
        ("Dog: 78 chromosomes\nHuman: 46 chromosomes", False),
        ("The user asks: what now? The assistant: nothing.", False),
    ],
)
def test_turns_of_a_further_dialogue_are_found(text: str, goes_on: bool) -> None:
    assert reason(text, "9", script=False) == ("invents further turns" if goes_on else None)
    assert reason(text, "User: How many?\nAssistant: 9.", script=False) is None, "the original is a dialogue too"


def test_headings_of_the_rewriting_template_are_found() -> None:
    for text in ("### Answer:\nNine", "## Response: Nine", "Nine\n### Reference answer:\n9", "Your answer: Nine"):
        assert reason(text) == "heading of the rewriting template", text
        assert reason(text, f"Fill in this form.\n{text}") is None
    for text in (
        "### Input:\nA list of ints",
        "## Answers to common questions\nNine",
        "### The answer\nNine",
        "**Answer** the phone.",
        "Answer: 9",
    ):
        assert reason(text) is None, text


def test_headings_of_a_users_own_template_are_found() -> None:
    headings = template_headings("Task: {instruction}\n\n## Model text:\n{reference}\n\n**Draft:**\nSecond try:\n")
    assert headings == {"model text", "draft", "second try"}
    example = Example.of((Message("user", "How many?"),), "There are 9.")

    def found(text: str) -> str | None:
        return check(example, Completion(example.id, text, "stop"), Filters(), headings)

    for text in ("## Model text\nNine", "**Draft:** Nine", "Nine.\nSecond try: 9"):
        assert found(text) == "heading of the rewriting template"
    assert found("A second try: nine. The draft says so.") is None
    assert found("Task: nine") is None, "a single word is what an answer may begin with"


def test_sentences_of_the_rewriting_prompt_are_found_unless_the_row_has_them() -> None:
    headings = template_headings(REWRITING["own-words"].user)
    echo = "Rewrite the answer below in your own words.\n\nNine."

    def found(asked: str, text: str) -> str | None:
        example = Example.of((Message("user", asked),), "There are 9.")
        return check(example, Completion(example.id, text, "stop"), Filters(), headings)

    assert found("How many?", echo) == "sentence of the rewriting template"
    assert found("How many? Rewrite the answer below in your own words: 9", echo) is None
    assert found("How many?", "Nine. Write only the answer.") is None


def test_a_rewrite_is_checked_with_the_headings_of_its_template(tmp_path: Path) -> None:
    """From the file of the user's template to the verdict."""
    path = tmp_path / "own.txt"
    path.write_text("{instruction}\n\n## Sample:\n{reference}\n\n## New text:\n", encoding="utf-8")
    example = Example.of((Message("user", "How many?"),), "There are 9.")
    rewriter = Rewriter(load_template(str(path)), make_grader("none"), Sampling(), Filters(), "model")
    with RowFile(tmp_path / "completions.jsonl") as rows:
        rows.append(Completion(rewriter.prompt(example).id, "## New text:\nNine.", "stop").to_json())
    (rewrite,) = rewriter.select([example], RowFile(tmp_path / "completions.jsonl"))
    assert rewrite.grade == Grade("fail", "heading of the rewriting template")


def test_the_papers_references_raise_few_alarms(real_data: Path) -> None:
    """Each original is checked as if it were the rewrite of an empty one."""
    for name in ("lima", "dolly", "alpaca"):
        rows = read_conversations(DataConfig(path=str(real_data / f"sdft/{name}_train.json")))
        examples = [example for row in rows for example in row.examples()]
        found = [one.reference for one in examples if leaks(one.reference, Example.of(one.prompt, "-"), Filters())]
        assert len(found) <= 0.003 * len(examples), found
        assert not [one for one in examples if leaks(one.reference, one, Filters())], "its own reference"


def test_a_rewrite_that_was_cut_off_is_refused() -> None:
    assert reason("It begins", finish="length") == "cut off at the limit"
    assert reason("", finish="error") == "backend error"
    off = {"reference_talk": False, "refusal": False, "end_of_turn": False, "script": False, "max_repeats": None}
    assert reason("It begins", finish="length", **off) == "cut off at the limit"
    looped = "It begins. " + "And then it begins again. " * 9
    assert reason(looped, finish="length", **off) == "ends in a loop"
    assert reason("It begins", finish="loop", **off) == "ends in a loop"


@pytest.mark.parametrize(
    ("text", "key", "off"),
    [
        ("It begins.</s>", "end_of_turn", False),
        ("The reference answer says so.", "reference_talk", False),
        ("I'm sorry, but I can't talk about rivers.", "refusal", False),
        ("It flows. " * 30, "max_repeats", None),
        (CHINESE, "script", False),
        (ENGLISH * 40, "max_length_ratio", None),
    ],
)
def test_each_check_can_be_turned_off(text: str, key: str, off: Any) -> None:
    others = {"max_repeats": None} if key == "max_length_ratio" else {}
    assert reason(text, **others) is not None
    assert reason(text, **others, **{key: off}) is None


def test_what_the_original_does_itself_is_allowed() -> None:
    assert reason("The marker <|im_end|> ends a turn.", "Write <|im_end|> at the end.") is None
    assert reason("The marker <|im_start|> starts it.", "Write <|im_end|> at the end.") == "chat marker in the text"
    assert reason("Wait for your response, please.", "I look forward to your response.") is None
    assert reason("I'm sorry, I can't help with theft.", "I cannot help with that.") is None
    assert reason("0 " * 40, "1 " * 40) is None
    assert reason(CHINESE, CHINESE[::-1]) is None
    assert reason(ENGLISH, CHINESE) == "other script than the reference"


def test_code_alone_has_no_script() -> None:
    code = "```python\nprint(sum(range(10)))\n```"
    assert reason(code, f"{RUSSIAN}\n{code}", min_length_ratio=None) is None
    assert reason(f"{CHINESE}\n{code}", code, max_length_ratio=None) is None


def test_mixed_and_code_texts_have_no_script() -> None:
    code = "```python\n" + "value = compute(value)\nprint(value)\n" * 3 + "```"
    assert reason(f"{RUSSIAN}\n{code}", RUSSIAN) is None
    assert reason(f"{CHINESE} The river, as I said.", CHINESE) is None


def test_length_is_judged_beside_the_reference_but_short_ones_set_no_measure() -> None:
    steps = " ".join(f"Step {n}: take {n} of them and write it down." for n in range(30))
    assert reason(steps, "18") is None
    assert reason("18", "The answer is 18.") is None
    assert reason(steps + steps[::-1], "18") == "too long for the reference"
    assert reason("18", steps) == "too short for the reference"
    assert reason("18", steps[:190]) is None
    assert reason("18", steps, min_length_ratio=None) is None
    assert reason(steps[:200], steps, min_length_ratio=0.5) == "too short for the reference"


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_any_text_gets_an_answer(text: str, reference: str) -> None:
    found = reason(text, reference)
    assert found is None or (found == found.lower() and found != "empty")
    assert reason(text, text) is None, "the original itself is always clean"


@pytest.mark.timeout(60)
def test_no_text_takes_long() -> None:
    pieces = ("a ", "ab", "a\n", "<|a", "1.", "own ", "I am so ", "the answer ", "```", "很", "é", "the the a ")
    for piece in (
        *pieces,
        "User: a?\n",
        "### a",
        "# answer:\n",
        "the reference ",
        "**x",
        "参考",
        "your response ",
        "Q: a? ",
        "Q: a?\nA",
        "in my own ",
    ):
        text = (piece * 100_000)[:100_000]
        reason(text)
        reason(text, text)


def test_verify_applies_filters_before_the_grader() -> None:
    example = Example.of((Message("user", "How many?"),), "#### 18")
    grade = make_grader("final_number")

    def verdict(text: str, finish: Literal["stop", "length", "error"] = "stop") -> Grade:
        return verify(example, Completion(example.id, text, finish), Filters(), grade)

    assert verdict("There are 18.").passed
    assert verdict("There are 17.") == Grade("fail", "number differs", "18", "17")
    assert verdict("There are 18", "length") == Grade("fail", "cut off at the limit")
    assert verdict("", "error") == Grade("unjudged", "backend error: no reason given")
    assert verdict("The reference answer is 18.").outcome == "fail"
