"""The demo: two small seed chat models, their recipes, and the synthetic world that their tasks are drawn from.

`tools/demo_seed` in the repository trains the seeds.
"""

from pathlib import Path

SEED = Path(__file__).parent / "seed"
"""The folder of the seed model. `transformers` loads it."""

THINKING_SEED = Path(__file__).parent / "thinking_seed"
"""The folder of the seed model that thinks before it answers and calls tools."""

SEEDS = {"demo": SEED, "demo-thinking": THINKING_SEED}
"""The seed models by their name in `model.path`."""

RECIPE = Path(__file__).parent / "recipe.yaml"
"""The recipe that `selfdistill demo` runs."""

THINKING_RECIPE = Path(__file__).parent / "thinking.yaml"
"""The recipe that `selfdistill demo --thinking` runs."""

REAL_RECIPE = Path(__file__).parent / "real.yaml"
"""The recipe that `selfdistill demo --real` runs on a real chat model."""
