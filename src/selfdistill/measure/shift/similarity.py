"""Shift metrics that compare answers as texts, without think traces: the tuned model's answer is the hypothesis, the
seed's answer the reference.

BLEU, ROUGE and cosine are computed per prompt and averaged over prompts, as in the paper's code; they are in [0, 1]
(cosine in [-1, 1]). Equal texts score 1, including texts that a metric can't read (an empty text, or for ROUGE a text
without Latin letters and digits).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ModelError
from ...models.embedding import lazy_embed
from .compared import AnswerPair, Compared, Measured, UnmeasuredError, averaged, ratio

_INSTALL = "pip install 'selfdistill[shift]'"
PACKAGES = {"sacrebleu": "BLEU", "rouge_score": "ROUGE", "sentence_transformers": "the cosine of embeddings"}
"""Each package of the extra `shift`, with the metric that needs it."""


def bleu4(compared: Compared) -> Measured:
    """BLEU-4 over words per prompt (sacrebleu: 13a tokenisation, exponential smoothing, effective order). `corpus` is
    sacrebleu's corpus BLEU."""
    return _bleu(compared, "13a", lambda text: text)


def bleu4_char(compared: Compared) -> Measured:
    """BLEU-4 over characters including white space, which the paper's code computes with nltk
    (https://github.com/sail-sg/sdft, eval/eval_bleu4.py). sacrebleu's own `char` drops white space."""
    return _bleu(compared, "none", lambda text: " ".join(f"<{ord(c)}>" if c.isspace() else c for c in text))


def _bleu(compared: Compared, tokenize: str, split: Callable[[str], str]) -> Measured:
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError:
        raise UnmeasuredError(f"BLEU needs sacrebleu: {_INSTALL}.") from None
    # `force` silences a warning: here a space before the last full stop does not mean that a text is tokenised.
    sentence, corpus = BLEU(tokenize=tokenize, effective_order=True, force=True), BLEU(tokenize=tokenize, force=True)
    values = _each(compared, lambda pair: sentence.sentence_score(split(pair.tuned), [split(pair.seed)]).score / 100)
    tuned, seed = [split(pair.tuned) for pair in compared.pairs], [split(pair.seed) for pair in compared.pairs]
    return averaged(values, corpus=corpus.corpus_score(tuned, [seed]).score / 100 if values else None)


def rouge_l(compared: Compared) -> Measured:
    """F1 of the longest common subsequence of words (rouge-score's rougeL without stemming). Words are lower-case Latin
    letters and digits. The paper's code splits words with jieba and counts punctuation."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise UnmeasuredError(f"ROUGE needs rouge-score: {_INSTALL}.") from None
    scorer = RougeScorer(["rougeL"])
    return averaged(_each(compared, lambda pair: scorer.score(pair.seed, pair.tuned)["rougeL"].fmeasure))


def cosine(compared: Compared) -> Measured:
    """Cosine of sentence embeddings (Reimers and Gurevych 2019), by default of all-MiniLM-L6-v2 as in the paper's code,
    which reads the first 256 tokens of an answer."""
    texts = sorted({text for pair in compared.pairs for text in (pair.seed, pair.tuned) if pair.seed != pair.tuned})
    try:
        embedded = lazy_embed(compared.embedding, compared.seed.device)(texts)
    except ModelError as error:
        raise UnmeasuredError(str(error)) from None
    rows = dict(zip(texts, embedded, strict=True))
    return averaged(_each(compared, lambda pair: float(rows[pair.seed] @ rows[pair.tuned])))


def agreement(compared: Compared) -> Measured:
    """The share of prompts with the same final answer from both models, by the task's grader: both are right, or both
    are wrong with the same answer found in them. Unjudged answers are left out."""
    values = []
    for pair in compared.pairs:
        if pair.grades is None:
            raise UnmeasuredError(
                "The agreement is not measured, because the task has no grader that reads a final answer."
            )
        one, other = pair.grades
        if "unjudged" not in (one.outcome, other.outcome):
            same = (one.passed and other.passed) or (not one.passed and not other.passed and one.found == other.found)
            values.append(float(same))
    if compared.pairs and not values:
        raise UnmeasuredError("The task's grader could judge none of the answers; look at their grades in the report.")
    return averaged(values, prompts=len(values))


def length_ratio(compared: Compared) -> Measured:
    """The characters of all tuned answers divided by those of the seed's answers; below 1, answers became shorter."""
    tuned, seed = ([float(len(getattr(pair, side))) for pair in compared.pairs] for side in ("tuned", "seed"))
    mean, low, high = ratio(tuned, seed)
    return Measured({"mean": mean, "low": low, "high": high})


def _each(compared: Compared, score: Callable[[AnswerPair], Any]) -> list[float]:
    """One value per pair, at most 1: rounding may exceed it."""
    return [1.0 if pair.seed == pair.tuned else min(1.0, float(score(pair))) for pair in compared.pairs]
