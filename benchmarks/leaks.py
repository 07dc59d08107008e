"""The leak filter on real texts: false alarms on original texts, and findings in published rewrites.

    python benchmarks/leaks.py DATA [--show]

DATA holds sdft/ and alpaca_eval/ of the paper's files. A text that is not a rewrite is checked as the rewrite of an
empty reference, so that every alarm shows. `--show` prints the text around each finding.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfdistill.data import read_conversations
from selfdistill.generation.prompts import REWRITING
from selfdistill.grading.filters import leaks
from selfdistill.grading.leaks import template_headings
from selfdistill.recipe import DataConfig, Filters
from selfdistill.types import Example, Message

REFERENCES = ("lima_train", "dolly_train", "alpaca_train")
ANSWERS = ("llama-2-7b-chat-hf", "alpaca-7b", "vicuna-7b")
REWRITES = ("alpaca", "openfunction")
HEADINGS = template_headings(REWRITING["using"].user)
Pair = tuple[Example, str]


def references(folder: Path) -> Iterator[tuple[str, list[Pair]]]:
    for name in REFERENCES:
        rows = read_conversations(DataConfig(path=str(folder / "sdft" / f"{name}.json")))
        examples = [example for row in rows for example in row.examples()]
        yield f"references, {name}", [(Example.of(one.prompt, "-"), one.reference) for one in examples]
    for name in ANSWERS:
        answers = json.loads((folder / "alpaca_eval" / f"{name}_outputs.json").read_text(encoding="utf-8"))
        yield (
            f"answers without a reference, {name}",
            [(Example.of((Message("user", row["instruction"]),), "-"), row["output"]) for row in answers],
        )


def rewrites(folder: Path) -> Iterator[tuple[str, list[Pair]]]:
    for name in REWRITES:
        originals, rewritten = (
            [row.examples()[-1] for row in read_conversations(DataConfig(path=str(folder / "sdft" / file)))]
            for file in (f"{name}_train.json", f"distilled_{name}.json")
        )
        pairs = zip(originals, rewritten, strict=True)
        yield (
            f"published rewrites, {name}",
            [(one, other.reference) for one, other in pairs if one.reference != other.reference],
        )


def table(sets: Iterable[tuple[str, list[Pair]]], show: bool) -> None:
    print("\n| texts | n | found | share | reasons |\n|---|---|---|---|---|")
    for name, pairs in sets:
        reasons = Counter[str]()
        for example, text in pairs:
            if reason := leaks(text, example, Filters(), HEADINGS):
                reasons[reason] += 1
                if show:
                    print(f"    {reason}: {text[:600]!r}")
        listed = "; ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        print(f"| {name} | {len(pairs):,} | {reasons.total()} | {reasons.total() / len(pairs):.2%} | {listed} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    table(references(arguments.data), arguments.show)
    table(rewrites(arguments.data), arguments.show)


if __name__ == "__main__":
    main()
