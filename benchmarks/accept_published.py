"""What our checks accept of the paper's published rewrites, and our graders next to the paper's rules. Prints Markdown.

    python benchmarks/accept_published.py DATA

DATA is a folder with sdft/ (the *_train.json, gsm8k_test.json and distilled_*.json of https://github.com/sail-sg/sdft),
alpaca_eval/ (the outputs of three models, *_outputs.json, of https://github.com/tatsu-lab/alpaca_eval) and gsm8k/
(train.jsonl and test.jsonl of https://github.com/openai/grade-school-math). The files do not show whether a rewrite ran
into the length limit: every text counts as finished. Rows are joined by place, because the files have no ids.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import compare_rules

from selfdistill.data import read_conversations
from selfdistill.grading import make_grader, verify
from selfdistill.recipe import DataConfig, Filters
from selfdistill.types import Completion, Example, Grade

SETS = {
    "OpenFunctions": ("openfunction", "function_call", "function_call_paper"),
    "Alpaca": ("alpaca", "none", "none"),
}
# The paper's filters (eval/gen_distilled_data.py of its code).
PAPER_BANS = ("reference answer", "your response", "my response", "your own response", "now it's your turn")
SHOWN = 2
EXCERPT = 160


def pairs(folder: Path, name: str) -> Iterator[tuple[Example, str]]:
    originals = read_conversations(DataConfig(path=str(folder / f"{name}_train.json")))
    rewrites = read_conversations(DataConfig(path=str(folder / f"distilled_{name}.json")))
    for original, rewrite in zip(originals, rewrites, strict=True):
        if original.messages[:-1] != rewrite.messages[:-1]:
            raise SystemExit(f"{name}: the files are not aligned row by row.")
        yield original.examples()[-1], rewrite.messages[-1].content


def paper_verdict(example: Example, text: str, grader: str) -> Grade:
    lowered = text.lower()
    if any(ban in lowered for ban in PAPER_BANS) or text.startswith("Your turn"):
        return Grade("fail", "talks about the reference")
    return make_grader(grader)(example, text)


def tables(title: str, rows: list[tuple[Example, str]], ours: str, papers: str) -> Iterator[str]:
    grade = make_grader(ours)
    counts: dict[str, Counter[str]] = {"all": Counter(), "differs": Counter()}
    both: Counter[tuple[bool, bool]] = Counter()
    examples = defaultdict[str, list[str]](list)
    for example, text in rows:
        verdict = verify(example, Completion(example.id, text, "stop"), Filters(), grade)
        reason = f"{'kept' if verdict.passed else 'rejected'}: {verdict.reason}"
        counts["all"][reason] += 1
        if text == example.reference:
            continue
        counts["differs"][reason] += 1
        both[verdict.passed, paper_verdict(example, text, papers).passed] += 1
        if not verdict.passed:
            examples[reason].append(excerpt(text, example.reference))
    differing = counts["differs"].total()
    yield f"### {title}: {len(rows):,} rows, {differing:,} differ from the original\n"
    yield f"| our verdict | all rows | rows that differ |\n|---|---|---|\n{_rows(counts)}\n"
    yield "| rows that differ | the paper's rule keeps | the paper's rule rejects |\n|---|---|---|"
    for mine in (True, False):
        yield f"| ours {'keeps' if mine else 'rejects'} | {both[mine, True]} | {both[mine, False]} |"
    yield "\nRejected, for example (original → rewrite):\n"
    for reason, found in sorted(examples.items()):
        yield from (f"- {reason.removeprefix('rejected: ')}: {shown}" for shown in found[:SHOWN])
    yield ""


def _rows(counts: dict[str, Counter[str]]) -> str:
    kept = {name: sum(n for reason, n in c.items() if reason.startswith("kept")) for name, c in counts.items()}
    lines = [f"| {reason} | {n} | {counts['differs'][reason]} |" for reason, n in counts["all"].most_common()]
    total = [f"{kept[name]} ({kept[name] / max(c.total(), 1):.1%})" for name, c in counts.items()]
    return "\n".join([*lines, f"| **kept** | {' | '.join(total)} |"])


def excerpt(text: str, reference: str) -> str:
    """Both texts on one line as code, from their first difference."""
    start = next((i for i, (a, b) in enumerate(zip(text, reference, strict=False)) if a != b), len(reference))
    start = max(0, min(start, len(text)) - 40)
    return f"{_code(reference[start:])} → {_code(text[start:])}"


def _code(text: str) -> str:
    flat = " ".join(text.split()).replace("`", "'")
    return f"`{flat[:EXCERPT]}{'…' if len(flat) > EXCERPT else ''}`" if flat else "(nothing more)"


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    rewrites = {title: list(pairs(folder / "sdft", name)) for title, (name, _, _) in SETS.items()}
    print("## What our checks accept of the paper's published rewrites\n")
    for title, (_, ours, papers) in SETS.items():
        for line in tables(title, rewrites[title], ours, papers):
            print(line)
    print("## Our graders beside the rules of the paper's code\n")
    published = compare_rules.published(folder)
    for line in compare_rules.refusals(published):
        print(line)
    for line in compare_rules.numbers(compare_rules.gold(folder) | published):
        print(line)
    for line in compare_rules.calls(rewrites["OpenFunctions"]):
        print(line)


if __name__ == "__main__":
    main()
