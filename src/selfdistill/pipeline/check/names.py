"""Names that stand for what ships with the package, although a file or folder here has the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...generation.prompts import REWRITING
from ...models.chat_template import CHAT_TEMPLATES
from ..plan import Plan


def name_warnings(plan: Plan) -> Iterator[str]:
    """A sentence for each setting whose name means ours: a path with a slash would mean the file."""
    recipe = plan.recipe
    models = {"model": recipe.model} | ({"judge.model": recipe.judge.model} if recipe.judge else {})
    used = [(f"{key}.path", model.path, "the seed model", ["demo"]) for key, model in models.items()]
    used += [
        (f"{key}.chat_template", model.chat_template, "the chat template", ["chat", *CHAT_TEMPLATES])
        for key, model in models.items()
    ]
    templates = [("rewrite.template", plan.target.template)]
    templates += [(f"arms.{name}.template", arm.template) for name, arm in recipe.arms.items()]
    used += [(key, name or "", "the rewriting template", [*REWRITING]) for key, name in templates]
    if plan.target.name.startswith("demo-"):
        used += [("data.path", plan.source.path, "the data", [plan.target.name])]
    for key, name, what, ours in used:
        if name in ours and Path(name).exists():
            here = Path(name).absolute()
            yield f"{key}: {name} is {what} that ships with the package, not {here}; write ./{name} for that."
