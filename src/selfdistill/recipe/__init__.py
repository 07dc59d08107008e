"""The recipe: one model for the YAML file, the `key=value` overrides and the copy saved with an experiment.

In the order of a recipe: `models`, `data` (with rewriting), `train` (with the arms), `evaluate` (with judge and shift);
then `recipe`, the whole of them, and `load`, which reads and writes it.
"""

from .data import DataConfig, Filters, GraderSpec, RewriteConfig
from .evaluate import EvaluateConfig, JudgeConfig, ShiftConfig, TaskEntry
from .load import RECIPES, load_recipe, load_recipes, make_recipe, recipe_file, save_recipe
from .model import SAMPLING_PRESETS, EngineConfig, ModelConfig, RayConfig, Sampling, ServerConfig
from .root import Recipe
from .train import DEFAULT_ARMS, FREE_TO_CHANGE, Adapter, ArmConfig, ReplayConfig, TrainConfig

__all__ = [
    "DEFAULT_ARMS",
    "FREE_TO_CHANGE",
    "RECIPES",
    "SAMPLING_PRESETS",
    "Adapter",
    "ArmConfig",
    "DataConfig",
    "EngineConfig",
    "EvaluateConfig",
    "Filters",
    "GraderSpec",
    "JudgeConfig",
    "ModelConfig",
    "RayConfig",
    "Recipe",
    "ReplayConfig",
    "RewriteConfig",
    "Sampling",
    "ServerConfig",
    "ShiftConfig",
    "TaskEntry",
    "TrainConfig",
    "load_recipe",
    "load_recipes",
    "make_recipe",
    "recipe_file",
    "save_recipe",
]  # fmt: skip
