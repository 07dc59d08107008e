"""The openai backend against a real HTTP server that plays an endpoint, well or badly."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.server import HANG, KEY, RESET, Raw, Server, refusal, reply
from support.tiny import CHATML, tiny_tokenizer

from selfdistill.backends import endpoint, open_backend, openai
from selfdistill.backends.endpoint import retry_after
from selfdistill.errors import ModelError, RecipeError, SelfDistillError, StageError
from selfdistill.grading.traces import Trace, split
from selfdistill.models.renderer import Renderer
from selfdistill.pipeline import evaluate, rewrite, run
from selfdistill.pipeline.check import check
from selfdistill.recipe import ModelConfig, Recipe, Sampling
from selfdistill.store.experiment import Experiment
from selfdistill.types import Completion, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LARGE = gzip.compress(bytes((64 << 20) + 1))  # 64 kB on the way


def config(server: Server, path: str = "judge", chat_template: str = "chat", **settings: Any) -> ModelConfig:
    return ModelConfig(
        path=path, chat_template=chat_template, server={"url": server.url, "key_env": "TEST_KEY", **settings}
    )


def prompts(n: int) -> list[Prompt]:
    return [Prompt(f"{i:016x}", (Message("system", "Be brief."), Message("user", f"Say {i}"))) for i in range(n)]


def ask(model: ModelConfig, asked: list[Prompt], sampling: Sampling | None = None) -> dict[str, Completion]:
    with open_backend("openai", model) as backend:
        answers = list(backend.generate(asked, sampling or Sampling(max_new_tokens=32)))
    assert len({answer.id for answer in answers}) == len(answers)
    return {answer.id: answer for answer in answers}


def ask_one(model: ModelConfig, sampling: Sampling | None = None) -> Completion:
    return ask(model, prompts(1), sampling)[prompts(1)[0].id]


def test_answers_belong_to_their_prompts_whatever_order_they_come_in(server: Server) -> None:
    four = threading.Barrier(4)  # nobody is answered before four ask at once

    def script(body: dict[str, Any], _: int) -> Any:
        four.wait(10)
        return reply(body["messages"][-1]["content"].replace("Say", "I say"), tokens=7)

    server.script = script
    found = ask(config(server, concurrency=4), prompts(40))
    assert found == {p.id: Completion(p.id, f"I say {i}", "stop", 7) for i, p in enumerate(prompts(40))}
    assert set(server.paths) == {"/v1/chat/completions"}
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert len(server.connections) == 40, "each has its own, so that nothing late is taken for another's answer"
    assert server.most_in_flight == 4


def test_what_is_done_is_not_asked_and_no_more_is_read_ahead_than_is_in_flight(server: Server) -> None:
    taken = 0

    def stream() -> Iterator[Prompt]:
        nonlocal taken
        for prompt in prompts(50):
            taken += 1
            yield prompt

    done = {prompt.id for prompt in prompts(50)[::2]}
    with open_backend("openai", config(server, concurrency=3)) as backend:
        answers = backend.generate(stream(), Sampling(), done)
        first = next(answers)
        assert taken <= 6
        rest = list(answers)
    assert {a.id for a in [first, *rest]} == {p.id for p in prompts(50)} - done
    assert len(server.bodies) == 25


NEUTRAL = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "skip_special_tokens": False,
}


def test_every_sampling_setting_is_sent_so_that_no_default_of_the_server_applies(server: Server) -> None:
    ask_one(config(server), Sampling(preset="paper", seed=5))
    ask_one(config(server), Sampling(preset="paper", seed=5))
    ask_one(config(server), Sampling(preset="paper", seed=6))
    ask_one(config(server), Sampling(temperature=0, top_p=0.5, top_k=7, max_new_tokens=9))
    first, again, other, greedy = server.bodies
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say 0"}]
    assert 0 <= first["seed"] < 2**31
    drawn = {"temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": first["seed"], "max_tokens": 512}
    assert first == {"model": "judge", "messages": messages, **NEUTRAL, **drawn}
    assert first == again
    assert other["seed"] != first["seed"]
    assert greedy == {"model": "judge", "messages": messages, **NEUTRAL, "temperature": 0.0, "max_tokens": 9}


def test_each_row_has_a_seed_of_its_own(server: Server) -> None:
    ask(config(server), prompts(20), Sampling(temperature=1.0))
    assert len({body["seed"] for body in server.bodies}) == 20


FAULTS = {
    "429": (429, refusal("slow down"), {"Retry-After": "0"}),
    "500": (500, refusal("oops")),
    "503 as HTML": (503, Raw(b"<html><body>Bad gateway</body></html>")),
    "408": (408, {}),
    "reset": RESET,
    "hang": HANG,
    "cut body": Raw(json.dumps(reply()).encode()[:40], 400),
    "half JSON": Raw(b'{"choices": [{"mess'),
    "HTML": Raw(b"<!doctype html><p>Log in"),
    "more than the memory has room for": (200, Raw(LARGE), {"Content-Encoding": "gzip"}),
    "packed twice": (200, Raw(gzip.compress(LARGE)), {"Content-Encoding": "gzip, gzip"}),
    "no choices": {"choices": []},
    "an error with status 200": refusal("upstream is down"),
    "no message": {"choices": [{"finish_reason": "stop"}]},
    "a list": [1, 2],
    "content of another type": reply([{"type": "text"}]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_tried_again(server: Server, fault: Any) -> None:
    server.script = lambda _, number: fault if number < 2 else reply("At last")
    # A machine that is busy may be late with a good answer too, so a short timeout gets more tries.
    answer = ask_one(config(server, timeout=0.3, retries=30) if fault is HANG else config(server, retries=2))
    assert answer == Completion(answer.id, "At last", "stop", 3)
    assert len(server.bodies) >= 3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_prompt_that_uses_up_its_retries_is_an_error_and_the_others_are_answered(server: Server, fault: Any) -> None:
    server.script = lambda body, _: fault if body["messages"][-1]["content"] == "Say 3" else reply()
    found = ask(config(server, timeout=2 if fault is HANG else 30, retries=1, concurrency=4), prompts(12))
    errors = [answer for answer in found.values() if answer.finish == "error"]
    assert [error.id for error in errors] == [prompts(12)[3].id]
    assert "after 2 tries" in str(errors[0].error)
    assert len(found) == 12


def test_faults_here_and_there_are_no_outage(server: Server) -> None:
    def script(body: dict[str, Any], _: int) -> Any:
        return (500, {}) if body["messages"][-1]["content"].endswith(("0", "5")) else reply()

    server.script = script
    found = ask(config(server, retries=0, concurrency=1), prompts(100))
    assert sum(answer.finish == "error" for answer in found.values()) == 20 > 2 * openai._OUTAGE - 1


def test_a_server_that_dies_in_the_middle_ends_the_run_and_keeps_the_answers(server: Server) -> None:
    server.script = lambda _, number: reply() if number < 30 else (500, refusal("worker died"))
    kept: list[Completion] = []
    with open_backend("openai", config(server, retries=1, concurrency=4)) as backend:
        answers = backend.generate(prompts(5000), Sampling())
        with pytest.raises(ModelError, match="worker died, after"):
            kept.extend(answers)
    assert sum(answer.finish == "stop" for answer in kept) == 30
    assert len(server.bodies) < 100


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    model = ModelConfig(path="judge", server={"url": f"http://127.0.0.1:{port}/v1", "retries": 1})
    with pytest.raises(ModelError, match=rf"http://127.0.0.1:{port}/v1 does not answer .* check that the server is"):
        ask(model, prompts(200))


FATAL = {
    "401": ((401, refusal(f"Incorrect API key provided: {KEY}")), "check the key in TEST_KEY"),
    "403": ((403, {}), "check the key in TEST_KEY"),
    "404": ((404, refusal("The model `judge` does not exist")), "`judge` does not exist.* check model.path"),
    "400 for the model": ((400, refusal("judge is not a valid model ID")), "not a valid model ID.* check model.path"),
    "405": ((405, Raw(b"<html>")), "an HTML page.*often ends in /v1"),
    "302": ((302, Raw(b""), {"Location": "/login"}), "302"),
    "402": ((402, refusal("no credit left")), "no credit left"),
    "quota": ((429, refusal("You exceeded your quota", code="insufficient_quota")), "no credit left"),
}


@pytest.mark.parametrize(("action", "message"), FATAL.values(), ids=FATAL)
def test_what_any_prompt_would_meet_ends_the_run(server: Server, action: Any, message: str) -> None:
    server.script = lambda _, number: action
    with pytest.raises(ModelError, match=message):
        ask(config(server, concurrency=2), prompts(100))
    assert len(server.bodies) <= 4


def test_a_refused_prompt_is_an_error_with_the_servers_words(server: Server) -> None:
    context = "This model's maximum context length is 16 tokens; 'max_tokens' or 'max_completion_tokens' is too large"
    server.script = lambda body, _: (
        (400, {"object": "error", "message": context}) if body["messages"][-1]["content"] == "Say 1" else reply()
    )
    found = ask(config(server), prompts(3))
    assert [answer.finish for _, answer in sorted(found.items())] == ["stop", "error", "stop"]
    assert found[prompts(3)[1].id].error == f"400: {context}"
    assert len(server.bodies) == 3


def test_the_limit_goes_under_its_other_name_where_the_server_asks_for_it(server: Server) -> None:
    told = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    server.script = lambda body, _: (400, refusal(told, param="max_tokens")) if "max_tokens" in body else reply()
    found = ask(config(server, retries=0, concurrency=4), prompts(20))
    assert {answer.finish for answer in found.values()} == {"stop"}
    assert server.bodies[-1]["max_completion_tokens"] == 32
    assert len(server.bodies) <= 24


def rejecting(names: set[str], say: Callable[[str], Any], status: int = 400) -> Callable[[dict[str, Any], int], Any]:
    """A server that refuses the first of these settings that a request holds."""
    return lambda body, _: next(((status, say(name)) for name in body if name in names), reply())


WORDS: dict[str, tuple[int, Callable[[str], Any]]] = {
    "OpenAI, unknown": (400, lambda name: refusal(f"Unrecognized request argument supplied: {name}", param=None)),
    "OpenAI, unsupported": (
        400,
        lambda name: refusal(
            f"Unsupported parameter: '{name}' is not supported with this model.",
            param=name,
            code="unsupported_parameter",
        ),
    ),
    "pydantic": (
        422,
        lambda name: {
            "detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]
        },
    ),
    "Mistral": (
        422,
        lambda name: {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", name]}]}},
    ),
    "Groq": (400, lambda name: refusal(f"property '{name}' is unsupported")),
    "Google": (
        400,
        lambda name: [refusal(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')],
    ),
    "xAI": (
        400,
        lambda name: {"code": "Client specified an invalid argument", "error": f"Argument not supported: {name}"},
    ),
    "text": (400, lambda name: Raw(f"unknown field `{name}`".encode())),
}


@pytest.mark.parametrize(("status", "say"), WORDS.values(), ids=WORDS)
def test_a_neutral_setting_that_the_server_rejects_is_left_out_and_shown_once(
    server: Server, caplog: pytest.LogCaptureFixture, status: int, say: Callable[[str], Any]
) -> None:
    unknown = {"min_p", "repetition_penalty", "repeat_penalty", "skip_special_tokens"}
    server.script = rejecting(unknown, say, status)
    with open_backend("openai", config(server, concurrency=4)) as backend:
        found = list(backend.generate(prompts(20), Sampling(preset="paper")))
        assert backend.left_out == ["min_p", "repetition_penalty", "skip_special_tokens"]  # type: ignore[attr-defined]
    assert {answer.finish for answer in found} == {"stop"}
    kept = {"temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed"}
    assert kept == server.bodies[-1].keys() - {"model", "messages", "max_tokens"}
    for name in unknown - {"repeat_penalty"}:
        assert caplog.text.count(f"`{name}`") == 1, caplog.text


def test_several_settings_in_one_refusal_are_all_left_out(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    unknown = {"min_p", "repetition_penalty", "repeat_penalty", "skip_special_tokens", "top_k"}
    told = f"Unrecognized request arguments supplied: {', '.join(sorted(unknown))}"
    server.script = lambda body, _: (400, refusal(told, param=None)) if "min_p" in body else reply()
    assert ask_one(config(server)).finish == "stop"
    assert len(server.bodies) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--generation-config vllm" in caplog.text


def test_of_settings_that_exclude_each_other_one_is_sent(server: Server) -> None:
    told = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    server.script = lambda body, _: (400, refusal(told)) if "top_p" in body else reply()
    assert ask_one(config(server)).finish == "stop"
    assert server.bodies[-1]["temperature"] == 0


def test_a_rejected_seed_is_shown_and_recorded(
    server: Server, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server.script = rejecting({"seed"}, WORDS["pydantic"][1], 422)
    recipe = Recipe.model_validate(
        {
            "model": {"path": "judge", "server": {"url": server.url}},
            "task": "demo-maths",
            "data": {"path": "demo-maths", "n": 4},
            "rewrite": {"backend": "openai", "grader": "none", "min_accepted": 0},
            "arms": {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}},
            "evaluate": {"backend": "openai", "tasks": [{"task": "demo-lists", "n": 2}]},
        }
    )
    experiment = Experiment(tmp_path / "run", recipe)
    rewrite(experiment)
    assert caplog.text.count("does not accept `seed`") == 1
    assert experiment.counts("rewrite")["settings_left_out"] == ["seed"]
    verdict = evaluate(experiment, arms=["seed"])
    assert [note for note in verdict["notes"] if note.startswith("rewrite: the server did not accept seed")]
    greedy = experiment.counts("answer/seed/demo-lists")
    assert greedy["items"] == 2
    assert "settings_left_out" not in greedy


def test_top_k_is_turned_off_in_the_servers_way(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    told = "top_k must be -1 (disable) or at least 1, got 0."
    server.script = lambda body, _: (400, refusal(told)) if body["top_k"] == 0 else reply()
    assert ask_one(config(server)).finish == "stop"
    assert [body["top_k"] for body in server.bodies] == [0, -1]
    assert ask_one(config(server), Sampling(preset="paper")).finish == "stop"
    assert server.bodies[-1]["top_k"] == 50
    assert not caplog.records


DECIDING = {
    "top_k": ((422, {"detail": "Unexpected keys in the request: {'top_k'}"}), "top_k 50 .* top_k to 0"),
    "top_p": ((400, refusal("Input validation error: `top_p` must be > 0.0 and < 0.5")), "top_p 0.7 .* top_p to 1"),
    "temperature": (
        (
            400,
            refusal(
                "Unsupported value: 'temperature' does not support 0.95 with this model. Only the default (1) value is "
                "supported.",
                param="temperature",
                code="unsupported_value",
            ),
        ),
        r"temperature 0.95 .* temperature to 1, or answer with another model or backend\.",
    ),
}


@pytest.mark.parametrize(("action", "message"), DECIDING.values(), ids=DECIDING)
def test_a_rejected_setting_that_decides_the_answer_ends_the_run(
    server: Server, request: pytest.FixtureRequest, action: Any, message: str
) -> None:
    server.script = lambda _, number: action
    with pytest.raises(RecipeError, match=message):
        ask(config(server, concurrency=2), prompts(50), Sampling(preset="paper"))
    assert len(server.bodies) <= 4


def test_a_model_without_greedy_answers_is_refused_and_one_that_draws_at_1_is_asked(server: Server) -> None:
    told = "Unsupported value: 'temperature' does not support 0 with this model."
    server.script = lambda body, _: (400, refusal(told, param="temperature")) if "temperature" in body else reply()
    with pytest.raises(RecipeError, match="temperature 0 "):
        ask_one(config(server))
    assert ask_one(config(server), Sampling(temperature=1.0)).finish == "stop"
    assert "temperature" not in server.bodies[-1]
    with open_backend("openai", config(server)) as backend:
        assert [answer.finish for answer in backend.generate(prompts(1), Sampling(temperature=1.0))] == ["stop"]
        with pytest.raises(RecipeError, match=r"temperature 0\.5 "):  # left out only while it is neutral
            list(backend.generate(prompts(1), Sampling(temperature=0.5)))


def test_a_refusal_that_quotes_the_prompt_or_the_request_names_no_setting(server: Server) -> None:
    said = ["This prompt is not allowed: the temperature of a seed", "only one seed: temperature 1"]
    quoted = [{"type": "value_error", "loc": ["body"], "msg": "Value error, not allowed", "input": {"top_k": 0}}]
    for refused in (refusal(said[0]), refusal(said[1]), {"detail": quoted}, refusal(f"not supported {quoted}")):
        server.script = lambda _, number, refused=refused: (400, refused)
        with open_backend("openai", config(server)) as backend:
            answers = list(backend.generate(prompts(1), Sampling(temperature=0.5)))
            assert not backend.left_out  # type: ignore[attr-defined]
        assert [answer.finish for answer in answers] == ["error"]


def test_a_refusal_of_what_is_not_sent_is_another_requests_and_tried_again(server: Server) -> None:
    refused = (400, refusal("Unsupported parameter", param="min_p"))
    server.script = lambda _, number: refused if number < 3 else reply()
    assert ask_one(config(server)).finish == "stop"
    assert len(server.bodies) == 4
    server.script = lambda _, number: refused
    answer = ask_one(config(server, retries=2))
    assert (answer.finish, answer.transient) == ("error", True)


def test_tgi_is_refused_where_a_neutral_setting_would_change_its_answers(server: Server) -> None:
    server.script = lambda _, number: {**reply(), "system_fingerprint": "3.3.4-sha-4fdc7b2"}
    with pytest.raises(RecipeError, match=r"server\.api to completions"):
        ask_one(config(server))


def test_the_finish_reason_says_how_an_answer_ended(server: Server) -> None:
    def finish(**changes: Any) -> Completion:
        server.script = lambda _, number: {**reply(), **changes}
        return ask_one(config(server))

    cut = finish(choices=reply("Cut o", "length")["choices"])
    assert (cut.text, cut.finish) == ("Cut o", "length")
    loop = "And then it rained again. " * 9  # a server isn't told to stop there, so its text stays
    assert finish(choices=reply(loop, "length")["choices"]).finish == "loop"
    assert finish(choices=reply(loop, "length")["choices"]).text == loop
    assert finish(choices=reply(loop, "stop")["choices"]).finish == "stop"
    filtered = finish(choices=reply("Well", "content_filter")["choices"])
    assert (filtered.finish, filtered.error) == ("error", "the server ended the answer with 'content_filter'")
    assert finish(choices=reply("?", None)["choices"]).finish == "error"
    assert finish(usage=None).tokens == 0
    assert finish(usage={"completion_tokens": "many"}).tokens == 0
    declined = {"message": {"content": None, "refusal": "I can't help with that."}, "finish_reason": "stop"}
    assert finish(choices=[declined]).text == "I can't help with that."
    assert finish(choices=reply(None)["choices"]).text == ""


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_took_out_of_the_text_is_joined_to_it(server: Server, field: str) -> None:
    def said(content: Any, finish: str = "stop", reasoning: Any = "\n2 and 2.\n") -> Completion:
        message = {"content": content, field: reasoning}
        server.script = lambda _, number: {**reply(), "choices": [{"message": message, "finish_reason": finish}]}
        return ask_one(config(server))

    assert split(said("4").text) == Trace("2 and 2.", "4")
    assert split(said("4, or", "length").text) == Trace("2 and 2.", "4, or")
    for nothing in (None, ""):
        cut = said(nothing, "length")
        assert (cut.finish, cut.error, split(cut.text)) == ("length", None, Trace("2 and 2.", None))
        assert split(said(nothing).text) == Trace("2 and 2.", "")
    for none in (None, "", [{"type": "summary"}]):
        assert said("4", reasoning=none).text == "4"


def test_a_server_is_asked_for_marks_that_are_special_tokens(server: Server, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(special=("[THINK]", "[/THINK]"))
    thinking = config(server, model_folder(tmp_path / "thinking", tokenizer), api="completions")
    ask_one(thinking)
    assert server.bodies[0]["skip_special_tokens"] is False
    opened = (Message("user", "Hi"), Message("assistant", "[THINK]"))
    server.script = lambda _, number: reply("It may be", "length")
    assert split(ask(thinking, [Prompt("0" * 16, opened)])["0" * 16].text) == Trace("It may be", None)


def test_odd_characters_go_there_and_back(server: Server) -> None:
    server.script = lambda body, _: reply(body["messages"][0]["content"])
    text = 'NUL \0, colour \x1b[31m, a lone \ud800, {braces}, "quotes" and ' + "length " * 20_000
    prompt = Prompt("0" * 16, (Message("user", text),))
    # Half a surrogate pair, which no tokenizer takes, comes back as a question mark.
    assert ask(config(server), [prompt])[prompt.id].text == text.replace("\ud800", "?")


def model_folder(path: Path, tokenizer: PreTrainedTokenizerFast) -> str:
    tokenizer.save_pretrained(path)
    (path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (path / "model.safetensors").write_bytes(b"")
    return str(path)


def test_completions_are_asked_with_our_own_rendering_and_go_on_with_a_prefill(server: Server, tmp_path: Path) -> None:
    messages = (Message("user", "Add 1 and 1"), Message("assistant", "Let's see: "))
    model = config(server, model_folder(tmp_path, tiny_tokenizer()), api="completions")
    server.script = lambda _, number: reply("2")
    assert ask(model, [Prompt("0" * 16, messages)])["0" * 16].text == "2"
    assert server.paths == ["/v1/completions"]
    text = "<|im_start|>user\nAdd 1 and 1<|im_end|>\n<|im_start|>assistant\nLet's see: "
    assert server.bodies[0]["prompt"] == text
    assert "messages" not in server.bodies[0]
    ask(model.model_copy(update={"chat_template": "alpaca"}), [Prompt("0" * 16, messages)])
    assert server.bodies[1]["prompt"].endswith("### Response:\nLet's see: ")


@pytest.mark.parametrize("template_bos", [False, True])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_server_reads_the_very_tokens_that_we_render(
    server: Server, tmp_path: Path, template_bos: bool, adds_bos: bool
) -> None:
    tokenizer = tiny_tokenizer(("{{ bos_token }}" if template_bos else "") + CHATML, adds_bos=adds_bos)
    model = config(server, model_folder(tmp_path, tokenizer), api="completions")
    ask(model, [Prompt("0" * 16, (Message("user", "Hi"),))])
    sent = server.bodies[0]["prompt"]
    read = tokenizer.encode(sent) if isinstance(sent, str) else sent
    assert read == Renderer(tokenizer).ids((Message("user", "Hi"),))
    assert read.count(tokenizer.bos_token_id) == template_bos
    assert isinstance(sent, str) == (template_bos or not adds_bos)


def test_a_prompt_that_the_template_refuses_is_an_error(server: Server, tmp_path: Path) -> None:
    refuses = "{% if messages[-1].content == 'Say 1' %}{{ raise_exception('not this') }}{% endif %}" + CHATML
    found = ask(config(server, model_folder(tmp_path, tiny_tokenizer(refuses)), api="completions"), prompts(3))
    assert [answer.finish for _, answer in sorted(found.items())] == ["stop", "error", "stop"]
    assert "not this" in str(found[prompts(3)[1].id].error)


def test_what_the_chat_api_can_not_do_is_told(server: Server) -> None:
    started = Prompt("0" * 16, (Message("user", "Add 1 and 1"), Message("assistant", "Let's see: ")))
    with pytest.raises(RecipeError, match=r"prefill.*server\.api to completions"):
        ask(config(server), [started])
    with pytest.raises(RecipeError, match="chat_template 'alpaca' would be ignored"):
        open_backend("openai", config(server, chat_template="alpaca"))
    assert server.bodies == []


def test_settings_that_can_not_work_are_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(model: ModelConfig, adapter: str | None = None) -> str:
        with pytest.raises(RecipeError) as caught:
            open_backend("openai", model, adapter)
        return str(caught.value)

    assert "server: {url: ...}" in message(ModelConfig(path="judge"))
    assert "can't load an adapter" in message(config(server), "arms/sdft/model")
    assert "not an address" in message(ModelConfig(path="judge", server={"url": "localhost:8000"}))
    secret = message(ModelConfig(path="judge", server={"url": "https://me:hunter2@example.org/v1"}))
    assert "key_env" in secret
    assert "hunter2" not in secret
    monkeypatch.setenv("TEST_KEY", "  ")
    assert "TEST_KEY" in message(config(server))
    monkeypatch.setenv("TEST_KEY", "gehéim\n\x07x")
    assert "gehéim" not in message(config(server))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_key_is_never_shown(server: Server, status: int) -> None:
    server.script = lambda _, number: (status, refusal(f"bad key {KEY} in header Bearer {KEY}"))
    model = config(server, retries=0)
    backend = open_backend("openai", model)
    shown = [repr(backend), repr(vars(backend)), str(model)]
    try:
        shown += [repr(answer) for answer in ask(model, prompts(3)).values()]
    except SelfDistillError as error:
        shown += [str(error), repr(error)]
    assert len(shown) > 3
    assert not any(KEY in text for text in shown)


def test_leaving_early_does_not_wait_for_what_is_in_flight(server: Server) -> None:
    server.script = lambda _, number: HANG if number else reply()
    with open_backend("openai", config(server, concurrency=4)) as backend:
        answers = backend.generate(prompts(10), Sampling())
        assert next(answers).finish == "stop"
    assert not server.released.is_set()


def test_it_can_be_asked_again_while_open(server: Server) -> None:
    with open_backend("openai", config(server, concurrency=2)) as backend:
        for _ in range(3):
            assert len(list(backend.generate(prompts(5), Sampling()))) == 5
    assert len(server.headers) == 15


def test_retry_after_is_honoured(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(openai.asyncio, "sleep", sleep)
    server.script = lambda _, number: (429, {}, {"Retry-After": "17"}) if number == 0 else reply()
    assert ask_one(config(server)).finish == "stop"
    assert [17 <= seconds < 18 for seconds in slept if seconds] == [True]


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after(soon) or 0) <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (retry_after("2.5"), retry_after("-3"), retry_after(None)) == (2.5, 0, None)
    assert retry_after("86400") == endpoint._LONGEST_ASKED_WAIT
    assert (retry_after("nan"), retry_after("soon"), retry_after("")) == (None, None, None)


@given(st.text())
def test_any_retry_after_is_a_bounded_wait(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= endpoint._LONGEST_ASKED_WAIT


def test_check_and_run_say_that_the_key_is_missing_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    server = {"url": "http://127.0.0.1:9/v1", "key_env": "TEST_KEY"}
    recipe = Recipe.model_validate(
        {
            "model": {"path": "demo", "server": server},
            "task": "demo-maths",
            "data": {"path": "demo-maths", "n": 4},
            "rewrite": {"backend": "openai"},
        }
    )
    assert [line for line in check(recipe).missing if "TEST_KEY" in line]
    with pytest.raises(StageError, match=r"TEST_KEY \(server.key_env\) is not set"):
        run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.jsonl"))


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
ASKED = Prompt("t", (Message("user", "Call f.", tools=(TOOL,)),))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
         '{"name": "f", "arguments": {"a": 1}}'),
        ({"content": '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]'}, '{"name": "f", "arguments": {"a": 1}}'),
        ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{a"}}]}, "{a"),
    ],
)  # fmt: skip
def test_tools_are_sent_and_calls_come_back_in_one_form(server: Server, message: dict[str, Any], text: str) -> None:
    answer = reply("", "tool_calls")
    answer["choices"][0]["message"] = {"role": "assistant", **message}
    server.script = lambda body, number: answer
    (found,) = ask(config(server), [ASKED]).values()
    assert (found.text, found.finish) == (f"<tool_call>\n{text}\n</tool_call>", "stop")
    assert server.bodies[0]["tools"] == [TOOL]
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "Call f."}]
    ask(config(server).model_copy(update={"tools_in": "system"}), [ASKED])
    assert "tools" not in server.bodies[1]
    assert '"name": "f"' in server.bodies[1]["messages"][0]["content"]
