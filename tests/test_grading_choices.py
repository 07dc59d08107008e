"""Which choice a text makes: the same one in many phrasings, corrected, negated, or left open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.grading import make_grader
from selfdistill.types import Example, Grade


def judge(grader: str, reference: str, text: str, **options: object) -> Grade:
    return make_grader({"name": grader, **options})(Example.of((), reference), text)


# The choice stands at {}.
PHRASINGS = [
    "{}",
    "({})",
    "{}.",
    "{})",
    "**{}**",
    "**({})**",
    "\\boxed{{{}}}",
    "\\boxed{{\\text{{{}}}}}",
    "$\\boxed{{{}}}$",
    "{}) text",
    "{}. some text",
    "The answer is {}.",
    "The answer is {}",
    "The answer is: {}",
    "The answer is ({}).",
    "The answer is **{}**",
    "**Answer:** {}",
    "**Answer: {}**",
    "Answer: {}",
    "Answer: ({}) text",
    "Final answer: {}",
    "The final answer is {}",
    "The correct answer is {}.",
    "The correct option is {}.",
    "The correct choice would be ({}).",
    "The best answer is option {}.",
    "Option {}",
    "Option {} is correct.",
    "{} is correct.",
    "{} is the correct answer.",
    "({}) is right.",
    "I choose {}.",
    "I'd go with {}.",
    "I would pick ({}).",
    "It's {}.",
    "It is {}",
    "So {}.",
    "Therefore, {}.",
    "The answer is therefore {}",
    "The answer is {}. I hope this answer helps!",
    "The answer is {} because the other ones are wrong.",
    "Let me think about it.\n\n{}",
    "Let me think about it.\n\n**{}**",
    "#### {}",
    "The correct answer to this question is {}.",
    "My answer is {}.",
    "I believe the answer is {}.",
    "### Answer\n{}",
    "The answer is option ({}).",
    "<answer>{}</answer>",
    "Answer: option {}",
    "{}\n\nExplanation: the others are too small.",
    "The answer would be {}",
    "{} is the best choice.",
    "{}, because it is so.",
]
LABELS = [[], ["positive", "negative", "neutral"], ["yes", "no"], ["spam", "ham"], ["not entailed", "entailed"],
          ["Sehr gut", "schlecht"], ["A", "B", "C"], ["1", "2", "3"]]  # fmt: skip


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: "-".join(labels) or "letters")
@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_the_choice_and_no_other_passes_in_any_phrasing(phrasing: str, labels: list[str]) -> None:
    options = {"labels": labels} if labels else {}
    for gold in labels or "ABCDE":
        for said in labels or "ABCDE":
            verdict = judge("choice", gold, phrasing.format(said), **options)
            assert verdict.passed == (gold == said), (gold, said, verdict)


NEGATIONS = [
    "Not {}.",
    "It is not {}.",
    "This isn't {}.",
    "It cannot be {}.",
    "The answer is not {}.",
    "I don't think it is {}.",
    "{} is wrong.",
    "{} is not correct.",
    "It is neither {} nor anything else.",
    "The answer isn't {}.",
]


@pytest.mark.parametrize("labels", LABELS[:-1], ids=lambda labels: "-".join(labels) or "letters")
@pytest.mark.parametrize("negation", NEGATIONS)
def test_a_negated_choice_never_passes(negation: str, labels: list[str]) -> None:
    options = {"labels": labels} if labels else {}
    for said in labels or "ABCDE":
        if not {"no", "entailed"} & {said} or negation.startswith("{}"):
            assert not judge("choice", said, negation.format(said), **options).passed


@pytest.mark.parametrize(
    ("reference", "text", "outcome"),
    [
        ("A", "Not B.", "fail"),
        ("B", "Not B.", "fail"),
        ("B", "It cannot be B.", "fail"),
        ("B", "It is neither A nor B.", "fail"),
        ("B", "B is wrong.", "fail"),
        ("B", "B) is wrong.", "fail"),
        ("B", "The answer is not B.", "fail"),
        ("B", "The answer isn't B.", "fail"),
        ("B", "The answer is B or C.", "fail"),
        ("C", "The answer is B or C.", "fail"),
        ("B", "B or C", "fail"),
        ("B", "Either B or C.", "fail"),
        ("B", "The answer is B and C.", "fail"),
        ("B", "B, C", "fail"),
        ("C", "The answer is B. Wait, the answer is C.", "pass"),
        ("B", "The answer is B. Wait, the answer is C.", "fail"),
        ("B", "Not (A) but (B).", "pass"),
        ("A", "Not (A) but (B).", "fail"),
        ("B", "A dog is a pet.", "fail"),
        ("A", "A dog is a pet.", "fail"),
        ("A", "The answer is a dog.", "fail"),
        ("A", "The answer is A dog.", "fail"),
        ("I", "I think it is B.", "fail"),
        ("B", "I think it is B.", "pass"),
        ("B", "A) no\nB) yes", "fail"),
        ("A", "A) no\nB) yes", "fail"),
        ("B", "A) no\nB) yes\n\nB", "pass"),
        ("B", "a) no\nb) yes\nI choose b)", "pass"),
        ("B", "A is too small. B is correct. C is too large.", "pass"),
        ("A", "A is not correct, B is correct.", "fail"),
        ("B", "The answer is (b).", "pass"),
        ("B", "The answer is b", "pass"),
        ("B. Paris", "Paris", "pass"),
        ("B. Paris", "The answer is Paris.", "pass"),
        ("B. Paris", "London", "fail"),
        ("Paris", "The answer is Paris.", "pass"),
        ("B", "The answer is B. Many people think the answer is A, but that's wrong.", "pass"),
        ("A", "The answer is B. Many people think the answer is A, but that's wrong.", "fail"),
        ("A", "Many people think the answer is A, but that's wrong.", "fail"),
        ("B", "The answer is B. Some might argue that the answer is A, but they are mistaken.", "pass"),
        ("A", "The answer is B. Some might argue that the answer is A, but they are mistaken.", "fail"),
        ("B", "The answer is B. If the question had asked for more, the answer would be A.", "pass"),
        ("B", "The answer is B. If x were 2, A would be correct.", "pass"),
        ("B", "The answer is B. It is tempting to say the answer is A.", "pass"),
        ("B", "A student might say the answer is A, but the correct one is B.", "pass"),
        ("A", "A student might say the answer is A, but the correct one is B.", "fail"),
        ("B", "It is tempting to say the answer is A. The right choice, however, is B.", "pass"),
        ("B", "The answer is A. Wait, if we look again, the answer is B.", "pass"),
        ("B", "The answer is A? If I had to choose, I would say the answer is B.", "pass"),
        ("B", "If x were 2, the answer would be B.", "pass"),
        ("B", "A) x\nB) y\nC) z\n\nB) y", "pass"),
        ("C", "A) x\nB) y\nC) z\n\nB) y", "fail"),
        ("B", "A) x\nB) is wrong\n\nB) is wrong", "fail"),
        ("B", "I would choose B over A.", "pass"),
        ("A", "I would choose B over A.", "fail"),
        ("A", "I would choose A over B.", "pass"),
        ("B", "I think the answer might be B.", "pass"),
        ("B", "Ans: B", "pass"),
        ("B", "Neither A nor C. B.", "pass"),
        ("A", "Neither A nor C. B.", "fail"),
        ("B", "It is A vs. B", "fail"),
        ("B", "It's not hard to see that B is correct.", "pass"),
        ("B", "It is hardly surprising that the answer is B.", "pass"),
        ("Paris", "Paris\n\nIt is the capital.", "pass"),
        ("Paris", "It is not Paris", "fail"),
        ("B", "The correct answers are B and D.", "fail"),
        ("B", "I don't think B is correct.", "fail"),
        ("B", "Option B, not option C.", "pass"),
        ("C", "Option B, not option C.", "fail"),
        ("B", "I think option B fits best.", "pass"),
        ("B", "The answer is B, A is too small.", "pass"),
        ("B", "B vs C? B.", "fail"),
        ("B", "B. Not enough information", "pass"),
        ("B", "The answer is (B) Cannot be determined.", "pass"),
        ("B", "B) Never\n\nExplanation: it is too late.", "pass"),
        ("B", "B\nNot A, because it is too small.", "pass"),
        ("C", "The answer: C. Not A.", "pass"),
        ("B", "A) Incorrect.\nB) Right.\nC) Too small.", "pass"),
        ("B", "B) not correct", "fail"),
        ("B", "Both A and B fit, but the best is B.", "pass"),
        ("B", "The letter is B.", "pass"),
        ("B", "", "fail"),
    ],
)
def test_letters_are_read_in_their_usual_phrasings(reference: str, text: str, outcome: str) -> None:
    assert judge("choice", reference, text).outcome == outcome


@pytest.mark.parametrize(
    ("labels", "reference", "text", "outcome"),
    [
        ("spam | ham", "spam", "This isn't spam, it's ham.", "fail"),
        ("spam | ham", "ham", "This isn't spam, it's ham.", "pass"),
        ("spam | ham", "spam", "It does not look like spam.", "fail"),
        ("spam | ham", "spam", "This is spam.", "pass"),
        ("spam | ham", "spam", "This message is clearly spam.", "pass"),
        ("spam | ham", "ham", "shame", "fail"),
        ("spam | ham", "spam", "spammer", "fail"),
        ("spam | ham", "spam", "No spam here.", "fail"),
        ("positive | negative", "positive", "The sentiment is not negative but positive.", "pass"),
        ("正面 | 负面", "正面", "这是正面的。", "pass"),
        ("正面 | 负面", "正面", "这不是正面的。", "fail"),
        ("正面 | 负面", "负面", "答案是负面", "pass"),
        ("긍정 | 부정", "긍정", "이 리뷰는 긍정입니다.", "pass"),
        ("positif | négatif", "positif", "Ce n'est pas positif.", "fail"),
        ("positif | négatif", "positif", "La réponse est positif.", "pass"),
        ("positiv | negativ", "negativ", "Das ist nicht negativ.", "fail"),
        ("positiv | negativ", "positiv", "Antwort: positiv", "pass"),
        ("entailed | not entailed", "not entailed", "It is NOT ENTAILED by the text.", "pass"),
        ("entailed | not entailed", "entailed", "It is NOT ENTAILED by the text.", "fail"),
        ("entailed | not entailed", "not entailed", "entailed or not entailed", "fail"),
        ("very good | good", "very good", "It is very  good.", "pass"),
        ("very good | good", "good", "It is very good.", "fail"),
        ("yes | no", "yes", "Yes, it is.", "pass"),
        ("yes | no", "no", "No.", "pass"),
        ("yes | no", "no", "No, there is none.", "pass"),
        ("yes | no", "yes", "No.", "fail"),
        ("A | B", "A", "B", "fail"),
        ("A | B", "A", "A cat: B", "fail"),
        ("A | B", "A", "The answer is A", "pass"),
        ("true | false", "true", "That is true.", "pass"),
        ("true | false", "false", "That is false.", "pass"),
        ("true | false", "false", "That is not true.", "fail"),
        ("true | false", "true", "This statement is not at all true.", "fail"),
        ("true | false", "true", "It is hardly true.", "fail"),
        ("true | false", "true", "It is by no means true.", "fail"),
        ("true | false", "true", "It is false that this is true", "fail"),
        ("true | false", "false", "It is false that this is true", "pass"),
        ("positive | negative", "positive", "The review is far from positive.", "fail"),
        ("positive | negative", "positive", "The review is anything but positive.", "fail"),
        ("positive | negative", "negative", "The review is far from positive; it is negative.", "pass"),
        ("positive | negative", "positive", "The review isn't exactly what I'd call positive.", "fail"),
        ("positive | negative", "positive", "It would be wrong to call it positive.", "fail"),
        ("yes | no", "no", "There is no evidence for it.", "fail"),
        ("yes | no", "yes", "There is no doubt: yes.", "pass"),
        ("yes | no", "no", "There is no doubt: yes.", "fail"),
        ("1 | 2 | 3", "3", "3", "pass"),
        ("1 | 2 | 3", "3", "The answer is 2 because 3 is too big", "fail"),
    ],
)
def test_labels_are_read_in_their_usual_phrasings(labels: str, reference: str, text: str, outcome: str) -> None:
    assert judge("choice", reference, text, labels=labels.split(" | ")).outcome == outcome


@given(
    st.lists(
        st.sampled_from(
            ["A", "B", " ", "(", ")", "the answer is ", "not ", "or ", "**", ":", "\n", "I choose ", "is correct"]
        ),
        max_size=20,
    ).map("".join)
)
def test_any_text_gets_a_grade_and_passes_against_itself(text: str) -> None:
    assert judge("choice", text, text).outcome != "fail"
    assert judge("choice", "B", text) == judge("choice", "B", f"\n {text} \n")
    assert judge("choice", "A", text, labels=["A", "B"]).outcome in ("pass", "fail")


@pytest.mark.parametrize(
    ("reference", "text", "outcome"),
    [
        ("B", "B", "pass"),
        ("B", "(B)", "pass"),
        ("B. Paris", "The answer is B.", "pass"),
        ("(B) Paris", "A is wrong. The answer is **(B)** Paris", "pass"),
        ("B", "Answer: B) Paris", "pass"),
        ("B", "\\boxed{B}", "pass"),
        ("B", "\\boxed{\\text{B}}", "pass"),
        ("B", "I choose (B).", "pass"),
        ("B", "Not (A) but (B).", "pass"),
        ("B", "A dog is a pet.", "fail"),
        ("B", "The answer is A", "fail"),
        ("B", "The answer is B. Wait, the answer is C.", "fail"),
        ("Positive", "positive.", "pass"),
        ("Positive", "The answer is positive", "pass"),
        ("Positive", "not positive", "fail"),
        ("", "B", "unjudged"),
    ],
)
def test_choice_grades_letters_and_option_texts(reference: str, text: str, outcome: str) -> None:
    assert judge("choice", reference, text).outcome == outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("not entailed", "pass"),
        ("It is NOT ENTAILED by the text.", "pass"),
        ("entailed", "fail"),
        ("Is it entailed? Answer: not entailed", "pass"),
        ("entailed or not entailed", "fail"),
        ("who knows", "fail"),
    ],
)
def test_choice_grades_the_recipes_labels(text: str, outcome: str) -> None:
    labels = ["entailed", "not entailed"]
    assert judge("choice", "not entailed", text, labels=labels).outcome == outcome
    assert judge("choice", "maybe", text, labels=labels).outcome == "unjudged"
