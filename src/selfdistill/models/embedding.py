"""The sentence-transformers model that turns texts into vectors, for the grader `similar` and the shift's cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, first_line
from ..recipe import ModelConfig
from .hub import ask_hub
from .loading import pick_device
from .source import embedding_name, hub_commit, is_on_hub

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def lazy_embed(name: str, device: str) -> Callable[[Sequence[str]], Any]:
    """A function that returns a float64 array with a row of length 1 per text. `name` is a folder or a hub name, also
    with a commit as in org/name@commit. The model is loaded on the first call, which raises ModelError if that
    fails."""

    def embed(texts: Sequence[str]) -> Any:
        encoder = load_encoder(name, pick_device(device))
        if isinstance(encoder, str):
            raise ModelError(encoder)
        rows = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
        return rows.astype("float64")

    return embed


@cache
def load_encoder(name: str, device: str) -> SentenceTransformer | str:
    """The encoder, or why it can't be loaded. Both are cached, so that all callers share one attempt."""
    from huggingface_hub import HfApi
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        return "The cosine of embeddings needs sentence-transformers: pip install 'selfdistill[shift]'."
    options: dict[str, Any] = {"device": device, "model_kwargs": {"use_safetensors": True}}
    try:
        if not Path(name).is_dir():
            name, _, commit = embedding_name(name).partition("@")
            options["revision"] = commit or None
            with suppress(Exception):
                return SentenceTransformer(name, local_files_only=True, **options)
            ask_hub()
            HfApi().model_info(name, revision=commit or None, timeout=20)  # loading would try again for minutes
        return SentenceTransformer(name, **options)
    except MemoryError:
        raise
    except Exception as error:  # hub, transformers and own errors share no base class
        return _not_loaded(name, first_line(error).rstrip(".:"))


def missing_encoder(name: str) -> str | None:
    """A sentence if the embedding model is not there, else None. Loads and downloads nothing."""
    folder, (source, _, commit) = Path(name), embedding_name(name).partition("@")
    if folder.is_dir():
        there = any((folder / file).is_file() for file in ("modules.json", "config.json"))
        return None if there else _not_loaded(name, "the folder holds no modules.json")
    if not is_on_hub(ModelConfig(path=source)):
        return _not_loaded(name, f"there is no folder {name}")
    there = hub_commit(source, commit or None) is not None
    return None if there else _not_loaded(name, "it was not downloaded before, and can't be looked up on the hub")


def _not_loaded(name: str, why: str) -> str:
    return (
        f"The embedding model {name} can't be loaded ({why}); set shift.embedding to a folder with such a model "
        "and run the command again."
    )
