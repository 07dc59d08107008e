"""Where the time of a demo run goes: a sample of its main thread a hundred times per second.

    python benchmarks/profile_demo.py [KEY=VALUE ...]

A sample counts for the innermost known place on the stack. Prints Markdown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import Counter
from types import FrameType

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command has it

# Part of a file's path, and a function's name or "" for any; the first that fits a frame is its place.
PLACES = {
    ("importlib", ""): "importing",
    ("models/loading.py", "load_model"): "loading models",
    ("models/loading.py", "load_renderer"): "loading tokenizers",
    ("models/loading.py", "free_memory"): "freeing memory",
    ("backends/decoding.py", "decode"): "engine: answering",
    ("backends/batches.py", "to_row"): "rendering and tokenising",
    ("backends/batches.py", "to_completion"): "decoding and looking at answers",
    ("measure/likelihood.py", "_token_nlls"): "engine: scoring",
    ("transformers/trainer.py", "_inner_training_loop"): "engine: training",
    ("selfdistill/training/sft.py", "compute_loss"): "engine: training",
    ("selfdistill/models/cpu.py", ""): "engine: training",
    ("selfdistill/training/", ""): "around training",
    ("store/manifest.py", ""): "the manifest",
    ("store/rows.py", ""): "reading and writing rows",
    ("measure/scores.py", "grade"): "grading",
    ("measure/scores.py", "_grade_item"): "grading",
    ("measure/scores.py", "_several_at_once"): "grading",
    ("generation/rewriter.py", "select"): "verifying",
    ("measure/shift/", ""): "shift, without its answers",
    ("selfdistill/reports/", ""): "verdict and report",
    ("pipeline/results.py", ""): "verdict and report",
}


def place(frame: FrameType | None) -> str:
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        for (part, name), title in PLACES.items():
            if part in file and name in ("", function):
                return title
        frame = frame.f_back
    return "all else"


def main() -> None:
    seen: Counter[str] = Counter()
    done, watched = threading.Event(), threading.get_ident()

    def look() -> None:
        while not done.wait(0.01):
            seen[place(sys._current_frames().get(watched))] += 1

    looking, start = threading.Thread(target=look, daemon=True), time.perf_counter()
    looking.start()
    with tempfile.TemporaryDirectory() as folder:
        from selfdistill import load_recipe, run
        from selfdistill.demo import RECIPE

        run(load_recipe(RECIPE, sys.argv[1:]), folder)
    seconds = time.perf_counter() - start
    done.set()
    looking.join()
    engine = sum(count for title, count in seen.items() if title.startswith("engine"))
    print(f"{seconds:.0f} s, of which in the engine {engine / seen.total():.0%}\n")
    print("| where | share | seconds |\n|---|---|---|")
    for title, count in seen.most_common():
        print(f"| {title} | {count / seen.total():.1%} | {seconds * count / seen.total():.1f} |")


if __name__ == "__main__":
    main()
