"""The demo: a small seed chat model, its recipe, and the synthetic world that its tasks are drawn from.

`tools/demo_seed` in the repository trains the seed.
"""

from pathlib import Path

SEED = Path(__file__).parent / "seed"
"""The folder of the seed model. `transformers` loads it."""

RECIPE = Path(__file__).parent / "recipe.yaml"
"""The recipe that `selfdistill demo` runs."""

REAL_RECIPE = Path(__file__).parent / "real.yaml"
"""The recipe that `selfdistill demo --real` runs on a real chat model."""
