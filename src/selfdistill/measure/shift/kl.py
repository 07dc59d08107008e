"""KL(seed ‖ tuned) in nats per token, estimated on the seed's own answers.

At each position of an answer, the divergence of the two next-token distributions is computed over the whole vocabulary
at temperature 1. This Rao-Blackwellised estimator (Amini, Vieira and Cotterell 2025, arXiv 2504.10637) is never
negative and has less variance than the log ratio of the sampled tokens. If the answers were sampled at another
temperature or greedily, it is the divergence along those answers. On the target task's prompts the KL divergence has
predicted forgetting (arXiv 2509.04259).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...backends.batches import TokenRow, batches
from ...errors import ModelError
from ...grading.traces import opened
from ...models.loading import context_length, out_of_memory
from .compared import Compared, Measured, ModelPair, Sample, UnmeasuredError, ratio

_LOGITS = 2**27  # per batch and model; half a GiB as float32


class Divergence(NamedTuple):
    """On one of the seed's answers: the summed divergence in nats, the number of positions, and whether the tuned
    model's likeliest token is the answer's at each of them, so that its greedy answer is the same."""

    id: str
    total: float
    positions: int
    follows: bool


def kl(compared: Compared) -> Measured:
    """The KL divergence on the prompts whose answers are compared. Standard error and interval are over prompts."""
    if compared.unlike:
        raise UnmeasuredError(compared.unlike)
    if not compared.samples:
        raise UnmeasuredError("The KL divergence is off (shift.kl_prompts=0), or the seed's weights are not available.")
    return _kl(compared, compared.samples)


def kl_on_target(compared: Compared) -> Measured | None:
    """The KL divergence on the target task's prompts; None if these are the same prompts as for `kl`."""
    return _kl(compared, compared.on_target) if compared.on_target else None


def _kl(compared: Compared, samples: Sequence[Sample]) -> Measured:
    try:
        sums = list(divergences(compared.models, samples))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UnmeasuredError(
            "There is too little memory for the seed and the tuned model; lower model.batch_tokens, or set "
            "shift.kl_prompts=0 to leave the KL divergence out."
        ) from None
    except ModelError as error:
        raise UnmeasuredError(str(error)) from None
    totals, tokens = [each.total for each in sums], [float(each.positions) for each in sums]
    mean, low, high = ratio(totals, tokens)
    figures = {
        "mean": mean,
        "standard_error": standard_error(totals, tokens),
        "low": low,
        "high": high,
        "prompts": len(sums),
        "tokens": int(sum(tokens)),
    }
    return Measured(figures, [each.total / each.positions for each in sums])


def standard_error(totals: Sequence[float], tokens: Sequence[float]) -> float | None:
    """The linearised standard error of Σ totals / Σ tokens over prompts (Cochran 1977, eq. 6.13); None for fewer than
    two prompts."""
    n = len(totals)
    if n < 2:
        return None
    mean = sum(totals) / sum(tokens)
    squares = sum((total - mean * count) ** 2 for total, count in zip(totals, tokens, strict=True))
    return float((squares * n / (n - 1)) ** 0.5 / sum(tokens))


def divergences(models: ModelPair, samples: Sequence[Sample]) -> Iterator[Divergence]:
    """The divergence on each of the seed's answers. The positions are the answer's tokens, and the end of turn if the
    seed ended it. Raises what the models raise."""
    import torch

    rows, counts = [], {}
    context = context_length(models.tuned.config)
    for sample in samples:
        prompt = models.renderer.ids(sample.prompt.messages)
        mark = opened(models.renderer.text(sample.prompt.messages))  # part of the prompt
        text = sample.answer.raw or sample.answer.text
        answer = models.renderer.tokenizer.encode(text.removeprefix(mark), add_special_tokens=False)
        ids = (prompt + answer)[:context]
        # Position i predicts token i + 1; the last position predicts the end of turn.
        after, cut = len(ids) - len(prompt) + 1, sample.answer.finish != "stop"
        if after - cut > 0:
            rows.append(TokenRow(sample.prompt.id, ids, 0))
            counts[sample.prompt.id] = (after, after - cut)
    budget = min(models.config.batch_tokens, _LOGITS // models.tuned.config.get_text_config().vocab_size)
    for batch in batches(rows, budget):
        seed, tuned = models.logits(batch, max(counts[row.id][0] for row in batch))
        for index, row in enumerate(batch):
            after, wanted = counts[row.id]
            place = slice(seed.shape[1] - after, seed.shape[1] - after + wanted)
            p, q = (torch.log_softmax(logits[index, place].float(), dim=-1) for logits in (seed, tuned))
            # Tokens with probability 0 under the seed add nothing (0 log 0). NaN stays NaN, and `ratio` refuses it.
            weights = p.exp()
            terms = torch.where(weights == 0, 0.0, weights * (p - q))
            total = float(terms.sum(dim=-1).double().sum())
            answer = [*row.ids[len(row.ids) - after + 1 :], int(p[-1].argmax())][:wanted]
            yield Divergence(row.id, total, wanted, q.argmax(dim=-1).tolist() == answer)
