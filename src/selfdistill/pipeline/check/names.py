"""Names that stand for what ships with the package, although a file or folder here has the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...demo import SEEDS
from ...generation.prompts import REWRITING
from ...models.chat_template import CHAT_TEMPLATES
from ..context import Context


def name_warnings(context: Context) -> Iterator[str]:
    """A sentence for each setting whose name means ours: a path with a slash would mean the file."""
    recipe = context.recipe
    models = {"model": recipe.model} | ({"judge.model": recipe.judge.model} if recipe.judge else {})
    used = [(f"{key}.path", model.path, "the seed model", [*SEEDS]) for key, model in models.items()]
    used += [
        (f"{key}.chat_template", model.chat_template, "the chat template", ["chat", *CHAT_TEMPLATES])
        for key, model in models.items()
    ]
    templates = [("rewrite.template", context.task.template)]
    templates += [(f"arms.{name}.template", arm.template) for name, arm in recipe.arms.items()]
    used += [(key, name or "", "the rewriting template", [*REWRITING]) for key, name in templates]
    if context.task.name.startswith("demo-"):
        used += [("data.path", context.source.path, "the data", [context.task.name])]
    for key, name, what, ours in used:
        if name in ours and Path(name).exists():
            here = Path(name).absolute()
            yield f"{key}: {name} is {what} that ships with the package, not {here}; write ./{name} for that."
