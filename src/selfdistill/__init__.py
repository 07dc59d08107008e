"""selfdistill: self-distillation fine-tuning (SDFT, arXiv 2402.13669), from a chat model and a dataset to a verdict.

The steps (`run`, `rewrite`, `train`, ...) take a recipe or an experiment; all other functions take values. A name is
imported when it is first used, so that `import selfdistill` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .data import read_conversations
    from .data.export import export
    from .errors import SelfDistillError
    from .generation.rewriter import Rewriter
    from .grading import make_grader, verify
    from .pipeline import evaluate, regrade, report, rewrite, run, shift, train  # type: ignore[no-redef]
    from .pipeline.check import check
    from .pipeline.gap import gap
    from .pipeline.new_recipe import write_recipe
    from .recipe import Recipe, load_recipe, make_recipe
    from .store.experiment import Experiment
    from .types import Completion, Conversation, Example, Grade, Message, Rewrite, Score

_HOMES = {
    "data": "read_conversations",
    "data.export": "export",
    "errors": "SelfDistillError",
    "generation.rewriter": "Rewriter",
    "grading": "make_grader verify",
    "pipeline": "evaluate regrade report rewrite run shift train",
    "pipeline.check": "check",
    "pipeline.gap": "gap",
    "pipeline.new_recipe": "write_recipe",
    "recipe": "Recipe load_recipe make_recipe",
    "store.experiment": "Experiment",
    "types": "Completion Conversation Example Message Rewrite Score Grade",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Completion",
    "Conversation",
    "Example",
    "Experiment",
    "Grade",
    "Message",
    "Recipe",
    "Rewrite",
    "Rewriter",
    "Score",
    "SelfDistillError",
    "check",
    "evaluate",
    "export",
    "gap",
    "load_recipe",
    "make_grader",
    "make_recipe",
    "read_conversations",
    "regrade",
    "report",
    "rewrite",
    "run",
    "shift",
    "train",
    "verify",
    "write_recipe",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'selfdistill' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
