"""Compares wordings of the rewriting prompt on real rows with a real model, for docs/rewrites.md.

    python -m tools.compare_phrasings generate MODEL DATA --out FOLDER     # asks the model; run it again to resume
    python -m tools.compare_phrasings report MODEL DATA --out FOLDER       # grades what is saved, and prints tables

DATA holds the paper's training files (dolly_train.json, gsm8k_train.json, openfunction_train.json). The rows are the
same for every wording. Half A serves to choose a wording, half B to report it. Grading asks no model, so another grader
of a task can be tried on the saved completions.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from rapidfuzz.distance import Indel

from selfdistill.backends import open_backend
from selfdistill.generation.prompts import RewritingTemplate
from selfdistill.generation.resume import LazyBackend
from selfdistill.generation.rewriter import Rewriter
from selfdistill.grading import make_grader
from selfdistill.grading.filters import leaks
from selfdistill.recipe import DataConfig, Filters, ModelConfig, Sampling
from selfdistill.store.rows import RowFile
from selfdistill.tasks import get_task
from selfdistill.types import Example, Rewrite

from .phrasings import phrasings

FILES = {"dolly": "dolly_train.json", "gsm8k": "gsm8k_train.json", "openfunctions": "openfunction_train.json"}
GRADERS = {"dolly": "facts", "gsm8k": "final_number", "openfunctions": "function_call"}  # as `init` chooses them
SAMPLING = Sampling.model_validate({"preset": "paper", "max_new_tokens": 200})
_MOST_WORDS = 150  # of a row, so that most rewrites end before the limit of tokens
_AT_ONCE = 50  # rows per batch, so that a study of more rows continues one of fewer
_SHORT = 0.5  # of the reference: a shorter rewrite leaves out the steps or most of the facts
_COPY = 0.95  # similarity of the words from which a rewrite is a copy of the reference


def rows_of(task: str, data: Path, count: int) -> list[Example]:
    """The first `count` of the task's different training examples of at most 150 words, in a shuffled order, so that
    fewer rows are the first of more."""
    source = DataConfig(path=str(data / FILES[task]))
    examples = {each.id: each for row in get_task(task).load(source) for each in row.examples()}
    order = sorted(name for name, each in examples.items() if _length_in_words(each) <= _MOST_WORDS)
    Random(0).shuffle(order)
    return [examples[name] for name in islice(order, count)]


def rewriter_of(task: str, template: RewritingTemplate) -> Rewriter:
    grade = make_grader(GRADERS[task])
    return Rewriter(template=template, grade=grade, sampling=SAMPLING, filters=Filters(), model="study")


def wordings(task: str, names: Sequence[str]) -> dict[str, RewritingTemplate]:
    """The named wordings, all of them if no name is given."""
    known = phrasings(task)
    return {name: known[name] for name in names or known}


def generate(args: argparse.Namespace) -> None:
    """Asks the model for the completions that are not in the folder yet."""
    with LazyBackend(lambda: open_backend(args.backend, ModelConfig(path=args.model, dtype=args.dtype))) as backend:
        for task in args.tasks:
            examples = rows_of(task, args.data, args.rows)
            for name, template in wordings(task, args.wordings).items():
                for start in range(0, len(examples), _AT_ONCE):
                    part = examples[start : start + _AT_ONCE]
                    with RowFile(args.out / task / f"{name}.jsonl") as rows:
                        rewriter_of(task, template).generate(part, len(part), backend, rows, lambda *_: None)
                    print(f"{task} {name}: {start + len(part)} rows", file=sys.stderr, flush=True)


def report(args: argparse.Namespace) -> None:
    for task in args.tasks:
        examples = rows_of(task, args.data, args.rows)
        for half, part in (("A", examples[::2]), ("B", examples[1::2])):
            print(f"\n{task}, half {half}, {len(part)} rows\n")
            print("| wording | accepted | useful | talks | chat marks | copies | cut off | length | rejected for |")
            print("|---|---|---|---|---|---|---|---|---|")
            for name, template in wordings(task, args.wordings).items():
                path = args.out / task / f"{name}.jsonl"
                if path.is_file():
                    with RowFile(path, reading=True) as rows:
                        rewriter = rewriter_of(task, template)
                        saved = [each for each in part if rewriter.prompt(each).id in rows]
                        if len(saved) == len(part):
                            print(line(name, list(rewriter.select(saved, rows))), flush=True)


def line(name: str, rewrites: Sequence[Rewrite]) -> str:
    """A line of the table, in per cent of the rows. Talk, marks and copies are counted in all completions, whatever
    they are rejected for. `useful`: accepted, not a copy, and at least half as long as the reference."""
    accepted = [each for each in rewrites if each.grade.passed]
    talk = Counter(leaks(each.completion.text, each.example, Filters()) for each in rewrites)
    marks = talk["chat marker in the text"] + talk["goes on with turns of its own"]
    counts = [
        len(accepted),
        sum(not copies(each) and _length_ratio(each) >= _SHORT for each in accepted),
        talk.total() - talk[None] - marks,
        marks,
        sum(map(copies, rewrites)),
        sum(each.completion.finish == "length" for each in rewrites),
    ]
    shares = [f"{100 * count / len(rewrites):.0f}" for count in counts]
    length = statistics.median(map(_length_ratio, rewrites))
    reasons = Counter(each.grade.reason for each in rewrites if not each.grade.passed)
    said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"| {' | '.join([name, *shares, f'{length:.2f}', said])} |"


def _length_in_words(example: Example) -> int:
    return sum(len(text.split()) for text in (*(turn.content for turn in example.prompt), example.reference))


def copies(rewrite: Rewrite) -> bool:
    """Whether the words of a completion are those of the reference, but for 5 % of the characters."""
    texts = (" ".join(_words(text)) for text in (rewrite.completion.text, rewrite.example.reference))
    return Indel.normalized_similarity(*texts) >= _COPY


def _words(text: str) -> Iterator[str]:
    return (match[0].casefold() for match in re.finditer(r"\w+", text))


def _length_ratio(rewrite: Rewrite) -> float:
    return len(rewrite.completion.text) / max(len(rewrite.example.reference), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["generate", "report"])
    parser.add_argument("model", help="model folder or hub name")
    parser.add_argument("data", type=Path, help="folder with the paper's training files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the completions")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--backend", default="hf", choices=["hf", "vllm"])
    parser.add_argument("--tasks", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--wordings", nargs="+", default=[], help="all unless named")
    args = parser.parse_args()
    (generate if args.step == "generate" else report)(args)


if __name__ == "__main__":
    main()
