"""selfdistill: self-distillation fine-tuning (SDFT, arXiv 2402.13669), from a chat model and a dataset to a verdict.

The stages are functions of a recipe or an experiment; the rooms below them take values. Names are imported when they
are first used, so that `import selfdistill` is cheap.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .check import check
    from .config import Recipe, load_recipe, make_recipe
    from .data import read_conversations
    from .errors import SelfDistillError
    from .experiment import Experiment
    from .export import export
    from .grading import make_grader, verify
    from .init import write_recipe
    from .rewrite import Rewriter
    from .stages import evaluate, regrade, report, rewrite, run, shift, train
    from .stages.gap import gap
    from .types import Completion, Conversation, Example, Message, Rewrite, Score, Verdict

_HOMES = {
    "check": "check",
    "config": "Recipe load_recipe make_recipe",
    "data": "read_conversations",
    "errors": "SelfDistillError",
    "experiment": "Experiment",
    "export": "export",
    "grading": "make_grader verify",
    "init": "write_recipe",
    "rewrite": "Rewriter",
    "stages": "evaluate regrade report rewrite run shift train",
    "stages.gap": "gap",
    "types": "Completion Conversation Example Message Rewrite Score Verdict",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Completion", "Conversation", "Example", "Experiment", "Message", "Recipe", "Rewrite", "Rewriter", "Score",
    "SelfDistillError", "Verdict", "check", "evaluate", "export", "gap", "load_recipe", "make_grader", "make_recipe",
    "read_conversations", "regrade", "report", "rewrite", "run", "shift", "train", "verify", "write_recipe",
]  # fmt: skip


class _Package(ModuleType):
    """Keeps `selfdistill.rewrite` the stage, although there is a module of that name: importing a module sets it as an
    attribute of its package, which would hide the function of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME_OF or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'selfdistill' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
