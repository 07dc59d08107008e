"""The recipe: one model for the YAML file, the `key=value` overrides and the copy saved with an experiment.

A file per section, in the order of a recipe: `model`, `data` (with rewriting), `train`, `arms`, `evaluate` (with judge
and shift), `card`. `root` joins them, `load` reads and writes, `sweep` makes arms of lists of values, and `keys` lists
every key. `settings` declares which steps run again when a key changes.
"""

from .arms import ARM_KINDS, DEFAULT_ARMS, ArmConfig, ReplayConfig
from .data import DataConfig, Filters, GraderSpec, RewriteConfig
from .evaluate import EvaluateConfig, JudgeConfig, ShiftConfig, TaskEntry
from .load import RECIPES, load_recipe, load_recipes, make_recipe, recipe_file, save_recipe
from .model import SAMPLING_PRESETS, EngineConfig, ModelConfig, RayConfig, Sampling, ServerConfig
from .root import Recipe
from .train import Adapter, TrainConfig

__all__ = [
    "ARM_KINDS", "DEFAULT_ARMS", "RECIPES", "SAMPLING_PRESETS", "Adapter", "ArmConfig", "DataConfig", "EngineConfig",
    "EvaluateConfig", "Filters", "GraderSpec", "JudgeConfig", "ModelConfig", "RayConfig", "Recipe", "ReplayConfig",
    "RewriteConfig", "Sampling", "ServerConfig", "ShiftConfig", "TaskEntry", "TrainConfig", "load_recipe",
    "load_recipes", "make_recipe", "recipe_file", "save_recipe",
]  # fmt: skip
