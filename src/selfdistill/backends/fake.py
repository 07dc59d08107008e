"""Answers without a model, for dry runs, tests and soak tests: a pure function of the prompt's id and text.

The answer to a rewriting prompt is its reference in slightly different words. The answer to any other prompt is its
last line. Of 16 ids, by a digest, one each gets a wrong number, an empty text, a text that is cut off, and an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator

from ..recipe import Sampling
from ..types import Completion, Finish, Messages, Prompt
from . import Backend

# The words before the reference in a rewriting prompt, and the line after it.
_MARK = re.compile("reference answer:|^answer:|the correct call is:", re.IGNORECASE | re.MULTILINE)
_END = re.compile(r"\n\n(?:### |Answer with this call)[^\n]*\Z")


class FakeBackend(Backend):
    """Uses neither the model nor the adapter."""

    invents = True

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        return (_answer(prompt, sampling) for prompt in prompts if prompt.id not in done)


def _answer(prompt: Prompt, sampling: Sampling) -> Completion:
    text = _plausible(prompt.messages)
    fate = hashlib.blake2b(f"{sampling.seed}:{prompt.id}".encode(), digest_size=1).digest()[0] % 16
    if fate == 3:
        return Completion.failed(prompt.id, "the fake backend fails one prompt in 16")
    if fate == 2:
        text = text[: len(text) // 2]
    elif fate == 1:
        text = ""
    elif fate == 0:
        text = f"{text} So the answer is 7{len(text)}."
    words = text.split()
    finish: Finish = "length" if fate == 2 or len(words) >= sampling.max_new_tokens else "stop"
    if len(words) > sampling.max_new_tokens:
        text = " ".join(words[: sampling.max_new_tokens])
    return Completion(prompt.id, text, finish, min(len(words) + (finish == "stop"), sampling.max_new_tokens))


def _plausible(messages: Messages) -> str:
    """Return the reference in the last user turn, or the last line of the turn."""
    asked = next((message.content for message in reversed(messages) if message.role == "user"), "")
    ends = [match.end() for match in _MARK.finditer(asked)]
    if not ends:
        return asked.strip().rpartition("\n")[2]
    found = _END.sub("", asked[ends[-1] :].strip())
    return f"Here it is:\n{found}" if found else ""
