"""Chat templates to test with: those that TRL ships, read from the installed package, and small ones of the structure
of others. Each has a tokenizer that merges across words, lines and marks."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

from selfdistill.models.renderer import Renderer
from support.tiny import CHATML

TRL = Path(str(importlib.util.find_spec("trl").submodule_search_locations[0])) / "chat_templates"  # type: ignore[union-attr,index]

# Templates of the same structure as those of models that TRL has no template for.
CLOSED, OPENED = "<think>\n\n</think>\n\n", "<think>\n"
OWN = {
    "mistral": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}"
        "{% if m.role == 'user' %}[INST] {{ (system if loop.last else '') + m.content }}[/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    ),
    "single-turn": (
        "{% if messages | length > 1 %}{{ raise_exception('One turn only') }}{% endif %}"
        "<|user|>{{ messages[0].content }}<|assistant|>"
    ),
    "phi-4": (
        "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
    ),
    "no generation prompt": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}",
    "granite 3": (
        "{% if thinking %}<|start_of_role|>system<|end_of_role|>Write your thoughts first.<|end_of_text|>\n{% endif %}"
        "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    "smollm3": (
        CHATML.replace("{% if add", "{% set on = enable_thinking is not defined or enable_thinking %}{% if add")
        .replace("{{ message.content }}", "{% if message.role == 'assistant' %}<think>\n\n</think>\n{% endif %}"
                 "{{ message.content }}")
        .replace("assistant\n{% endif %}", "assistant\n{% if not on %}<think>\n\n</think>\n{% endif %}{% endif %}")
    ),
    "deepseek v3.1": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<|assistant|></think>{{ m.content.split('</think>')[-1] }}</s>"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
        "{% if thinking is defined and not thinking %}</think>{% else %}<think>{% endif %}{% endif %}"
    ),
    "qwq": CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"),
    "magistral": (
        "{% if messages[0].role != 'system' %}[SYSTEM_PROMPT]First think: [THINK]...[/THINK]. Then answer."
        "[/SYSTEM_PROMPT]{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% elif m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}"
    ),
    "seed-oss": (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}"
        "<s>assistant\n{% if thinking_budget is defined and thinking_budget == 0 %}<seed:think>\n</seed:think>"
        "{% else %}<seed:think>{% endif %}{% endif %}"
    ),
    "llama-nemotron": (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content.split('</think>')[-1].lstrip() if m.role == 'assistant' else m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    # With tools: id in nine characters, strict alternation, definitions before the last user turn.
    "mistral tools": (
        "{{ bos_token }}{% set sys = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}{% set ns = namespace(n=0) %}"
        "{% for m in turns %}{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
        "{% if (m.role == 'user') != (ns.n % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
        "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}"
        "{% set users = turns | selectattr('role', 'equalto', 'user') | list %}{% for m in turns %}"
        "{% if m.role == 'user' %}{% if tools and m == users[-1] %}[AVAILABLE_TOOLS] {{ tools | tojson }}"
        "[/AVAILABLE_TOOLS]{% endif %}[INST] {{ sys + '\n\n' if loop.last and sys else '' }}{{ m.content }}[/INST]"
        "{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{% if c.id | length != 9 %}"
        "{{ raise_exception('Tool call IDs have length 9') }}{% endif %}{{ (c.function | tojson)[:-1] }}"
        ", \"id\": \"{{ c.id }}\"}{{ ', ' if not loop.last else '' }}{% endfor %}]</s>"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% else %}[TOOL_RESULTS] "
        "{\"content\": {{ m.content | tojson }}, \"call_id\": \"{{ m.tool_call_id }}\"}[/TOOL_RESULTS]"
        "{% endif %}{% endfor %}"
    ),
    "phi-4-mini tools": (
        "{% for m in messages %}{% if m.role == 'system' and tools %}<|system|>{{ m.content }}<|tool|>"
        "{{ tools | tojson }}<|/tool|><|end|>{% elif m.tool_calls %}<|assistant|>{{ m.content }}<|tool_call|>["
        "{% for c in m.tool_calls %}{{ c.function | tojson }}{{ ',' if not loop.last else '' }}{% endfor %}]"
        "<|/tool_call|><|end|>{% elif m.role == 'tool' %}<|tool_response|>{{ m.content }}<|end|>"
        "{% else %}{% if loop.first and tools %}<|system|><|tool|>{{ tools | tojson }}<|/tool|><|end|>{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    # DeepSeek V3's prints arguments as text: an object would be an error.
    "deepseek tools": (
        "{{ bos_token }}{% if tools %}## Tools\n{{ tools | tojson }}\n\n{% endif %}{% for m in messages %}"
        "{% if m.role == 'user' %}<|user|>{{ m.content }}{% elif m.tool_calls %}<|assistant|>{{ m.content }}"
        "<｜tool▁calls▁begin｜>{% for c in m.tool_calls %}<｜tool▁call▁begin｜>{{ c.function.name + '<｜tool▁sep｜>' "
        "+ c.function.arguments }}<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜></s>"
        "{% elif m.role == 'tool' %}<｜tool▁output▁begin｜>{{ m.content }}<｜tool▁output▁end｜>"
        "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}</s>{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "granite tools": (
        "{% if tools %}<|start_of_role|>available_tools<|end_of_role|>{{ tools | tojson }}<|end_of_text|>\n{% endif %}"
        "{% for m in messages %}<|start_of_role|>{{ 'tool_response' if m.role == 'tool' else m.role }}<|end_of_role|>"
        "{{ m.content }}{% if m.tool_calls %}<|tool_call|>[{% for c in m.tool_calls %}{{ c.function | tojson }}"
        "{{ ', ' if not loop.last else '' }}{% endfor %}]{% endif %}<|end_of_text|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
}  # fmt: skip
PLAIN = {  # no reasoning, or none unless it is asked for
    "cohere", "cohere2", "gemma", "gemma3", "lfm2", "lfm2_v2", "llama3", "llama3_1", "llama3_2", "phi3", "phi3_5",
    "qwen2_5", "qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl", "qwen3_5_nothink", "gemma4", "gemma4_v2", "gemma4_v3",
    "gemma4_v4", "gemma4_v5", "diffusion_gemma", "mistral", "single-turn", "phi-4", "no generation prompt", "granite 3",
    "mistral tools", "phi-4-mini tools", "deepseek tools", "granite tools",
}  # fmt: skip
SWITCHED: dict[str, dict[str, Any]] = {
    **{
        name: {"enable_thinking": False}
        for name in (
            "qwen3", "qwen3_5_think", "qwen3_6", "qwen3_8", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra",
            "nemotron_3_5_lightning", "glm4moe", "smollm3",
        )
    },
    "deepseek v3.1": {"thinking": False},
    "seed-oss": {"thinking_budget": 0},
}  # fmt: skip
NO_SWITCH = {
    "deepseek_r1_distill", "deepseekv3", "gptoss", "lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl", "muse_glimmer", "qwq",
    "magistral", "llama-nemotron",
}  # fmt: skip
PICTURES = {"idefics3", "smolvlm", "llava_next"}
USABLE = {name: {} for name in sorted(PLAIN)} | SWITCHED


def source(name: str) -> str:
    return OWN[name] if name in OWN else (TRL / f"{name}.jinja").read_text(encoding="utf-8")


_SPECIAL = r"<[|｜]?[\w▁]+[|｜]>|<\|/?\w+\|?>|<\|\"\|>|<\w+_of_turn>|\[/?INST\]|\[/?[A-Z]+_[A-Z]+\]"


@functools.cache
def tokenizer(name: str) -> Any:
    """A byte-level BPE with many merges, also of letters with white space and marks, and the template's own tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template = source(name)
    special = dict.fromkeys(
        ["<s>", "</s>", *re.findall(r"<[|｜]?[\w▁]+[|｜]>|<\|\w+>|<\|\"\|>|<\w+_of_turn>|\[/?INST\]", template)]
    )
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence([])  # no split: merges span words, lines and marks
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    texts = ["\n\nThe answer", "assistant\n\nThe", ">It is", "\n</think>\n\n", "] is 4. ", " \n", "is 4.\n"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    model.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=model, chat_template=template, bos_token="<s>", eos_token="</s>")


@functools.cache
def renderer(name: str) -> Renderer:
    return Renderer(tokenizer(name), template_kwargs=USABLE.get(name, {}))
