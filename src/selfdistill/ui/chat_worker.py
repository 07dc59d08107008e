"""The process of the chat: a question per line on stdin, JSON lines for each run on stdout: the answer so far, with
`writing`, and last the whole answer. See `chat`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..backends import open_backend
from ..errors import SelfDistillError, first_line
from ..grading.traces import split
from ..pipeline.context import Context
from ..types import Completion, Message, Prompt, content_id
from .bench import Bench

_BETWEEN = 0.3  # seconds between two lines about an answer that is being written


def answers(
    directory: Path, question: dict[str, Any], on_writing: Callable[[dict[str, Any]], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """The answer of each run that the question names, with the settings of the evaluation: through the renderer and
    backend that evaluate it, so that an answer here is as in the report. Calls `on_writing` with the answer so far, if
    the backend reports it."""
    bench = Bench(directory / "recipe.yaml", directory)
    messages = [Message("user", question["prompt"])]
    if question["system"]:
        messages.insert(0, Message("system", question["system"]))
    prompt = Prompt(content_id(question["prompt"], question["system"]), tuple(messages))
    for run in question["runs"]:
        try:
            yield {"run": run, **_shown(_answer(bench.context(), directory, run, prompt, on_writing))}
        except SelfDistillError as error:
            yield {"run": run, "error": str(error)}
        except Exception as error:  # of the libraries that load and run a model
            yield {"run": run, "error": f"{type(error).__name__}: {first_line(error)}"}


def _answer(
    context: Context, directory: Path, name: str, prompt: Prompt, on_writing: Callable[[dict[str, Any]], None]
) -> Completion:
    run, said = context.runs[name], time.monotonic()

    def report(so_far: Callable[[], Completion]) -> None:
        nonlocal said
        if time.monotonic() - said >= _BETWEEN:
            said = time.monotonic()
            on_writing({"run": name, "writing": True, **_shown(so_far()), "cut_off": False})

    backend = "hf" if context.has_weights(run) else context.backend_of(run)
    model, adapter = context.weights_of(run, directory)
    with open_backend(backend, model, adapter) as opened:
        opened.on_writing = report
        return next(iter(opened.generate([prompt], context.recipe.evaluate.sampling)))


def _shown(completion: Completion) -> dict[str, Any]:
    if completion.finish == "error":
        return {"error": completion.error or "no answer"}
    reply = split(completion.text)
    return {
        "text": reply.answer if reply.answer is not None else "",
        "trace": completion.reasoning or reply.reasoning,
        "cut_off": completion.cut_off,
        "tokens": completion.tokens,
    }


def main() -> None:
    """Answers questions until stdin ends. What libraries print goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(kept, "w", encoding="utf-8") as out:

        def write(answer: dict[str, Any]) -> None:
            out.write(json.dumps(answer) + "\n")
            out.flush()

        for line in sys.stdin:
            for answer in answers(Path(sys.argv[1]), json.loads(line), write):
                write(answer)


if __name__ == "__main__":
    main()
