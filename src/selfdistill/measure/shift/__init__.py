"""How far a tuned model moved from the seed: in its answers to the same prompts, its distributions, its weights.

A new metric is one function `(Compared) -> Measured` and its line in `METRICS`; the grade and the command show it
unasked. One that can't be measured raises `UnmeasuredError` with a sentence, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .compared import Compared as Compared
from .compared import Measured as Measured
from .compared import Pair as Pair
from .compared import Sample as Sample
from .compared import UnmeasuredError as UnmeasuredError
from .compared import check_same_prompts as check_same_prompts
from .kl import kl, kl_on_target
from .parameters import parameter_shift as parameter_shift
from .texts import agreement, bleu4, bleu4_char, cosine, length_ratio, rouge_l

METRICS: dict[str, Callable[[Compared], Measured | None]] = {
    "bleu4": bleu4,
    "bleu4_char": bleu4_char,
    "rouge_l": rouge_l,
    "cosine": cosine,
    "kl": kl,
    "kl_target": kl_on_target,
    "agreement": agreement,
    "length_ratio": length_ratio,
}


def measure(compared: Compared) -> dict[str, Any]:
    """Every metric: `metrics` by name (a mean with its interval), `distributions` (where a metric has one number a
    prompt), and under `missing` why one could not be measured. A metric that has nothing to say here gives None, and is
    left out."""
    metrics: dict[str, Any] = {}
    distributions: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            measured = metric(compared)
        except UnmeasuredError as error:
            missing[name] = str(error)
            continue
        if measured is not None:
            metrics[name] = measured.figures
        if measured is not None and measured.values:
            distributions[name] = list(measured.values)
    try:
        parameters = parameter_shift(compared.seed, compared.tuned, compared.adapter)
    except UnmeasuredError as error:
        parameters = None
        missing["parameters"] = str(error)
    return {"metrics": metrics, "distributions": distributions, "parameters": parameters, "missing": missing}
