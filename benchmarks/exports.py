"""The tokens that LLaMA-Factory trains on from an export, against ours.

    python benchmarks/exports.py --llamafactory LF_PYTHON

Rows with calls, results, texts and think blocks, in TRL's copies of the chat templates of Qwen 2.5 and Qwen 3, with
SmolLM2's tokenizer, which has the same special tokens. docs/training.md builds LLaMA-Factory's environment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selfdistill.data.export import export
from selfdistill.models.loading import load_tokenizer
from selfdistill.models.packaged import packaged_model
from selfdistill.models.renderer import Renderer
from selfdistill.recipe import ModelConfig
from selfdistill.store.rows import write_lines
from selfdistill.types import FunctionCall, Message, Messages, messages_json, write_reply

TEMPLATES = Path(str(getattr(find_spec("trl"), "origin", ""))).parent / "chat_templates"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY}}
LIMA, OSLO = (FunctionCall("weather", {"city": city}, city) for city in ("Lima", "Oslo"))
ASKED = (Message("user", "How warm is Lima?", tools=(WEATHER,)),)
BRIEF = (Message("system", "Be brief.", tools=(WEATHER,)), *ASKED)
RESULT = Message("tool", '{"t": 19}', tool_call_id="Lima")
CHAIN = (*ASKED, Message("assistant", "", tool_calls=(LIMA,)), RESULT)
ROWS: dict[str, tuple[Messages, str]] = {
    "a call": (ASKED, write_reply("", [LIMA])),
    "parallel calls": (ASKED, write_reply("", [LIMA, OSLO])),
    "a text after a result": (CHAIN, "It is 19 degrees."),
    "a second call": (CHAIN, write_reply("", [OSLO])),
    "with a system turn": (BRIEF, write_reply("", [LIMA])),
    "without tools": ((Message("system", "Be brief."), Message("user", "1+1?")), "2"),
}


def compared(name: str, lf_template: str, python: str, thought: dict[str, Any] | None) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(packaged_model())))
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    render = Renderer(tokenizer, template_kwargs=None if thought else {"enable_thinking": False})
    with TemporaryDirectory() as made:
        folder = Path(made)
        tokenizer.save_pretrained(folder / "tokenizer")
        more = {"thought": thought} if thought else {}
        rows = [
            {"id": str(place), "source": "rewrite", "prompt": messages_json(prompt), "response": response, **more}
            for place, (prompt, response) in enumerate(ROWS.values())
        ]
        write_lines(folder / "run" / "arms" / "sdft" / "data.jsonl", rows)
        export(folder / "run", "llamafactory", folder / "export")
        script = Path(__file__).with_name("exports_llamafactory.py")
        command = [python, str(script), str(folder / "export"), str(folder / "tokenizer"), lf_template]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("[[")]
        if done.returncode or len(lines) != len(ROWS):
            raise SystemExit(done.stderr[-2000:])
    print(f"{name}, {lf_template}, think block {thought}")
    for (kind, (prompt, response)), line in zip(ROWS.items(), lines, strict=True):
        ids, trained = json.loads(line)
        theirs = str(tokenizer.decode([each for each, on in zip(ids, trained, strict=True) if on]))
        if thought:
            print(f"  {kind}: LLaMA-Factory trains {theirs!r}")
            print(f"    after ...{tokenizer.decode(ids[: trained.index(True)])[-60:]!r}")
            continue
        ours = render.response_row(prompt, response)
        own = str(tokenizer.decode(ours.input_ids[ours.trained.index(True) :]))
        start = [ids[: trained.index(True)], ours.input_ids[: ours.trained.index(True)]]
        same = "the same prompt" if start[0] == start[1] else "ANOTHER PROMPT"
        tokens = "the same tokens" if theirs == own else "a line break more" if theirs == f"{own}\n" else repr(theirs)
        print(f"  {kind}: {same}, trains {tokens}")
        if start[0] != start[1]:
            print(*(f"    {tokenizer.decode(each)!r}" for each in start), sep="\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--llamafactory", required=True, metavar="PYTHON")
    python = arguments.parse_args().llamafactory
    compared("qwen2_5", "qwen", python, None)
    compared("qwen3", "qwen3", python, {"text": "Lima is named.", "trained": True})
    compared("qwen3", "qwen3", python, {"text": "", "trained": False})


if __name__ == "__main__":
    main()
