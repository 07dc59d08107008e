"""One training by LLaMA-Factory, run by `train.py` with the Python of LLaMA-Factory's environment.

Reads the job as JSON (the only argument), and prints JSON: seconds of training, losses, tokens with loss.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    job = json.loads(sys.argv[1])
    from llamafactory.data.formatter import StringFormatter
    from llamafactory.data.template import register_template
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    written = job["template"]  # the model's chat template, token for token
    register_template(
        name="measured",
        format_user=StringFormatter(slots=[written["user"]]),
        format_assistant=StringFormatter(slots=[written["assistant"]]),
        stop_words=written["stop"],
    )
    folder = Path(job["folder"])
    info = {"rows": {"file_name": job["rows"], "columns": {"prompt": "question", "response": "answer"}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    found: dict[str, Any] = {"losses": []}

    class Record(TrainerCallback):
        def on_train_begin(self, *args: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
            rows = train_dataloader.dataset
            found["trained_tokens"] = sum(label != -100 for row in rows for label in row["labels"])
            found["start"] = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                found["losses"].append(float(logs["loss"]))

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            found["seconds"] = time.perf_counter() - found.pop("start")

    packed = {"packing": True, "neat_packing": True} if job["packed"] else {}
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": job["model"],
            "finetuning_type": "lora",
            "lora_rank": 8,
            "lora_alpha": 16,
            "lora_target": "q_proj,v_proj",
            "template": "measured",
            "dataset": "rows",
            "dataset_dir": job["folder"],
            "output_dir": str(folder / "out"),
            "cutoff_len": job["max_length"],
            "per_device_train_batch_size": job["micro_batch_size"],
            "gradient_accumulation_steps": job["batch_size"] // job["micro_batch_size"],
            "learning_rate": job["lr"],
            "lr_scheduler_type": "cosine",
            "num_train_epochs": 1,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "bf16": job["bf16"],
            "use_cpu": True,
            "seed": 0,
            "data_seed": 0,
            "overwrite_output_dir": True,
            "disable_gradient_checkpointing": not job["checkpointing"],
            **packed,
        },
        callbacks=[Record()],
    )
    print("\nMEASURED", json.dumps(found))


if __name__ == "__main__":
    main()
