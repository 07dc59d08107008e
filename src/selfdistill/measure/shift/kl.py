"""KL(seed ‖ tuned) a token, estimated on the seed's own answers.

At each position of an answer the divergence of the two next-token distributions is summed over the whole vocabulary, at
temperature 1 and with the seed's answer so far as the context: the Rao-Blackwellised estimator (Amini, Vieira and
Cotterell 2025, arXiv 2504.10637), never negative and of less variance than the log ratio of the sampled tokens. Where
the answers were drawn with another temperature, or greedily, it is the divergence along those answers. On the target
task's prompts it has predicted forgetting (arXiv 2509.04259).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...backends.batches import Row, batches
from ...backends.decoding import padded
from ...errors import ModelError
from ...grading.traces import opened
from ...models.loading import context_length, load_model, load_renderer, out_of_memory
from ...recipe import ModelConfig
from .compared import Compared, Measured, Sample, UnmeasuredError, ratio

if TYPE_CHECKING:
    import torch

_LOGITS = 2**27  # of one batch and model: half a GiB as float32


def kl(compared: Compared) -> Measured:
    """In nats a token, on the seed's answers to the prompts that the texts are compared on. The standard error and the
    interval are over prompts."""
    if not compared.samples:
        raise UnmeasuredError("The KL divergence was not asked for, or there are no answers that the seed gave itself.")
    return _kl(compared, compared.samples)


def kl_on_target(compared: Compared) -> Measured | None:
    """The same on the target task's prompts, where those are others."""
    return _kl(compared, compared.on_target) if compared.on_target else None


def _kl(compared: Compared, samples: Sequence[Sample]) -> Measured:
    try:
        sums = list(divergences(compared.models, samples))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UnmeasuredError(
            "There was too little memory to hold the seed and the tuned model; lower model.batch_tokens, or set "
            "shift.kl_prompts to 0 to leave the KL divergence out."
        ) from None
    except ModelError as error:
        raise UnmeasuredError(str(error)) from None
    totals, tokens = [total for total, _ in sums], [float(count) for _, count in sums]
    mean, low, high = ratio(totals, tokens)
    figures = {
        "mean": mean,
        "standard_error": _standard_error(totals, tokens),
        "low": low,
        "high": high,
        "prompts": len(sums),
        "tokens": int(sum(tokens)),
    }
    return Measured(figures, [total / count for total, count in sums])


def _standard_error(totals: Sequence[float], tokens: Sequence[float]) -> float | None:
    """Of the ratio Σ totals / Σ tokens over prompts, linearised (Cochran 1977, eq. 6.13); None of a single prompt."""
    n, mean = len(totals), sum(totals) / sum(tokens)
    if n < 2:
        return None
    squares = sum((total - mean * count) ** 2 for total, count in zip(totals, tokens, strict=True))
    return float((squares * n / (n - 1)) ** 0.5 / sum(tokens))


class BothModels:
    """The seed and the tuned model: one load where the tuned one is an adapter over the seed, else two.

    Raises ModelError where one can't be loaded.
    """

    def __init__(self, seed: ModelConfig, tuned: ModelConfig, adapter: str | None) -> None:
        self.config = seed
        self.renderer = load_renderer(seed)
        self.tuned: Any = load_model(tuned, adapter).eval()
        self.seed: Any = None if adapter else load_model(seed).eval()

    def logits(self, rows: Sequence[Row], keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The seed's and the tuned model's at the last `keep` positions of each row: (rows, keep, vocabulary)."""
        import torch

        tokens, mask, positions = padded(rows, self.tuned.device)
        inputs = {
            "input_ids": tokens, "attention_mask": mask, "position_ids": positions, "logits_to_keep": keep,
            "use_cache": False,
        }  # fmt: skip
        with torch.inference_mode():
            tuned = self.tuned(**inputs).logits
            if self.seed is not None:
                return self.seed(**inputs).logits, tuned
            with self.tuned.disable_adapter():
                return self.tuned(**inputs).logits, tuned


def divergences(models: BothModels, samples: Sequence[Sample]) -> Iterator[tuple[float, int]]:
    """Of each answer that the seed gave the summed divergence in nats and the number of positions: its tokens, and the
    end of turn where the seed ended it."""
    import torch

    rows, counts = [], {}
    context = context_length(models.tuned.config)
    for sample in samples:
        prompt = models.renderer.ids(sample.prompt.messages)
        mark = opened(models.renderer.text(sample.prompt.messages))  # it stands in the prompt
        answer = models.renderer.tokenizer.encode(sample.answer.text.removeprefix(mark), add_special_tokens=False)
        ids = (prompt + answer)[:context]
        # Position i foretells token i + 1; the last foretells the end of turn.
        after, cut = len(ids) - len(prompt) + 1, sample.answer.finish != "stop"
        if after - cut > 0:
            rows.append(Row(sample.prompt.id, ids, 0))
            counts[sample.prompt.id] = (after, after - cut)
    budget = min(models.config.batch_tokens, _LOGITS // models.tuned.config.get_text_config().vocab_size)
    for batch in batches(rows, budget):
        seed, tuned = models.logits(batch, max(counts[row.id][0] for row in batch))
        for index, row in enumerate(batch):
            after, wanted = counts[row.id]
            place = slice(seed.shape[1] - after, seed.shape[1] - after + wanted)
            p, q = (torch.log_softmax(logits[index, place].float(), dim=-1) for logits in (seed, tuned))
            # Tokens that the seed rules out add nothing (0 log 0); what is no number stays none, and is refused.
            weights = p.exp()
            terms = torch.where(weights == 0, 0.0, weights * (p - q))
            yield float(terms.sum(dim=-1).double().sum()), wanted
