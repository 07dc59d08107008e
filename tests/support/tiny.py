"""A random Llama of a few thousand parameters with a byte tokenizer, built in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer(
    chat_template: str | None = CHATML,
    *,
    eos: str = "<|im_end|>",
    special: tuple[str, ...] = (),
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """Every byte is a token, so any text is encoded. `adds_bos`: encoding puts `<s>` in front, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *special]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names + letters)}, []))
    tokenizer.add_special_tokens(names)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=chat_template, bos_token="<s>", eos_token=eos, pad_token="<pad>"
    )


def tiny_model(
    directory: Path,
    *,
    chat_template: str | None = CHATML,
    system_role: bool = True,
    eos: str = "<|im_end|>",
    special: tuple[str, ...] = (),
    context: int = 512,
    seed: int = 0,
    layers: int = 2,
) -> Path:
    """A model folder (config, generation config, safetensors, tokenizer) with random weights. Without `system_role`
    the template raises on a system message. Without `chat_template` the folder holds a base model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    template = chat_template if system_role or chat_template is None else NO_SYSTEM + chat_template
    tokenizer = tiny_tokenizer(template, eos=eos, special=special)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,  # large, so that a greedy answer depends on its prompt
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
