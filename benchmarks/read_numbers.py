"""How many final numbers `final_number` reads correctly, with math-verify, without it, and math-verify alone.

    python benchmarks/read_numbers.py DATA

The cases are in tests/data/final_numbers.jsonl. DATA holds gsm8k/ (train.jsonl and test.jsonl of
https://github.com/openai/grade-school-math) and sdft/multiarith_test.json (https://github.com/sail-sg/sdft): each gold
answer against its number, and the solutions of GSM8K without their last line, which announces the number.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from selfdistill.grading.closed_forms import ClosedForm
from selfdistill.grading.numbers import extract_number, final_number

CASES = Path(__file__).parents[1] / "tests/data/final_numbers.jsonl"


class Case(NamedTuple):
    kind: str
    reference: str
    text: str
    passes: bool


def hard_cases() -> Iterator[Case]:
    for line in CASES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Case(row["kind"], row["reference"], row["text"], row["right"] == "pass")


def gold_answers(folder: Path) -> Iterator[Case]:
    for split in ("train", "test"):
        for line in (folder / f"gsm8k/{split}.jsonl").read_text(encoding="utf-8").splitlines():
            answer = json.loads(line)["answer"]
            solution, _, number = answer.rpartition("####")
            yield Case(f"gold: GSM8K {split}", number.strip(), answer, True)
            yield Case(f"gold: GSM8K {split} without ####", number.strip(), re.sub(r"<<[^>]*>>", "", solution), True)
    for row in json.loads((folder / "sdft/multiarith_test.json").read_text(encoding="utf-8")):
        number = row["output"].rpartition("The answer is")[2].strip(" .")
        yield Case("gold: MultiArith", number, row["output"], True)


def math_verify_alone(reference: str, text: str) -> bool:
    from math_verify import parse, verify

    expected, found = (parse(side, parsing_timeout=None) for side in (reference.removeprefix("#### "), text))
    return bool(verify(expected, found, timeout_seconds=None))


def without_math_verify(reference: str, text: str) -> bool:
    """Closed forms are equal only if they are written alike."""
    expected, found = extract_number(reference), extract_number(text)
    if isinstance(expected, ClosedForm) or isinstance(found, ClosedForm):
        return expected == found
    return expected is not None and expected == found


RULES: dict[str, Callable[[str, str], bool]] = {
    "final_number": lambda reference, text: final_number(reference, text).passed,
    "without math-verify": without_math_verify,
    "math-verify alone": math_verify_alone,
}


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    logging.disable(logging.CRITICAL)
    cases = [*hard_cases(), *gold_answers(Path(sys.argv[1]))]
    totals = Counter(case.kind for case in cases)
    right = {name: Counter[str]() for name in RULES}
    wrong_passes = {name: Counter[str]() for name in RULES}
    for name, rule in RULES.items():
        for case in cases:
            passes = rule(case.reference, case.text)
            right[name][case.kind] += passes == case.passes
            wrong_passes[name][case.kind] += passes and not case.passes
    print(
        f"Right of n, wrong passes in brackets.\n\n| kind | n | {' | '.join(RULES)} |\n|---|---|{'---|' * len(RULES)}"
    )
    for kind, n in totals.items():
        print(f"| {kind} | {n:,} | {' | '.join(f'{right[r][kind]:,} ({wrong_passes[r][kind]})' for r in RULES)} |")


if __name__ == "__main__":
    main()
