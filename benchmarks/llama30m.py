"""A random Llama of about 30M parameters, embeddings included, with the demo seed's tokenizer."""

from __future__ import annotations

from pathlib import Path

from selfdistill.models.loading import load_renderer
from selfdistill.recipe import ModelConfig


def make_llama30m(folder: Path, seed: int = 0) -> Path:
    """Write config, safetensors (float32) and tokenizer into `folder`, and return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_renderer(ModelConfig(path="demo")).tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=9,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
