"""What stopping loops early saves: the same greedy answers with `stop_loops` on and off, in turn.

    python benchmarks/stop_loops.py --model FOLDER --data FILE --rows 60

Prints the share of answers that loop, the tokens and the time that are saved, how many of the answers that were not
stopped are the same, and how many of the stopped ones would have ended by themselves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pairs import alternate, ratios, spread

from selfdistill.backends import open_backend
from selfdistill.data import draw, read_conversations
from selfdistill.grading.endings import ending
from selfdistill.recipe import DataConfig, ModelConfig, Sampling
from selfdistill.types import Completion, Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--data", type=Path, required=True, help="a file of training rows, whose prompts are asked")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--backend", default="hf")
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.0)
    args = parser.parse_args()
    examples = [row.examples()[-1] for row in read_conversations(DataConfig(path=str(args.data)))]
    chosen = draw(len(examples), args.rows, 0)
    prompts = [Prompt(row.id, row.prompt) for row, wanted in zip(examples, chosen, strict=True) if wanted]
    found: dict[bool, dict[str, Completion]] = {}
    processor: dict[bool, float] = {}  # seconds of the last pair, which other programs do not change
    with open_backend(args.backend, ModelConfig(path=args.model)) as backend:

        def side(stop: bool) -> float:
            sampling = Sampling(
                temperature=args.temperature, max_new_tokens=args.max_new_tokens, stop_loops=stop, top_k=50
            )
            start, own = time.perf_counter(), time.process_time()
            found[stop] = {answer.id: answer for answer in backend.generate(prompts, sampling)}
            processor[stop] = time.process_time() - own
            return time.perf_counter() - start

        on, off = alternate([lambda _: side(True), lambda _: side(False)], args.pairs)
    stopped, whole = found[True], found[False]
    looped = {name for name, answer in stopped.items() if answer.finish == "loop"}
    tokens = [sum(answer.tokens for answer in answers.values()) for answers in (stopped, whole)]
    same = sum(stopped[name].text == whole[name].text for name in whole if name not in looped)
    begins = sum(whole[name].text.startswith(stopped[name].text) for name in looped)
    print(f"{len(whole)} answers: {sum(answer.cut_off for answer in whole.values())} reach the limit without stopping")
    print(f"{len(looped)} are stopped in a loop, of which {begins} begin the whole answer")
    print(f"{sum(whole[name].finish == 'stop' for name in looped)} of these would have ended by themselves")
    print(f"{same} of the other {len(whole) - len(looped)} answers are the same")
    print(f"loops to the rule on texts: {sum(ending(answer) == 'loop' for answer in whole.values())} without stopping")
    print(f"tokens {tokens[0]:,} and {tokens[1]:,}: {1 - tokens[0] / tokens[1]:.1%} saved")
    print(f"processor seconds {processor[True]:.0f} and {processor[False]:.0f} (not of engines in other processes)")
    print(f"seconds {spread(on)} and {spread(off)}, ratio {statistics.median(ratios(off, on)):.2f}")


if __name__ == "__main__":
    main()
