"""The lines of a new recipe that are about a model that thinks before it answers."""

from __future__ import annotations

from pathlib import Path

from ..demo import SEEDS
from ..errors import ModelError, RecipeError
from ..models.loading import load_renderer
from ..recipe import ModelConfig

THINKS = (
    "model: it thinks before it answers; model.reasoning decides what is trained where rows hold no reasoning "
    "(docs/thinking.md)"
)
THINKING = {
    "reasoning": """
  reasoning: own              # train on the seed's own think traces: (1) its trace and answer if the answer passes,
                              # (2) else a guided rewrite with its trace, (3) else the original, think block masked.
                              # mask: no trace is trained. off: thinking is turned off in training and evaluation""",
    "limits": "sampling: {max_thinking_tokens: 2048}   # limit of a think trace; the answer after it has 512 tokens",
    "length": "4096",
    "masked": """
  sdft-mask: {data: rewrites, reasoning: mask}   # rewritten answers after vanilla's masked think block: the equal pair
  # vanilla-empty: {data: original, reasoning: empty}   # trains empty think blocks, to show what that costs""",
    "evaluated": """
  sampling: {max_thinking_tokens: 2048}   # limit of a think trace; the answer after it has 512 tokens""",
}
NOT_THINKING = {
    "reasoning": "",
    "limits": "# sampling: {preset: paper, max_new_tokens: 1024}   # the default is the paper's, 512 tokens",
    "length": "2048",
    "masked": "",
    "evaluated": "",
}


def thinks(model: str) -> bool:
    """Whether the model reasons before it answers; False if its tokenizer is not on this machine."""
    local = model in SEEDS or Path(model).exists()
    try:
        return local and load_renderer(ModelConfig(path=model)).thinks
    except (ModelError, RecipeError):
        return False
