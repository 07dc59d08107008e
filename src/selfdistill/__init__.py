"""selfdistill: self-distillation fine-tuning (SDFT, arXiv 2402.13669), from a chat model and a dataset to a verdict.

The steps of an experiment (`run`, `preview`, `rewrite`, `train`, `evaluate`, `shift`, `regrade`, `report`) take a
recipe or an `Experiment`; `load_result` reads the results of a directory. All other functions take values; those with
the name of a step are in their package, such as `selfdistill.training.train`. `examples/sdft_in_100_lines.py` uses them
from start to end.

A name is imported on first use, so that `import selfdistill` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .backends import open_backend
    from .data import read_conversations
    from .data.export import export
    from .errors import SelfDistillError
    from .generation.prompts import load_template
    from .generation.rewriter import Rewriter
    from .grading import make_grader, verify
    from .pipeline import evaluate, preview, regrade, report, rewrite, run, shift, train  # type: ignore[no-redef]
    from .pipeline.check import check
    from .pipeline.gap import gap
    from .pipeline.new_recipe import write_recipe
    from .recipe import DataConfig, Filters, ModelConfig, Recipe, Sampling, TrainConfig, load_recipe, make_recipe
    from .reports.run_result import RunResult, load_result
    from .store.experiment import Experiment
    from .tasks import get_task
    from .training.callback import ForgettingCallback
    from .types import Completion, Conversation, Example, Grade, Message, Prompt, Rewrite, Score

_HOMES = {
    "backends": "open_backend",
    "data": "read_conversations",
    "data.export": "export",
    "errors": "SelfDistillError",
    "generation.prompts": "load_template",
    "generation.rewriter": "Rewriter",
    "grading": "make_grader verify",
    "pipeline": "evaluate preview regrade report rewrite run shift train",
    "pipeline.check": "check",
    "pipeline.gap": "gap",
    "pipeline.new_recipe": "write_recipe",
    "recipe": "DataConfig Filters ModelConfig Recipe Sampling TrainConfig load_recipe make_recipe",
    "reports.run_result": "RunResult load_result",
    "store.experiment": "Experiment",
    "tasks": "get_task",
    "training.callback": "ForgettingCallback",
    "types": "Completion Conversation Example Grade Message Prompt Rewrite Score",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Completion", "Conversation", "DataConfig", "Example", "Experiment", "Filters", "ForgettingCallback", "Grade",
    "Message", "ModelConfig", "Prompt", "Recipe", "Rewrite", "Rewriter", "RunResult", "Sampling", "Score",
    "SelfDistillError", "TrainConfig", "check", "evaluate", "export", "gap", "get_task", "load_recipe", "load_result",
    "load_template", "make_grader", "make_recipe", "open_backend", "preview", "read_conversations", "regrade", "report",
    "rewrite", "run", "shift", "train", "verify", "write_recipe",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'selfdistill' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
