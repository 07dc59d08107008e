"""A GGUF file of a random Llama of a few thousand parameters with a byte tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.tiny import CHATML, SPECIAL


def tiny_gguf(
    path: Path, *, chat_template: str | None = CHATML, architecture: str = "llama", packed: bool = True, seed: int = 0
) -> Path:
    """Two layers of width 32, 8-bit (Q8_0) if `packed`, else float32. Without `chat_template` it is a base model."""
    import gguf
    from tokenizers import pre_tokenizers

    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(SPECIAL) + len(letters))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*SPECIAL, *letters])
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * len(letters))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(SPECIAL.index("<s>"))
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_pad_token_id(SPECIAL.index("<pad>"))
    if chat_template:
        writer.add_chat_template(chat_template)
    random = np.random.default_rng(seed)
    kind = gguf.GGMLQuantizationType.Q8_0 if packed else gguf.GGMLQuantizationType.F32
    shapes = {"token_embd": (len(SPECIAL) + len(letters), 32)}
    for layer in range(2):
        shapes |= {f"blk.{layer}.attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{part}": (64, 32) for part in ("gate", "up")} | {f"blk.{layer}.ffn_down": (32, 64)}
    for name, shape in shapes.items():
        weights = random.normal(0, 0.3, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)
    for name in ("output_norm", *(f"blk.{layer}.{part}_norm" for layer in range(2) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
