"""JSONSchemaBench (Geng et al. 2025): JSON that is valid against a schema from practice. Evaluation only.

    {"json_schema": "{\\"type\\": \\"object\\", \\"required\\": [\\"age\\"]}", "unique_id": "o12345"}

The default is the configuration Github_medium. Rows whose schema can't be used (it is invalid, or has a pattern that
takes too long) are left out and counted. https://huggingface.co/datasets/epfl-dlab/JSONSchemaBench, MIT
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..data.bad_rows import UnusableError
from ..errors import RecipeError
from ..grading.schemas import validator
from ..grading.texts import json_equal
from ..recipe import DataConfig
from ..types import Conversation, Example, Grade, Message
from . import Task, load_rows

_PROMPT = "Write a JSON value that is valid against this JSON schema. Answer with the JSON alone.\n\n{schema}"


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """The schema with an empty answer, because many are right."""
    text = row["json_schema"]
    try:
        schema = json.loads(text) if isinstance(text, str) else text
        validator(schema)
    except (ValueError, RecursionError, RecipeError) as error:
        raise UnusableError(f"`json_schema` can't be used: {error}") from None
    prompt = _PROMPT.format(schema=text if isinstance(text, str) else json.dumps(text))
    return Conversation((Message("user", prompt), Message("assistant", "")), {"schema": schema})


def grade(example: Example, text: str) -> Grade:
    """Passes JSON, alone or in one code block, that is valid against the schema."""
    return json_equal("", text, schema=example.extra["schema"])


TASK = Task(
    name="jsonschemabench",
    skill="JSON to a schema",
    grade=grade,
    load=partial(load_rows, convert=_conversation),
    test=DataConfig(path="epfl-dlab/JSONSchemaBench", config="Github_medium", split="test", on_bad_row="skip"),
    metric="valid",
)
