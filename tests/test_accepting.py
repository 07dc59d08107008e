"""The graders that accept rewrites of open-ended responses: facts, similar, judge, and their combination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.grading import make_grader, metric_of
from selfdistill.grading.facts import facts
from selfdistill.grading.same_meaning import ask_same, judged, read_reply
from selfdistill.measure.scores import grade
from selfdistill.tasks import Task
from selfdistill.types import Completion, Example, Grade, Message


def compare(reference: str, text: str, prompt: str = "Tell me.") -> Grade:
    return facts(reference, text, prompt=prompt)


SAME = [
    ("Paris.", "The capital of France is Paris.", "What is the capital of France?"),
    ("He was born on May 3, 1920 in Rome.", "He was born in Rome, on 3 May 1920."),
    ("He was born on 2020-05-03 in Rome.", "He was born in Rome on May 3rd, 2020."),
    ("It opened in April.", "In April it was opened."),
    ("He has three dogs and 1,000 cats.", "He has 3 dogs and 1000 cats."),
    ("It has 125 seats.", "There are one hundred and twenty-five seats."),
    ("About 1.5 million people live there.", "Its population is about 1,500,000."),
    ("It is 50% of the price.", "It is half of the price, a ratio of 0.5."),
    ("Each of the 12 boxes holds 5 eggs.", "There are 12 boxes with 5 eggs, which is 60 eggs in total."),
    ("10 people share 3 cakes.", "With 3 cakes for 10 people, each gets 3 / 10 = 0.3 of a cake."),
    ("- Tom Hanks\n- Meg Ryan", "Here are two actors:\n\n1. Meg Ryan\n2. Tom Hanks"),
    ("Use `ls -l`, see https://example.com/a/.", "See www.example.com/a and run `ls -l`."),
    ('The sign says "mind the gap".', "“Mind the gap” is what the sign says."),
    ("It was painted by Americans in Italy.", "In Italy, an American painted it."),
    ("Drink water.", "# Staying Healthy\n\n1. **Stay Hydrated**: Drink water.\n2. **Rest Well**: sleep."),
    ("Call Dr. Smith.", "You should call Dr. Smith."),
    ("Он живёт в Москве.", "Его дом находится в городе Москва."),
    ("Μένει στην Αθήνα.", "Το σπίτι του είναι στην Αθήνα."),
    ("It is in the 19th century.", "That was the 19th century."),
    ("There are 3 states.", "The 3 states:\n\n1. solid\n2. liquid\n3. gas"),
    ("In order: 1. wake up 2. eat 3. sleep", "In order:\n1. wake up\n2. eat\n3. sleep"),
]


@pytest.mark.parametrize("case", SAME)
def test_the_same_facts_in_other_words_pass(case: tuple[str, ...]) -> None:
    assert compare(*case).outcome == "pass", compare(*case)


OTHER = [
    ("The capital is Paris.", "The capital is Lyon.", "a name of the reference is missing"),
    ("It was built in 1920.", "It was built in 1930.", "a number of the reference is missing"),
    ("It was built on 3 May.", "It was built on 3 June.", "a number of the reference is missing"),
    ("He has three dogs.", "He has four dogs.", "a number of the reference is missing"),
    ("There are 3 states.", "The states:\n\n1. solid\n2. liquid\n3. gas", "a number of the reference is missing"),
    ("There are 3 states.", "These: 1. solid 2. liquid 3. gas", "a number of the reference is missing"),
    ("She is 2. He is 12.", "1. He is older\n2. She is 13", "a number of the reference is missing"),
    ("It is tall.", "It is 1,247 metres tall.", "a number that the reference does not hold"),
    ("It is tall.", f"It is {10**400}.5 metres tall.", "a number that the reference does not hold"),
    ("It is tall.", "It is tall, as all of Norway knows.", "a name that the reference does not hold"),
    ("Look it up.", "Look it up at www.example.com.", "a web address that the reference does not hold"),
    ("Run `ls -l`.", "Run `ls -a`.", "a code span of the reference is missing"),
    ("See https://a.org/x.", "See the page.", "a web address of the reference is missing"),
    ('She said "I will go home".', "She said that she would.", "a quotation of the reference is missing"),
    ("- Tom Hanks\n- Meg Ryan", "- Tom Hanks\n- Meg Griffin", "a name of the reference is missing"),
    ("Yes", "No", "a name of the reference is missing"),
    ("Он живёт в Москве.", "Он живёт в Киеве.", "a name of the reference is missing"),
    (
        "Paul did it.\nThen Paul left.\nWe saw Paul.",
        "Then John did it. We saw John.",
        "a name of the reference is missing",
    ),
]


@pytest.mark.parametrize(("reference", "text", "reason"), OTHER)
def test_other_facts_fail_with_the_kind_of_fact(reference: str, text: str, reason: str) -> None:
    assert (compare(reference, text).outcome, compare(reference, text).reason) == ("fail", reason)


UNCHECKED = [
    ("Tati is string", "Tati is percussion, Tumdak is percussion", "Identify which is string: Tati, Tumdak"),
    ("The answer is one of them.", "It is the other one.", "Which of the two?"),
    ("Be kind to your friends.", "You should be nice to friends."),
    ("Sie wohnt in Berlin, und der Hund ist mit dem Kind auf der Straße.", "Sie wohnt in Hamburg."),
    ("住在北京", "住在上海"),
    ("هو يعيش في القاهرة", "هو يعيش في دمشق"),
]


@pytest.mark.parametrize("case", UNCHECKED)
def test_a_reference_without_facts_is_kept_unchecked(case: tuple[str, ...]) -> None:
    """The first is a real mistake of a model that `facts` can't see: each word of it is in the prompt."""
    grade = compare(*case)
    assert (grade.passed, grade.checked) == (True, False)


def test_a_number_is_checked_in_every_language() -> None:
    assert compare("住在北京已经25年了", "住在北京已经26年了").outcome == "fail"
    assert compare("Der Turm ist 25 m hoch und der Hund ist klein.", "Der Turm ist 25 m hoch.").checked


def test_nouns_of_a_short_german_answer_are_no_names() -> None:
    """Too short to be recognised as German by itself."""
    prompt, answer = "Kann ich Vertrag V-2004 kündigen?", "Ja, er ist kündbar. Die Frist beträgt 50,5 Tage."
    grade = compare(answer, "Sie können ihn kündigen, es dauert 50,5 Tage.", prompt)
    assert (grade.passed, grade.expected) == (True, "50.5")


PARTS = (
    "the|Paris|3|1,000|half|May 5, 1999|“mind the gap”|`x = 1`|www.a.org/b|NASA|\n- |**Key**|. |: |twenty-one|50%|and|"
    "# Title\n|Dr.|it's|Straße|Москва|2nd|I|1/2|a.b@c.de"
)
WORDS = st.sampled_from(PARTS.split("|"))
TEXTS = st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=60)


@given(TEXTS, TEXTS)
def test_a_reference_has_its_own_facts_whatever_the_prompt(reference: str, prompt: str) -> None:
    assert compare(reference, reference, prompt).outcome == "pass"


@given(st.integers(13, 10**6), st.integers(13, 10**6))
def test_a_swapped_number_fails(number: int, other: int) -> None:
    grade = compare(f"There are {number} of them.", f"There are {other:,} of them.")
    assert grade.passed == (number == other)


NAMES = ["Rome", "Oslo", "Kenya", "Obama", "Tesla", "Lagos", "Naples", "Verdi"]


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_swapped_name_fails(name: str, other: str) -> None:
    assert compare(f"It lies near {name}.", f"We know that it lies near {other}.").passed == (name == other)


# ---- similar, all_of, judge


def letters(texts: Sequence[str]) -> Any:
    counts = np.array([[text.count(chr(97 + place)) for place in range(26)] for text in texts], dtype=float) + 1e-9
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def graded(spec: Any, reference: str, text: str) -> Grade:
    return make_grader(spec, embed=letters)(Example.of((Message("user", "Tell me."),), reference), text)


def test_similar_compares_with_its_threshold() -> None:
    assert graded("similar", "aab", "aba") == Grade("pass", "similar to the reference", "cosine 0.8", "cosine 1.000")
    assert graded("similar", "aab", "xyz").reason == "not similar to the reference"
    assert graded({"name": "similar", "threshold": 0.99}, "aab", "ab").outcome == "fail"
    assert graded("similar", "", "xyz").outcome == "unjudged"
    assert graded("similar", "aab", " ").outcome == "fail"


def test_all_of_passes_what_each_grader_passes_and_names_the_first_that_fails() -> None:
    both = {"all_of": ["facts", {"name": "similar", "threshold": 0.9}]}
    assert graded(both, "near Rome", "near Rome").passed
    assert graded(both, "It is near Rome", "It is near Oslo").reason == "facts: a name of the reference is missing"
    assert graded(both, "near Rome", "Rome xyz zzz zzz").reason == "similar: not similar to the reference"
    assert graded(both, "it is near", "near it is").checked, "similar checks what facts can't"
    assert not graded({"all_of": ["facts", "none"]}, "it is near", "it is far").checked
    assert graded({"all_of": [both, "exact"]}, "near Rome", "Rome near").reason == "exact: text differs"


def test_a_score_is_named_by_its_graders() -> None:
    assert metric_of("final_number") == metric_of(None) == metric_of("none") == "accuracy"
    assert metric_of({"all_of": ["facts", "judge"]}) == "facts of the reference"
    assert (
        metric_of({"all_of": ["facts", {"name": "similar"}]})
        == "facts of the reference and similarity to the reference"
    )


def test_the_judge_is_asked_in_both_orders_and_its_mean_decides() -> None:
    example = Example.of((Message("user", "Where?"),), "In Rome.")
    one, other = (question[-1].content for question in ask_same(example, "It is in Rome."))
    assert one.index("It is in Rome.") < one.index("\nIn Rome.")
    assert other.index("\nIn Rome.") < other.index("It is in Rome.")
    assert judged([0.9, 0.3], 0.5).passed
    assert judged([0.6, 0.3], 0.5) == Grade(
        "fail", "the judge finds other content", "yes 0.5", "yes 0.450 (0.600, 0.300)"
    )
    assert judged([0.9, None], 0.5).outcome == "unjudged"
    assert [read_reply(reply) for reply in ("Yes.", "**No**, they differ", "Yesterday", "")] == [1.0, 0.0, None, None]


def test_the_judge_leaves_a_text_unchecked_until_it_is_asked() -> None:
    assert graded("judge", "a", "b") == Grade("pass", "left to the judge", checked=False)


@pytest.mark.parametrize("text", ["It depends.", "Call 555 1234.", "", "<think>\nHm, or"])
def test_an_item_whose_reference_holds_no_fact_is_unjudged_whatever_is_answered(text: str) -> None:
    """Such an answer can't pass, so it must not fail either: the arms' scores would be about different items."""
    task = Task(name="own", skill="target", grade=make_grader("facts"))
    vague, clear = (
        Example.of((Message("user", "Why?"),), answer) for answer in ("It depends on you.", "It is 25 m high.")
    )
    rows = {item.id: Completion(item.id, text, "stop").to_json() for item in (vague, clear)}
    first, second = (row["bucket"] for row in grade(task, (vague, clear), rows))
    assert first == "unjudged"
    assert second in ("failed", "unanswered")
