"""A vLLM engine in separate processes, which end with it and free all memory."""

from __future__ import annotations

import io
import json
import operator
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..models.loading import pick_dtype
from ..models.source import asked_source
from ..recipe import EngineConfig, ModelConfig, Sampling
from .batches import TokenRow
from .loops import LONGEST, SHORTEST, TIMES
from .sampling import every_setting, row_seed

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

INSTALL = "install it with `pip install 'selfdistill[vllm]'` (on a machine without GPU see docs/engines.md)"
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM has kernels for
LARGEST_RANK = _RANKS[-1]
_CPU_CACHE = 4 << 30  # bytes; vLLM's own default is most of the machine's memory
_AHEAD = 2  # prompts in the engine per prompt that can be computed: it never runs dry, and memory stays bounded
# As many guessed tokens as are worth checking at once. A match of two tokens is enough for a guess.
_SPECULATE = {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


@dataclass(frozen=True)
class Needs:
    """The settings that an engine is started with. `rank` is the largest rank of its adapters, 0 without adapters;
    `targets` are the modules that the adapters change, empty for any module."""

    source: str
    revision: str | None
    dtype: str
    device: str
    trust_remote_code: bool
    options: EngineConfig
    rank: int = 0
    targets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: ModelConfig) -> Needs:
        source = asked_source(model)
        return cls(source, model.revision, model.dtype, model.device, model.trust_remote_code, model.engine)


def needs_of(model: ModelConfig, adapter: str | None, models: Sequence[tuple[ModelConfig, str | None]]) -> Needs:
    """Return the needs of an engine for `model` with room for `adapter` and for the adapters in `models` of the same
    base model. Raises ModelError."""
    needs = Needs.of(model)
    folders = {adapter, *(folder for other, folder in models if Needs.of(other) == needs)}
    shapes = [adapter_shape(folder) for folder in folders if folder]
    if not shapes:
        return needs
    targets = frozenset[str]().union(*(names for _, names in shapes)) if all(names for _, names in shapes) else ()
    return replace(needs, rank=max(rank for rank, _ in shapes), targets=frozenset(targets))


class Engine:
    """vLLM with one model. Raises ModelError if vLLM is not installed or does not start."""

    def __init__(self, needs: Needs) -> None:
        if missing := vllm_missing():
            raise ModelError(missing[0])
        self.needs = needs
        self._adapters: dict[tuple[str, int], LoRARequest] = {}
        self._asked = 0
        self.broken = False
        with NamedTemporaryFile(prefix="selfdistill-vllm-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
        try:
            # vLLM's logger keeps the sys.stdout that it starts with. sys.stderr stays: when vLLM sets up its logging,
            # absl (a dependency of lm-eval) closes the stream that it kept, unless the stream is sys.stderr.
            with self._logged(), redirect_stdout(io.StringIO()):
                self.llm = _start(needs)
        except ModelError:
            self._log.unlink()
            raise
        except Exception as error:  # of vLLM, its workers or the model's code
            why = self._reason(error)
            advice = "change the setting in model.engine, or choose the backend hf"
            if "memory" in why.lower():
                advice = "free some, or set model.engine.memory_fraction"
            raise ModelError(
                f"vLLM did not start with {needs.source} ({why}); {advice}. Its whole log is {self._log}."
            ) from error
        scheduler = self.llm.llm_engine.vllm_config.scheduler_config
        self.room = _AHEAD * int(scheduler.max_num_seqs)
        self.context = int(self.llm.llm_engine.model_config.max_model_len)

    def stop(self) -> None:
        """End the engine's processes, which frees their GPUs and memory."""
        with self._logged(), suppress(Exception):
            self.llm.llm_engine.engine_core.shutdown()
        if not self.broken:
            self._log.unlink(missing_ok=True)

    def adapter(self, folder: str) -> LoRARequest:
        """Load the adapter in `folder`. vLLM tells adapters apart by their numbers. Raises ModelError."""
        from vllm.lora.request import LoRARequest

        changed = (Path(folder) / "adapter_config.json").stat().st_mtime_ns
        if (folder, changed) not in self._adapters:
            number = len(self._adapters) + 1
            request = LoRARequest(f"adapter-{number}", number, folder)
            try:
                with self._logged():
                    self.llm.llm_engine.add_lora(request)
            except Exception as error:
                raise ModelError(
                    f"vLLM can't load the adapter in {folder} ({_one_line(str(error))}); train the arm again, or "
                    "choose the backend hf."
                ) from error
            self._adapters[folder, changed] = request
        return self._adapters[folder, changed]

    def ask(self, row: TokenRow, sampling: Sampling, stop_ids: Collection[int], adapter: LoRARequest | None) -> str:
        """Put a prompt in the queue and return the name of its request. Raises ValueError if vLLM refuses the prompt,
        ModelError if the engine is gone."""
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        self._asked += 1
        name = str(self._asked)
        with self.watched(ValueError):
            try:
                params = _params(row, sampling, stop_ids)
                self.llm.llm_engine.add_request(name, tokens_input(row.ids), params, lora_request=adapter)
            except EngineDeadError:
                raise
            except Exception as error:  # the error classes differ between versions of vLLM
                raise ValueError(_one_line(str(error))) from error
        return name

    def finished(self) -> Iterator[tuple[str, list[int], str | None]]:
        """Wait for the engine's next step. Yields the name, new tokens and finish reason of each finished request."""
        with self.watched():
            outputs = self.llm.llm_engine.step()
        for output in outputs:
            if output.finished:
                yield output.request_id, list(output.outputs[0].token_ids), output.outputs[0].finish_reason

    @contextmanager
    def watched(self, *harmless: type[Exception]) -> Iterator[None]:
        """Raise ModelError if the engine dies in the block. `harmless` errors pass."""
        try:
            yield
        except harmless:
            raise
        except Exception as error:
            self.broken = True
            raise ModelError(
                f"vLLM stopped while it answered ({self._reason(error)}). The answers that came are kept; run the "
                f"command again. Its whole log is {self._log}."
            ) from error

    def forget(self, names: Iterable[str]) -> None:
        """Cancel requests that nobody waits for any more."""
        if names := list(names):
            with suppress(Exception):  # the engine may be gone
                self.llm.llm_engine.abort_request(names)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Send the output of vLLM and its processes to a file. The command's own output stays clean, and the file has
        the reason of a failure."""
        with self._log.open("ab") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            kept = [(number, os.dup(number)) for number in (1, 2)]
            try:
                for number, _ in kept:
                    os.dup2(file.fileno(), number)
                yield
            finally:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                for number, own in kept:
                    os.dup2(own, number)
                    os.close(own)

    def _reason(self, error: Exception) -> str:
        """Return the reason in vLLM's words: the last error in its log that does not point to another, or `error`."""
        found = map(_ERROR.search, self._log.read_text(encoding="utf-8", errors="replace").splitlines())
        errors = [match for match in found if match and not any(pointer in match[2] for pointer in _POINTERS)]
        return _one_line(
            f"{errors[-1][1]}: {errors[-1][2]}" if errors else _PYDANTIC.sub("", str(error)) or repr(error)
        )


def _params(row: TokenRow, sampling: Sampling, stop_ids: Collection[int]) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind

    return SamplingParams(
        **every_setting(sampling),
        seed=row_seed(sampling.seed, row.id) if sampling.temperature > 0 else None,
        max_tokens=row.limit,
        stop_token_ids=sorted(stop_ids),
        ignore_eos=True,  # the stop tokens are ours alone, without the model's generation settings
        repetition_detection=RepetitionDetectionParams(LONGEST, SHORTEST, TIMES) if sampling.stop_loops else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _start(needs: Needs) -> LLM:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # no usage reports
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a forked process can't use CUDA if this one has
    from vllm import LLM
    from vllm.platforms import current_platform

    options, device = needs.options, str(current_platform.device_type)
    if needs.device != "auto" and needs.device != device:
        raise ModelError(
            f"The vLLM that is installed computes on {device}, and model.device is {needs.device}; leave model.device "
            "out (CUDA_VISIBLE_DEVICES says on which GPUs)."
        )
    settings: dict[str, Any] = {}
    if device == "cpu":
        # Compiling takes longer than it saves. With chunked prefill, seeded sampling fails ("CPU Generator does not use
        # offset", vLLM 0.32).
        settings |= {"enforce_eager": True, "enable_chunked_prefill": False}
        # Numba, which finds the guesses, would use OpenMP threads, which set torch's threads to all cores.
        os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    if options.memory_fraction is not None:
        settings["gpu_memory_utilization"] = options.memory_fraction
    elif device == "cpu":
        settings["kv_cache_memory_bytes"] = _CPU_CACHE
    if options.speculate:
        settings["speculative_config"] = dict(_SPECULATE)
    if needs.rank:
        settings |= {"enable_lora": True, "max_lora_rank": next(rank for rank in _RANKS if rank >= needs.rank)}
        # Modules that no adapter changes are computed without LoRA. On CPU, log-likelihoods need this (output layer).
        settings["lora_target_modules"] = sorted(needs.targets) or None
    return LLM(
        needs.source,
        revision=needs.revision,
        tokenizer_revision=needs.revision,
        dtype=pick_dtype(needs.dtype, device),
        trust_remote_code=needs.trust_remote_code,
        tensor_parallel_size=options.tensor_parallel,
        quantization=options.quantization,
        load_format="safetensors",  # never a pickle
        max_model_len=-1,  # the model's context, or as much as the memory has room for
        enable_prefix_caching=True,
        generation_config="vllm",  # ignores the model's generation settings
        **settings,
    )


def vllm_missing() -> list[str]:
    """Return a sentence if vLLM is not installed."""
    return [] if find_spec("vllm") else [f"The backend vllm needs vLLM; {INSTALL}."]


def adapter_shape(folder: str) -> tuple[int, frozenset[str]]:
    """Return the largest rank in a LoRA adapter and the names of the modules that it changes, empty if they are given
    as a pattern. Raises ModelError if there is no adapter or vLLM cannot load it."""
    try:
        config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max(map(operator.index, [config["r"], *(config.get("rank_pattern") or {}).values()]))
        targets = config["target_modules"]
        modules = frozenset(map(str, targets)) if isinstance(targets, list) else frozenset[str]()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{folder} holds no readable adapter_config.json; train the arm again.") from None
    if rank > LARGEST_RANK:
        raise ModelError(
            f"The adapter in {folder} has rank {rank}, and vLLM takes up to {LARGEST_RANK}; choose the backend hf."
        )
    return rank, modules


_ERROR = re.compile(r"\b(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception)): (.+)$")
# The text that pydantic puts around vLLM's message about a setting.
_PYDANTIC = re.compile(r"^\d+ validation errors? for \w+\s+Value error, |\s*\[type=value_error.*", re.DOTALL)
_POINTERS = ("root cause", "initialization failed", "Engine core", "EngineCore")


def _one_line(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:300].rstrip(".")
