"""Split a model's reply into its think trace and its answer. The only place that knows how models mark a trace.

A trace starts with an opening mark at the start of the reply, and runs to the next closing mark of the same family, or
to the end if the reply was cut off. After the answer has begun, an opening mark starts a trace only at the start of a
line outside fenced code, and only if a closing mark of the same family follows; otherwise the text is left unchanged. A
closing mark without an opening mark ends a trace that the prompt opened: all the text before the last such mark is the
trace. Some marks are only mentioned in the reply and don't mark a trace: a mark in quotes or backticks, a pair within
one line or one code block, and a closing mark in the middle of a sentence, in a table cell, at the start of a list
item, or in a code block that ends after it.

A tag around the answer that some families write after the trace (`<answer>`, `<response>`) is removed. The trace of
Granite 3.2, which has plain English headings and no marks, is not recognised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..types import Completion

# Per family: the opening mark, the closing mark, and models that write them. The names are those of vLLM's reasoning
# parsers and TRL's chat templates, if there are any.
_FAMILIES = (
    (r"<thinking>", r"</thinking>"),  # Reflection, models that are prompted to think
    (r"<thought>", r"</thought>"),  # EXAONE Deep
    (r"<reasoning>", r"</reasoning>"),  # models that are trained or prompted to write it before <answer>
    (r"<think(?::\w+)?>", r"</think(?::\w+)?>"),  # DeepSeek, Qwen 3, GLM, Nemotron, OLMo, MiniMax M2, Hunyuan
    (r"<seed:think>", r"</seed:think>"),  # Seed-OSS
    (r"<mm:think>", r"</mm:think>"),  # MiniMax M3
    (r"<ifm\|think\w*>", r"</ifm\|think\w*>"),  # K2 Horizon
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral, Ministral
    (r"◁think▷", r"◁/think▷"),  # Kimi-VL
    (r"<\|open\|>think<\|sep\|>", r"<\|close\|>think<\|sep\|>"),  # Kimi K3
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|channel>thought\b", r"<channel\|>"),  # Gemma 4
    (r"(?:<\|message_model\|>)?<\|content_thinking\|>", r"<\|end_message\|>(?:<\|message_model\|><\|content_text\|>)?"),
    # Muse Glimmer: a turn to itself comes before the turn to the user.
    (r" to=self<\|message\|>", r"(?:<\|eom\|>)?(?:<\|start\|>assistant)? to=user<\|message\|>"),
    # gpt-oss: whatever is said on other channels comes before the final one.
    (
        r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
    ),
    # gpt-oss decoded without its special tokens. Without a final channel, "analysis" must run into a capitalised word.
    (r"\A\s*analysis(?=[\s\S]*?assistantfinal|[A-Z][a-z'’]*,? [a-z])", r"assistantfinal"),
)
_ALSO_ELEMENTS = ("0", "1", "2")  # also names of XML elements, so these marks open a trace only at the start of a reply
_AROUND_ANSWERS = (
    ("<answer>", "</answer>"),  # Hunyuan A13B
    ("<response>", "</response>"),  # Ernie 4.5, Granite 3.3
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
)
_MARK = re.compile(
    "|".join(
        [f"(?P<open{number}>{opening})" for number, (opening, _) in enumerate(_FAMILIES)]
        + [f"(?P<close{number}>{closing})" for number, (_, closing) in enumerate(_FAMILIES)]
        + ["(?P<fence>^ {0,3}(?:`{3,}+(?=[^`\\n]*$)|~~~))"]
    ),
    re.MULTILINE,
)
_OPENED = re.compile(rf"(?:{'|'.join(opening for opening, _ in _FAMILIES[:-1])})\s*\Z")
_LONGEST_MARK = 100
_CUES = (
    "think",
    "THINK",
    "thought",
    "channel",
    "end_message",
    "analysis",
    "assistantfinal",
    "reasoning",
    "inner_",
    " to=",
)  # one is in every mark
_BLANK = re.compile(r"\s*")
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_LINE_START = re.compile(r"(?:\A|\n) {0,3}\Z")
_QUOTES = frozenset("`'\"“”‘’«»")
# The text before and after a mark that is in a string of code, in a table cell, or at the start of a list item.
_NEAR = 20
_STRING_BEGINS = re.compile(r"(?:\A|[\s(\[{=,:+])[rbfuRBFU]{0,2}(?P<quote>[`'\"]{1,3})(?:\\[nrts][*+?]?){0,3}\Z")
_CELL_BEGINS, _CELL_ENDS = re.compile(r"\|[ \t]*\Z"), re.compile(r"[ \t]{0,20}\|")
_ITEM_BEGINS, _ITEM_GOES_ON = (
    re.compile(r"(?:\A|\n)[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+[*_]*\Z"),
    re.compile(r"[*_]*:?[ \t]+\S"),
)
_LANGUAGE = re.compile(r"[`~]*[ \t]{0,20}\w")  # after a fence, which then begins a block


@dataclass(frozen=True, slots=True)
class Trace:
    """`answer` is None if the reply ends inside its trace: it was cut off while thinking, or stopped there. `end` is
    where the closing mark of the trace before the answer ends in the text, 0 if there is none."""

    reasoning: str
    answer: str | None
    end: int = field(default=0, compare=False)


def split(text: str) -> Trace:
    """The think traces of `text` and the rest, the answer. A text without a trace is its own answer, unchanged."""
    return _Splitter(text).split() if any(cue in text for cue in _CUES) else Trace("", text)


def answer_of(reply: Completion) -> str | None:
    """The answer in a reply, without its think trace; None if the reply failed, or ends inside its trace."""
    return None if reply.finish == "error" else split(reply.text).answer


def join(reasoning: str, answer: str | None) -> str:
    """A reply from the reasoning and the answer that a server returned separately; `split` returns both parts again.
    Without an answer the trace stays open."""
    opened = f"<think>\n{reasoning.strip()}\n"
    return opened if answer is None else f"{opened}</think>\n\n{answer}"


def opened(prompt: str) -> str:
    """The opening mark that `prompt` ends with, so that the model continues a trace; else an empty text."""
    found = _OPENED.search(prompt[-_LONGEST_MARK:])
    return found[0] if found else ""


def mark_in(text: str) -> str | None:
    """The first opening or closing mark of a trace in a text, None if there is none."""
    if not any(cue in text for cue in _CUES):
        return None
    return next((match[0].strip() for match in _MARK.finditer(text) if match.lastgroup != "fence"), None)


def opens_again(reasoning: str) -> bool:
    """Whether a trace opens inside the reasoning of a trace. A mark in quotes or backticks does not count."""
    openings = (match for match in _MARK.finditer(reasoning) if str(match.lastgroup).startswith("open"))
    return any(reasoning[max(0, match.start() - 1) : match.start()] not in _QUOTES for match in openings)


class _Splitter:
    """One pass over the marks of a text. `_start` is where the current stretch, trace or answer, begins."""

    def __init__(self, text: str) -> None:
        self._text, self._start, self._end = text, 0, 0
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._inside = ""  # the family whose trace is open
        self._found = self._fenced = self._named = False  # named: an earlier opening mark did not open a trace
        self._mentioned = -1  # the end of the last such mark, unless it was in quotes
        self._marks = list(_MARK.finditer(text))
        self._fences = [match for match in self._marks if match.lastgroup == "fence"]
        self._passed = 0  # the fences so far
        self._closings = self._last_closings()

    def split(self) -> Trace:
        end = len(self._text.rstrip())
        for match in self._marks:
            kind = str(match.lastgroup)
            self._passed += kind == "fence"
            if self._inside:
                if kind == f"close{self._inside}" and not self._quoted(match) and not self._in_a_string(match):
                    self._close(match, self._reasoning)
            elif kind == "fence":
                self._fenced, self._mentioned = not self._fenced, -1
            elif kind.startswith("open"):
                family = kind.removeprefix("open")
                if self._opens(match, family):
                    self._close(match, self._answer)
                    self._inside = family
                else:
                    self._named, self._mentioned = True, self._mentioned if self._quoted(match) else match.end()
            elif self._ends_the_prompts_trace(match, kind.removeprefix("close")):
                if self._found and match.end() >= end:  # a mark too many, after the answer
                    self._answer.append(self._text[self._start : match.start()])
                    self._start = end
                    break
                self._reasoning += self._answer
                self._answer.clear()
                self._close(match, self._reasoning)
        return self._result()

    def _result(self) -> Trace:
        rest = self._text[self._start :]
        if not self._found:
            return Trace("", self._text)
        (self._reasoning if self._inside else self._answer).append(rest)
        reasoning = "\n\n".join(part.strip() for part in self._reasoning if part.strip())
        answer = [_BLANK_LINES.sub("", part) for part in self._answer if part.strip()]
        if self._inside and not answer:
            return Trace(reasoning, None)
        return Trace(reasoning, _without_tag("\n".join(answer)), self._end)

    def _close(self, match: re.Match[str], stretches: list[str]) -> None:
        stretches.append(self._text[self._start : match.start()])
        if stretches is self._reasoning and not any(part.strip() for part in self._answer):
            self._end = match.end()
        self._start, self._inside, self._found, self._fenced, self._mentioned = match.end(), "", True, False, -1

    def _opens(self, match: re.Match[str], family: str) -> bool:
        text, at = self._text, match.start()
        if _BLANK.fullmatch(text, self._start, at):
            return True
        if self._fenced or family in _ALSO_ELEMENTS or self._closings.get(family, -1) < at:
            return False
        return _LINE_START.search(text[max(0, at - 4) : at]) is not None

    def _ends_the_prompts_trace(self, match: re.Match[str], family: str) -> bool:
        mentioned, self._mentioned = self._mentioned, -1
        near = self._fenced or family in _ALSO_ELEMENTS or self._text.find("\n", mentioned, match.start()) < 0
        if mentioned >= 0 and near:
            return False
        if self._named and self._heads_an_item(match):
            return False
        return not (self._fenced and self._block_ends(self._passed)) and not self._is_subject(match)

    def _last_closings(self) -> dict[str, int]:
        """The position of each family's last closing mark that is not just mentioned."""
        found: dict[str, int] = {}
        passed = 0
        for match in self._marks:
            kind = str(match.lastgroup)
            passed += kind == "fence"
            in_a_block = passed % 2 == 1 and self._block_ends(passed)
            if kind.startswith("close") and not in_a_block and not self._is_subject(match):
                found[kind.removeprefix("close")] = match.start()
        return found

    def _block_ends(self, passed: int) -> bool:
        """Whether the fence after `passed` fences ends a block instead of beginning the first block of an answer: the
        fence names no language, and the number of fences after it is even."""
        after = len(self._fences) - passed
        return after % 2 == 1 and not _LANGUAGE.match(self._text, self._fences[passed].end())

    def _is_subject(self, match: re.Match[str]) -> bool:
        return self._quoted(match) or self._in_a_string(match) or self._in_a_sentence(match) or self._is_a_cell(match)

    def _quoted(self, match: re.Match[str]) -> bool:
        before, after = self._text[max(0, match.start() - 1) : match.start()], self._text[match.end() : match.end() + 1]
        return before in _QUOTES and after in _QUOTES and bool(before) and bool(after)

    def _in_a_string(self, match: re.Match[str]) -> bool:
        begins = _STRING_BEGINS.search(self._before(match))
        ends = self._text.find(begins["quote"], match.end()) if begins else -1
        return ends >= 0 and self._text.find("\n", match.end(), ends) < 0

    def _is_a_cell(self, match: re.Match[str]) -> bool:
        begins, ends = _CELL_BEGINS.search(self._before(match)), _CELL_ENDS.match(self._text, match.end())
        return begins is not None and ends is not None

    def _heads_an_item(self, match: re.Match[str]) -> bool:
        begins, goes_on = _ITEM_BEGINS.search(self._before(match)), _ITEM_GOES_ON.match(self._text, match.end())
        return begins is not None and goes_on is not None

    def _before(self, match: re.Match[str]) -> str:
        return self._text[max(0, match.start() - _NEAR) : match.start()]

    def _in_a_sentence(self, match: re.Match[str]) -> bool:
        """Whether a sentence continues on both sides of the mark, as in "the </think> tag"."""
        before = self._text[max(0, match.start() - 2) : match.start()]
        after = self._text[match.end() : match.end() + 2].lstrip(" \t")[:1]
        spaced = before[-1:] in (" ", "\t", "(") and before[:1] not in (".", "!", "?", "…", "\n")
        return spaced and (after.islower() or after in (",", ".", ";", ":", "!", "?", ")"))


def _without_tag(answer: str) -> str:
    for opening, closing in _AROUND_ANSWERS:
        if answer.startswith(opening):
            return _BLANK_LINES.sub("", answer.removeprefix(opening)).rstrip().removesuffix(closing).rstrip()
    return answer
