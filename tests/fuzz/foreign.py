"""What others wrote: annotations, experiments, models and adapters, a server's replies; and what the terminal shows."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from functools import cache
from typing import Any

import httpx
from hypothesis import strategies as st
from inputs import Target, damaged, example, folder, json_bytes, mixed, plain, values, written

from selfdistill.backends.endpoint import Endpoint, FaultError, retry_after
from selfdistill.backends.openai import OpenAIBackend
from selfdistill.backends.vllm_engine import adapter_shape
from selfdistill.cli.show import visible
from selfdistill.data.annotations import published_rates
from selfdistill.data.export import FORMATS as EXPORTS
from selfdistill.data.export import export
from selfdistill.errors import DataError, ModelError, RecipeError, SelfDistillError
from selfdistill.models.loading import check_model_files
from selfdistill.recipe import ModelConfig, ServerConfig
from selfdistill.store.identity import model_identity
from selfdistill.store.rows import RowFile, dump_line, parse_line, read_lines, write_lines
from selfdistill.types import Completion, Grade, Rewrite


def check_annotations(data: bytes) -> None:
    with suppress(DataError):
        rates = published_rates(written("annotations.json", data))
        assert rates.wins + rates.losses + rates.draws == rates.n > 0
        assert 0 <= rates.percent <= 100


def check_row_file(made: tuple[list[dict[str, Any]], bytes]) -> None:
    rows, noise = made
    path = written("completions.jsonl", noise)
    with suppress(SelfDistillError):
        list(read_lines(path))
    with suppress(SelfDistillError), RowFile(path) as file:
        file.append({"id": "f" * 16})
    rows = [{"id": f"{n:016x}", "text": "", **row} for n, row in enumerate(rows)]
    write_lines(path, rows)
    with RowFile(path, reading=True) as file:
        for row in rows:
            assert dump_line(file.get(row["id"]) or {}) == dump_line(row)


def check_export(made: list[tuple[str, str, str]]) -> None:
    """Each format is written as UTF-8 that JSON can be read from, whatever the texts hold; the text itself is in it."""
    where = folder() / "experiment"
    rows, chosen = {}, []
    for asked, reference, text in made:
        item = example(plain(reference) or "r", plain(asked) or "q")
        rows[item.id] = Rewrite(item, Completion(item.id, plain(text), "stop"), Grade("pass", "same number"))
        chosen.append(
            {"messages": [*(m.to_json() for m in item.prompt), {"role": "assistant", "content": item.reference}]}
        )
    write_lines(where / "data" / "train.jsonl", ({**row, "extra": {}} for row in chosen))
    write_lines(where / "rewrite" / "rewrites.jsonl", (row.to_json() for row in rows.values()))
    for name in EXPORTS.keys() - {"alpaca_eval"}:
        path = export(where, name, folder() / "export").path
        data = path.read_text(encoding="utf-8")
        found = json.loads(data) if path.suffix == ".json" else [json.loads(line) for line in data.split("\n") if line]
        assert len(found) == len(made)


MODEL_FILES = ["config.json", "adapter_config.json", "tokenizer_config.json", "model.safetensors", "pytorch_model.bin"]


def check_model_folder(made: tuple[str, bytes]) -> None:
    name, data = made
    where = folder() / "model"
    where.mkdir(exist_ok=True)
    for old in where.iterdir():
        old.unlink()
    (where / name).write_bytes(data)
    model = ModelConfig(path=str(where))
    model_identity(model)
    with suppress(ModelError):
        check_model_files(model)


@cache
def server(api: str) -> OpenAIBackend:
    return OpenAIBackend(ModelConfig(path="m", server=ServerConfig(url="http://localhost:1/v1", api=api)))  # type: ignore[arg-type]


REPLIES = [
    {"choices": [{"message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}], "usage": {}},
    {"choices": [{"text": "2", "finish_reason": "length"}], "usage": {"completion_tokens": 3}},
    {"error": {"message": "unsupported parameter: 'max_tokens'", "type": "x"}}, {"detail": [{"msg": "no"}]},
]  # fmt: skip
REPLY_KEYS = [
    "choices",
    "message",
    "content",
    "text",
    "finish_reason",
    "usage",
    "completion_tokens",
    "error",
    "refusal",
]


def check_reply(made: tuple[str, int, bytes]) -> None:
    api, status, data = made
    backend = server(api)
    response = httpx.Response(status, content=data)
    assert len(backend._endpoint.reason(response)) <= 310
    with suppress(RecipeError, FaultError):
        backend._accepted.adapt({"seed": 1, "top_k": 5}, response, backend._endpoint.reason(response))
    with suppress(RecipeError, FaultError):
        completion = backend._completion("0" * 16, response, {"prompt": "Hi"})
        assert completion.finish in ("stop", "length", "loop", "error")
        completion.text.encode()  # no half surrogate pair, which no tokenizer takes
        assert Completion.from_json(parse_line(dump_line(completion.to_json()))) == completion


def check_retry_after(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 300)


def check_address(url: str) -> None:
    with suppress(RecipeError):
        Endpoint(ServerConfig(url=url))


def check_shown(text: str) -> None:
    """What is shown holds no control code and nothing that turns text round, and what was plain is as it was."""
    shown = visible(text)
    assert not any(c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160)
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


def check_adapter(data: bytes) -> None:
    path = written("adapter_config.json", data)
    with suppress(ModelError):
        rank, targets = adapter_shape(str(path.parent))
        assert isinstance(rank, int)
        assert all(isinstance(name, str) for name in targets)


ADAPTER_KEYS = ["r", "rank_pattern", "target_modules", "peft_type", "base_model_name_or_path"]
ADAPTER = {"r": 8, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 16}}
PREFERENCES = st.one_of(st.floats(0, 3), st.none(), st.integers(0, 3), st.booleans())
ANNOTATIONS = st.one_of(
    values(["preference"]).map(json_bytes),
    st.lists(st.fixed_dictionaries({"preference": PREFERENCES}), max_size=4).map(json_bytes),
    damaged([b'[{"preference": 1.5}, {"preference": null}]']),
)
COMPLETIONS = st.lists(
    st.dictionaries(st.sampled_from(["text", "finish", "tokens"]), values(["a"]), max_size=3), max_size=3
)
WORD = mixed(["q", "{", '"', "=1+1"], 4)
MODEL_BYTES = [b"{}", b'{"model_type": "llama"}', b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
ANSWER = mixed(["2", "The answer is ", "\n"], 4)
BODIES = st.one_of(
    ANSWER.map(lambda text: json_bytes({"choices": [{"text": text, "message": {"content": text}}]})),
    values(REPLY_KEYS).map(json_bytes),
    damaged(list(map(json_bytes, REPLIES))),
    st.sampled_from([b"", b"<html>", b"null", b"[" * 5000]),
)
DATES = ["1", "Wed, 21 Oct 2015 07:28:00 GMT", "-", "e", ".", ":", ",", " ", "99999999999", "nan", "inf"]
ADDRESSES = ["http://", "https://", "localhost", ":", "8000", "/v1", "@", "[", "]", "?", "key=1", "#", "..", "%"]

TARGETS = (
    Target("annotations", ANNOTATIONS, check_annotations),
    Target(
        "rows of an experiment",
        st.tuples(COMPLETIONS, damaged([b'{"id": "0123456789abcdef", "text": "a"}\n' * 3])),
        check_row_file,
        0.3,
    ),
    Target(
        "export",
        st.lists(
            st.tuples(WORD, WORD, WORD),
            min_size=1,
            max_size=2,
            unique_by=lambda texts: (plain(texts[0]) or "q", plain(texts[1]) or "r"),
        ),
        check_export,
        0.1,
    ),
    Target("model folders", st.tuples(st.sampled_from(MODEL_FILES), damaged(MODEL_BYTES)), check_model_folder, 0.3),
    Target(
        "adapters",
        st.one_of(
            st.dictionaries(st.sampled_from(ADAPTER_KEYS), values(["q_proj"]), max_size=4).map(json_bytes),
            damaged([json_bytes(ADAPTER)]),
        ),
        check_adapter,
    ),
    Target(
        "server's replies",
        st.tuples(st.sampled_from(["chat", "completions"]), st.sampled_from([200, 400, 422]), BODIES),
        check_reply,
    ),
    Target("Retry-After", mixed(DATES, 5), check_retry_after),
    Target("server's address", mixed(ADDRESSES, 6), check_address),
    Target("terminal", mixed(["plain", "[bold]", "[/]", "\x9b31m", "\x1b]8;;http://x\x1b\\"]), check_shown),
)
