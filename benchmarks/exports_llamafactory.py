"""Runs in LLaMA-Factory's environment, for exports.py: prints the tokens of a dataset, and which it trains on.

lf/bin/python benchmarks/exports_llamafactory.py EXPORT_FOLDER TOKENIZER TEMPLATE
"""

import json
import sys
from pathlib import Path

import yaml
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
from transformers import AutoTokenizer

folder, tokenizer, template = Path(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[2]), sys.argv[3]
(config,) = folder.glob("*.llamafactory.yaml")
settings = DataArguments(template=template, cutoff_len=100_000, **yaml.safe_load(config.read_text()))
(source,) = get_dataset_list(settings.dataset, settings.dataset_dir)
convert = get_dataset_converter("sharegpt", source, settings)
processor = SupervisedDatasetProcessor(
    template=get_template_and_fix_tokenizer(tokenizer, settings), tokenizer=tokenizer, processor=None,
    data_args=settings,
)  # fmt: skip
rows = json.loads((folder / source.dataset_name).read_text(encoding="utf-8"))
for row in rows:
    made = convert({"tools": "", **row})
    ids, labels = processor._encode_data_example(
        prompt=made["_prompt"], response=made["_response"], system=made["_system"], tools=made["_tools"],
        images=[], videos=[], audios=[],
    )  # fmt: skip
    print(json.dumps([ids, [label != -100 for label in labels]]))
