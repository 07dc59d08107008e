"""A vLLM engine in processes of its own, which end with it and give back all memory."""

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
from ..models.source import model_source
from ..recipe import EngineConfig, ModelConfig, Sampling
from .batches import Row
from .sampling import every_setting, row_seed

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

INSTALL = "install it with `pip install 'selfdistill[vllm]'` (on a machine without GPU see docs/engines.md)"
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
LARGEST_RANK = _RANKS[-1]
_CPU_CACHE = 4 << 30  # bytes; vLLM's own default is most of the machine's memory
_AHEAD = 2  # prompts that wait, for one that can be at work: the engine never runs dry, and memory stays bounded
# Of a guess as many tokens as are worth checking at once; a match of two tokens is enough to make one.
_SPECULATE = {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


@dataclass(frozen=True)
class Needs:
    """What an engine is started with. `rank` is the largest of the adapters that it can take, 0 for none; `targets` are
    the modules that they change, none for any."""

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
        source = model_source(model)
        return cls(source, model.revision, model.dtype, model.device, model.trust_remote_code, model.engine)


def needs_of(model: ModelConfig, adapter: str | None, models: Sequence[tuple[ModelConfig, str | None]]) -> Needs:
    """What an engine for `model` needs, with room for `adapter` and for the adapters in `models` that go over the same
    model. Raises ModelError."""
    needs = Needs.of(model)
    folders = {adapter, *(folder for other, folder in models if Needs.of(other) == needs)}
    shapes = [adapter_shape(folder) for folder in folders if folder]
    if not shapes:
        return needs
    targets = frozenset[str]().union(*(names for _, names in shapes)) if all(names for _, names in shapes) else ()
    return replace(needs, rank=max(rank for rank, _ in shapes), targets=frozenset(targets))


class Engine:
    """vLLM with one model, started. Raises ModelError where it is not installed or does not start."""

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
            # Its logger keeps the stream that is there when it starts. Not so stderr: as vLLM sets up its logging, absl
            # (which lm-eval brings) closes the stream that it has kept, unless that is sys.stderr.
            with self._logged(), redirect_stdout(io.StringIO()):
                self.llm = _start(needs)
        except ModelError:
            self._log.unlink()
            raise
        except Exception as error:  # whatever vLLM, its workers or the model's own code raise
            why = self._reason(error)
            advice = "change what it names in model.engine, or choose the backend hf"
            if "memory" in why.lower():
                advice = "free some, or set model.engine.memory_fraction"
            raise ModelError(
                f"vLLM did not start with {needs.source} ({why}); {advice}. Its whole log is {self._log}."
            ) from error
        scheduler = self.llm.llm_engine.vllm_config.scheduler_config
        self.room = _AHEAD * int(scheduler.max_num_seqs)
        self.context = int(self.llm.llm_engine.model_config.max_model_len)

    def stop(self) -> None:
        """Ends its processes, and with them what they hold of GPU and memory."""
        with self._logged(), suppress(Exception):
            self.llm.llm_engine.engine_core.shutdown()
        if not self.broken:
            self._log.unlink(missing_ok=True)

    def adapter(self, folder: str) -> LoRARequest:
        """The adapter in `folder`, loaded. Each has a number of its own, which is how vLLM tells them apart. Raises
        ModelError."""
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

    def ask(self, row: Row, sampling: Sampling, stop_ids: Collection[int], adapter: LoRARequest | None) -> str:
        """Puts a prompt in the queue; gives the name under which its answer comes. Raises ValueError where vLLM refuses
        it, ModelError where the engine is gone."""
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
            except Exception as error:  # vLLM's own classes for it have moved from version to version
                raise ValueError(_one_line(str(error))) from error
        return name

    def finished(self) -> Iterator[tuple[str, list[int], str | None]]:
        """Waits for the engine's next step; gives the name, new tokens and finish reason of what came to its end."""
        with self.watched():
            outputs = self.llm.llm_engine.step()
        for output in outputs:
            if output.finished:
                yield output.request_id, list(output.outputs[0].token_ids), output.outputs[0].finish_reason

    @contextmanager
    def watched(self, *harmless: type[Exception]) -> Iterator[None]:
        """Raises ModelError where the engine dies within; `harmless` errors pass."""
        try:
            yield
        except harmless:
            raise
        except Exception as error:
            self.broken = True
            raise ModelError(
                f"vLLM stopped while it answered ({self._reason(error)}); run again, the answers that came are kept. "
                f"Its whole log is {self._log}."
            ) from error

    def forget(self, names: Iterable[str]) -> None:
        """Takes back prompts that nobody waits for any more."""
        if names := list(names):
            with suppress(Exception):  # an engine that is gone has none
                self.llm.llm_engine.abort_request(names)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """What vLLM and the processes that it starts write goes to a file: none of it runs into the command's own
        output, and where something fails, the file has the reason."""
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
        """Why, in vLLM's own words: the last error in its log that is no pointer to another, else `error` itself."""
        found = map(_ERROR.search, self._log.read_text(encoding="utf-8", errors="replace").splitlines())
        told = [match for match in found if match and not any(pointer in match[2] for pointer in _POINTERS)]
        return _one_line(f"{told[-1][1]}: {told[-1][2]}" if told else _PYDANTIC.sub("", str(error)) or repr(error))


def _params(row: Row, sampling: Sampling, stop_ids: Collection[int]) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        **every_setting(sampling),
        seed=row_seed(sampling.seed, row.id) if sampling.temperature > 0 else None,
        max_tokens=row.limit,
        stop_token_ids=sorted(stop_ids),
        ignore_eos=True,  # ours are in stop_token_ids, and nothing of the model's own settings is added to them
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _start(needs: Needs) -> LLM:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it would report its use to its makers
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a forked process can't use CUDA where we have
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
        # Compiling takes longer than it saves. Of a prompt taken in parts, seeded sampling fails ("CPU Generator does
        # not use offset", vLLM 0.32).
        settings |= {"enforce_eager": True, "enable_chunked_prefill": False}
        # Numba, which finds the guesses, has a pool on OpenMP that sets torch's threads to all cores; this one doesn't.
        os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    if options.memory_fraction is not None:
        settings["gpu_memory_utilization"] = options.memory_fraction
    elif device == "cpu":
        settings["kv_cache_memory_bytes"] = _CPU_CACHE
    if options.speculate:
        settings["speculative_config"] = dict(_SPECULATE)
    if needs.rank:
        settings |= {"enable_lora": True, "max_lora_rank": next(rank for rank in _RANKS if rank >= needs.rank)}
        # What no adapter changes is computed without. On CPU log-likelihoods need this, for the output layer.
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
        max_model_len=-1,  # the model's own, or what the memory has room for
        enable_prefix_caching=True,
        generation_config="vllm",  # nothing of the model's own generation settings
        **settings,
    )


def vllm_missing() -> list[str]:
    """A sentence where vLLM is not installed."""
    return [] if find_spec("vllm") else [f"The backend vllm needs vLLM; {INSTALL}."]


def adapter_shape(folder: str) -> tuple[int, frozenset[str]]:
    """The largest rank in a LoRA adapter, and the names of the modules that it changes, none where they are a pattern.
    Raises ModelError where there is no adapter, or one that vLLM can't take."""
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
# What pydantic puts around the sentence of a setting that vLLM refuses.
_PYDANTIC = re.compile(r"^\d+ validation errors? for \w+\s+Value error, |\s*\[type=value_error.*", re.DOTALL)
_POINTERS = ("root cause", "initialization failed", "Engine core", "EngineCore")


def _one_line(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:300].rstrip(".")
