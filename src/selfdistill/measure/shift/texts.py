"""Answers compared as texts, without their think traces: the tuned model's as the hypothesis, the seed's as the
reference.

Overlaps and cosine are of each prompt's pair, and averaged over prompts as in the paper's code, in [0, 1] (cosine from
-1). A pair of equal texts counts 1 in each, for texts too that a metric can't read (an empty one, or for ROUGE one
without Latin letters and digits).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.loading import pick_device
from .compared import Compared, Measured, Pair, UnmeasuredError, averaged, ratio

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_INSTALL = "pip install 'selfdistill[shift]'"


def bleu4(compared: Compared) -> Measured:
    """BLEU-4 over words (sacrebleu: 13a tokenisation, exponential smoothing, effective order), a prompt at a time;
    `corpus` is sacrebleu's corpus BLEU."""
    return _bleu(compared, "13a", lambda text: text)


def bleu4_char(compared: Compared) -> Measured:
    """BLEU-4 over characters, spaces and line ends among them: the figure that the paper's code computes, there with
    nltk (https://github.com/sail-sg/sdft, eval/eval_bleu4.py). sacrebleu's own `char` drops white space."""
    return _bleu(compared, "none", _characters)


def _characters(text: str) -> str:
    """Each character as a word."""
    return " ".join(f"<{ord(c)}>" if c.isspace() else c for c in text)


def _bleu(compared: Compared, tokenize: str, split: Callable[[str], str]) -> Measured:
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError:
        raise UnmeasuredError(f"BLEU needs sacrebleu: {_INSTALL}.") from None
    # `force`: a space before a last full stop is no sign of tokenised text here.
    sentence, corpus = BLEU(tokenize=tokenize, effective_order=True, force=True), BLEU(tokenize=tokenize, force=True)
    values = _each(compared, lambda pair: sentence.sentence_score(split(pair.tuned), [split(pair.seed)]).score / 100)
    tuned, seed = [split(pair.tuned) for pair in compared.pairs], [split(pair.seed) for pair in compared.pairs]
    return averaged(values, corpus=corpus.corpus_score(tuned, [seed]).score / 100 if values else None)


def rouge_l(compared: Compared) -> Measured:
    """F1 of the longest common subsequence of words (rouge-score's rougeL, without stemming): lower-cased Latin letters
    and digits, the rest are gaps. The paper's code cuts words with jieba, and counts punctuation."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise UnmeasuredError(f"ROUGE needs rouge-score: {_INSTALL}.") from None
    scorer = RougeScorer(["rougeL"])
    return averaged(_each(compared, lambda pair: scorer.score(pair.seed, pair.tuned)["rougeL"].fmeasure))


def cosine(compared: Compared) -> Measured:
    """Cosine of sentence embeddings (Reimers and Gurevych 2019), by default of all-MiniLM-L6-v2 as in the paper's code;
    it reads the first 256 tokens of an answer."""
    encoder = _encoder(compared.embedding, pick_device(compared.seed.device))
    if isinstance(encoder, UnmeasuredError):
        raise encoder
    texts = sorted({text for pair in compared.pairs for text in (pair.seed, pair.tuned) if pair.seed != pair.tuned})
    embedded = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
    rows = dict(zip(texts, embedded.astype("float64"), strict=True))
    return averaged(_each(compared, lambda pair: float(rows[pair.seed] @ rows[pair.tuned])))


@cache
def _encoder(name: str, device: str) -> SentenceTransformer | UnmeasuredError:
    """Kept, and what went wrong too: one try serves all runs."""
    from huggingface_hub import HfApi
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        return UnmeasuredError(f"The cosine of embeddings needs sentence-transformers: {_INSTALL}.")
    options: dict[str, Any] = {"device": device, "model_kwargs": {"use_safetensors": True}}
    try:
        if not Path(name).is_dir():
            name = name if "/" in name else f"sentence-transformers/{name}"
            with suppress(Exception):
                return SentenceTransformer(name, local_files_only=True, **options)
            HfApi().model_info(name, timeout=20)  # fails at once where loading would try for minutes
        return SentenceTransformer(name, **options)
    except MemoryError:
        raise
    except Exception as error:  # of the hub, of transformers and of its own, none with a common base
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
        return UnmeasuredError(
            f"The embedding model {name} can't be loaded ({why}); name a folder that holds one in shift.embedding, and "
            "run `selfdistill shift` again."
        )


def agreement(compared: Compared) -> Measured:
    """The share of prompts on which both models give the same final answer, by the task's grader: both are right, or
    both wrong with the same answer read from them. What the grader could not judge is left out."""
    values = []
    for pair in compared.pairs:
        if pair.grades is None:
            raise UnmeasuredError("No grader reads a final answer from each answer of this task.")
        one, other = pair.grades
        if "unjudged" not in (one.outcome, other.outcome):
            same = (one.passed and other.passed) or (not one.passed and not other.passed and one.found == other.found)
            values.append(float(same))
    if compared.pairs and not values:
        raise UnmeasuredError("The task's grader could judge none of the answers.")
    return averaged(values, prompts=len(values))


def length_ratio(compared: Compared) -> Measured:
    """Characters of all tuned answers over those of the seed's: below 1, answers became shorter."""
    tuned, seed = ([float(len(text)) for text in texts] for texts in (
        [pair.tuned for pair in compared.pairs], [pair.seed for pair in compared.pairs]
    ))  # fmt: skip
    mean, low, high = ratio(tuned, seed)
    return Measured({"mean": mean, "low": low, "high": high})


def _each(compared: Compared, score: Callable[[Pair], Any]) -> list[float]:
    """A value a pair; rounding must not push one past 1."""
    return [1.0 if pair.seed == pair.tuned else min(1.0, float(score(pair))) for pair in compared.pairs]
