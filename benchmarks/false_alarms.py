"""How often the rules of `selfdistill.grading.endings` flag a text that people or good models wrote.

    python benchmarks/false_alarms.py DATA

Every reference is read whole, and cut at ten random places, as if the limit of new tokens had cut it off: only there
does a repetition count as a loop. The last lines count made-up texts that repeat for a reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from selfdistill.grading.endings import ends_in_loop, unreadable

_CUTS = 10
_SHOWN = 3


def references(data: Path) -> Iterator[tuple[str, list[str]]]:
    """The texts by file."""
    for path, key in (
        ("sdft/alpaca_train.json", "output"),
        ("sdft/dolly_train.json", "output"),
        ("sdft/lima_train.json", "output"),
        ("sdft/openfunction_train.json", "output"),
        ("alpaca_eval/text_davinci_003_reference.json", "output"),
        ("alpaca_eval/llama-2-7b-chat-hf_outputs.json", "output"),
        ("alpaca_eval/vicuna-7b_outputs.json", "output"),
        ("alpaca_eval/alpaca-7b_outputs.json", "output"),
        ("gsm8k/train.jsonl", "answer"),
        ("gsm8k/test.jsonl", "answer"),
        ("humaneval/HumanEval.jsonl", "canonical_solution"),
        ("humaneval/HumanEval.jsonl", "test"),
        ("ifeval/ifeval_input_data.jsonl", "prompt"),
    ):
        text = (data / path).read_text(encoding="utf-8")
        rows = json.loads(text) if path.endswith(".json") else map(json.loads, text.splitlines())
        yield f"{path}, {key}", [row[key] for row in rows]
    with (data / "advbench/harmful_behaviors.csv").open(encoding="utf-8", newline="") as file:
        yield "advbench, goal", [row["goal"] for row in csv.DictReader(file)]


def made_up() -> Iterator[tuple[str, list[str]]]:
    """Texts of our own that repeat for a reason."""
    places = [("river", "heron"), ("meadow", "lark"), ("harbour", "gull"), ("forest", "owl"), ("mountain", "kite")]
    verse = [f"By the {place} the {bird} is calling,\nover the {place} the rain is falling," for place, bird in places]
    refrain = "\nand I'll be home, and I'll be home,\nand I'll be home by morning.\n\n"
    yield "songs with a refrain", ["".join(part + refrain for part in verse)]
    yield "numbers", ["\n".join(map(str, range(1, 101))), ", ".join(map(str, range(1, 301)))]
    yield (
        "JSON arrays",
        [
            json.dumps([{"id": number, "active": True, "tags": [], "score": 0} for number in range(80)]),
            json.dumps([[0, 0, 0, 0] for _ in range(60)], indent=1),
        ],
    )
    header = "| month | income | costs |\n|---|---|---|\n"
    yield (
        "tables",
        [
            header + "".join(f"| {month} | {month * 7} | {month * 5} |\n" for month in range(1, 61)),
            header + "".join(f"| {month} | 0 | 0 |\n" for month in range(1, 61)),
        ],
    )
    yield "ASCII art", ["+" + "-" * 60 + "+\n" + ("|" + " " * 60 + "|\n") * 3 + "+" + "-" * 60 + "+"]
    yield (
        "code",
        [
            "def rows():\n" + "".join(f"    yield make_row({number}, 0, 0, None)\n" for number in range(40)),
            "switch (key) {\n" + "".join(f"  case {number}:\n    return false;\n" for number in range(40)) + "}",
        ],
    )
    yield "equal rows (a loop to the rule, if it is cut off there)", ["0 0 0 0 0 0 0 0\n" * 30]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of real data")
    parser.add_argument("--show", action="store_true", help="print some of the flagged texts")
    args = parser.parse_args()
    draw = random.Random(0)
    print(f"{'texts of':62} {'texts':>6} {'garbled':>7} {'loop, whole':>11} {'cuts':>7} {'loop, cut':>9}")
    for name, texts in (*references(args.data), *made_up()):
        texts = [text for text in texts if text.strip()]
        cuts = [text[: draw.randrange(1, len(text) + 1)] for text in texts for _ in range(_CUTS)]
        garbled = [text for text in texts if unreadable(text) == "garbled"]
        whole, cut = [*filter(ends_in_loop, texts)], [*filter(ends_in_loop, cuts)]
        print(f"{name:62} {len(texts):6} {len(garbled):7} {len(whole):11} {len(cuts):7} {len(cut):9}", flush=True)
        for text in (*garbled[:_SHOWN], *whole[:_SHOWN], *cut[:_SHOWN]) if args.show else ():
            print(f"    {text[:80]!r} … {text[-120:]!r}")


if __name__ == "__main__":
    main()
