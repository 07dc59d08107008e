"""The knowledge tasks through lm-eval (EleutherAI's lm-evaluation-harness). The only importer of lm_eval.

lm-eval builds the prompts, asks for log-likelihoods or answers, and grades. This package passes it the model and our
chat template, draws the items, and saves the result of each item in the same form as every other task.

How a chat model is asked: the system prompt, the few-shot examples (a user and an assistant turn each) and the question
(a last user turn) are rendered by the same `Renderer` as everywhere. A candidate answer follows the prompt that opens
the assistant's turn, without a space, as lm-eval does with a chat template. If the prompt ends in white space, lm-eval
moves the white space to every candidate and scores it. A ranking by sum stays the same; a ranking by mean (acc_norm)
changes slightly. No second BOS is added. Winogrande puts the sentence up to its blank in the user's turn and scores the
rest of the sentence.
"""

from __future__ import annotations

from .benchmark import Benchmark, check_installed, load_benchmark, mmlu_shots
from .lm import open_lm
from .score import evaluate

__all__ = ["Benchmark", "check_installed", "evaluate", "load_benchmark", "mmlu_shots", "open_lm"]
