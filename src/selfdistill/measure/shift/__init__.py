"""The shift of a tuned model from the seed: in its answers to the same prompts, its distributions and its weights.

A metric is one function `(Compared) -> Measured` and one line in `METRICS`; the verdict, the command and the report
page show every metric. A metric that can't be measured raises `UnmeasuredError` with the reason; the others still run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .compared import AnswerPair, Compared, Measured, Sample, UnmeasuredError, check_same_prompts
from .kl import kl, kl_on_target
from .parameters import parameter_shift
from .similarity import agreement, bleu4, bleu4_char, cosine, length_ratio, rouge_l

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
    """All metrics: `metrics` (name to a mean with its interval), `distributions` (name to one number per prompt, for
    metrics that have them), `parameters` (see `parameter_shift`), and `missing` (name to the reason why a metric could
    not be measured). A metric that does not apply returns None and is left out."""
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
            distributions |= {name: list(measured.values)} if measured.values else {}
    try:
        if compared.unlike:
            raise UnmeasuredError(compared.unlike)
        parameters = parameter_shift(compared.seed, compared.tuned, compared.adapter)
    except UnmeasuredError as error:
        parameters = None
        missing["parameters"] = str(error)
    return {"metrics": metrics, "distributions": distributions, "parameters": parameters, "missing": missing}


__all__ = ["AnswerPair", "Compared", "Measured", "Sample", "UnmeasuredError", "check_same_prompts", "measure"]
