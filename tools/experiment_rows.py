"""Rows for the experiments of docs/results: the short rows of the paper's training files.

    python -m tools.experiment_rows MODEL DATA --out FOLDER

DATA holds the paper's training files. FOLDER gets two files per dataset: the rows of at most 256 tokens under the
model's chat template, without the last 500 rows of the source; and these 500, on which the pilot was run. No text is
changed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from selfdistill.models.loading import load_renderer
from selfdistill.recipe import DataConfig, ModelConfig
from selfdistill.tasks import get_task

FILES = {"dolly": "dolly_train.json", "gsm8k": "gsm8k_train.json", "openfunctions": "openfunction_train.json"}
DEVELOPMENT = 500
MOST_TOKENS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder, GGUF file or hub name")
    parser.add_argument("data", type=Path, help="folder with the paper's training files")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    renderer = load_renderer(ModelConfig(path=args.model))
    for task, name in FILES.items():
        rows = json.loads((args.data / name).read_text(encoding="utf-8"))
        conversations = get_task(task).load(DataConfig(path=str(args.data / name)))
        examples = [conversation.examples()[-1] for conversation in conversations]
        lengths = [len(renderer.response_row(each.prompt, each.reference).input_ids) for each in examples]
        both = list(zip(rows, lengths, strict=True))
        short = [row for row, length in both[:-DEVELOPMENT] if length <= MOST_TOKENS]
        for file, kept in ((f"{task}.json", short), (f"{task}-dev.json", rows[-DEVELOPMENT:])):
            (args.out / file).write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
            print(f"{args.out / file}: {len(kept)} of {len(rows)} rows")


if __name__ == "__main__":
    main()
