"""The knowledge tasks through lm-eval (EleutherAI's lm-evaluation-harness). The only importer of lm_eval.

lm-eval builds the prompts, asks for log-likelihoods or answers, and grades; this file hands it the model and our
chat template, draws the items, and saves what it found on each item in the form of `evaluate.grade`.

How a chat model is asked. System prompt, few-shot examples (a user and an assistant turn each) and the question (a last
user turn) are rendered once, by the same `Renderer` as everywhere; what a candidate answer is scored on follows the
prompt that opens the assistant's turn, with no space before it, as lm-eval does under a chat template. Where that
prompt ends in white space, lm-eval moves it over to the candidate, so that it is scored too: the same for each
candidate, it changes no ranking by sum, and a ranking by mean (acc_norm) slightly. No BOS is added to that of
the chat template. Winogrande puts a sentence up to its blank in the user's turn and scores the rest of it.
"""

from __future__ import annotations

from .benchmark import Benchmark, check_installed, load_benchmark, mmlu_shots
from .engine import open_lm
from .score import evaluate

__all__ = ["Benchmark", "check_installed", "evaluate", "load_benchmark", "mmlu_shots", "open_lm"]
