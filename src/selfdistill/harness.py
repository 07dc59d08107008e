"""The knowledge tasks through lm-eval (EleutherAI's lm-evaluation-harness). The only importer of lm_eval.

lm-eval builds the prompts, asks for log-likelihoods or answers, and grades; this file hands it the model and our layout
of a chat, draws the items, and saves what it found on each item in the form of `evaluate.grade`.

How a chat model is asked. System prompt, few-shot examples (a user and an assistant turn each) and the question (a last
user turn) are rendered once, by the same `Renderer` as everywhere; what a candidate answer is scored on follows the
prompt that opens the assistant's turn, with no space before it, as lm-eval does under a chat template. Where that
prompt ends in white space, lm-eval moves it over to the candidate, so that it is scored too: the same for each
candidate, it changes no ranking by sum, and a ranking by mean (acc_norm) slightly. No BOS is added to what the layout
has. Winogrande puts a sentence up to its blank in the user's turn and scores the rest of it.
"""

from __future__ import annotations

import io
import json
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

from .backends import Backend
from .config import ModelConfig, TaskEntry
from .data import draw
from .errors import DataError, ModelError, RecipeError, StageError
from .models import context_length, load_renderer, model_source
from .rows import write_lines
from .stats import Z95
from .tasks import Harness, Task
from .types import Example, Message, Score, Verdict, content_id, messages_from_json

if TYPE_CHECKING:
    from .prompts import Renderer

ENGINES = ("hf", "vllm")
_FEW_SHOT_SEED = 1234  # lm-eval's own default
# Numbers in the logits of one batch (a GiB in float32): scoring needs them of every token, for the whole vocabulary.
_LOGITS = 1 << 28


@dataclass(frozen=True)
class Benchmark:
    """A task's items, read and drawn without a model. `parts` are lm-eval's tasks by name (one for each subject of
    MMLU), `groups` what sums them up, `drawn` the indices of each part's items."""

    entry: TaskEntry
    harness: Harness
    metric: str
    few_shot: int
    parts: dict[str, Any]
    groups: dict[str, Any]
    drawn: dict[str, list[int]]

    def items(self) -> Iterator[Example]:
        """What is asked, without few-shot examples, and the right answer; in the order of the verdicts."""
        for name, part in self.parts.items():
            for index in self.drawn[name]:
                doc = part.eval_docs[index]
                text = doc["sentence"] if part.multiple_input else part.doc_to_text(doc)
                right = "" if part.OUTPUT_TYPE == "generate_until" else part.doc_to_choice(doc)[_gold(part, doc)]
                yield Example(content_id(name, doc), (Message("user", text),), right, {"part": name})


def load_benchmark(task: Task, entry: TaskEntry) -> Benchmark:
    """The items of `task`: lm-eval's own on the hub, or those of the local file `entry.path`, `entry.n` of them drawn.

    Raises StageError where lm-eval or what it needs is missing, DataError where the data can't be read or a row lacks
    a field, RecipeError where few-shot examples are asked for that there are none of.
    """
    harness = task.harness
    if harness is None:
        raise TypeError(f"{task.name} is no task of lm-eval's")
    check_installed(harness.task)
    with _quiet():
        try:
            loaded = _local(harness, entry) if entry.path else _hub(harness)
        except (DataError, RecipeError):
            raise
        except Exception as error:  # of datasets, the hub client, pyarrow, jinja
            advice = "check the file" if entry.path else "check the network, or name a local file in its `path`"
            raise DataError(f"The data of '{entry.name}' can't be loaded ({_first_line(error)}); {advice}.") from error
        parts, groups = loaded["tasks"], loaded["groups"]
        shots = _set_shots(entry, harness, parts)
        sizes = [len(part.eval_docs) for part in parts.values()]
        mask, start = draw(sum(sizes), entry.n, entry.seed), 0
        drawn: dict[str, list[int]] = {}
        for name, size in zip(list(parts), sizes, strict=True):
            drawn[name] = [int(index) for index in mask[start : start + size].nonzero()[0]]
            start += size
            if not drawn[name]:
                del parts[name], drawn[name]
        benchmark = Benchmark(entry, harness, task.metric, shots, parts, groups, drawn)
        _dry_run(benchmark)
    return benchmark


def check_installed(task: str = "") -> None:
    """Raises StageError where lm-eval is missing, or for IFEval what its checks need."""
    wanted = ("langdetect", "immutabledict", "nltk") if task == "ifeval" else ()
    if missing := [name for name in ("lm_eval", *wanted) if find_spec(name) is None]:
        raise StageError(
            f"Knowledge tasks need {', '.join(missing)}; install with `pip install 'selfdistill[knowledge]'`."
        )
    if task == "ifeval":
        import nltk

        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:  # lm-eval would download it while it is imported, and fail long after where it can't
            raise StageError(
                "IFEval's checks need nltk's sentence splitter; get it with `python -m nltk.downloader punkt_tab`."
            ) from None


def _hub(harness: Harness) -> dict[str, Any]:
    """lm-eval's own definition; its folder alone is indexed, since all of them take ten seconds."""
    import lm_eval.tasks

    folder = Path(lm_eval.tasks.__file__).parent / harness.folder
    manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    return dict(manager.load([harness.task]))


def _local(harness: Harness, entry: TaskEntry) -> dict[str, Any]:
    """Our YAML over the file; for MMLU one task for each subject in it, weighed by size as in lm-eval's group."""
    from lm_eval.api.group import Group

    from .tasks.knowledge import mmlu_subjects

    path = str(Path(entry.path or "").expanduser())
    if harness.task != "mmlu":
        return _from_yaml(harness, path=path)
    weighed = {"metric": harness.metric, "weight_by_size": True}
    group = Group.from_config({"group": harness.task, "task": [], "aggregate_metric_list": [weighed]})
    shots = mmlu_shots(path)
    for subject in sorted(mmlu_subjects(path)):
        (part,) = _from_yaml(harness, path=path, subject=subject, shots=str(shots or ""))["tasks"].values()
        part.set_config("task", f"mmlu_{subject}")
        group.add(part)
    return {"tasks": {part.task_name: part for part in group.get_all_tasks()}, "groups": {group.name: group}}


def _from_yaml(harness: Harness, **arguments: str) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, metadata=arguments)
    return {"groups": {}, **manager.load([str(Path(harness.yamls) / f"{harness.task}.yaml")])}


def mmlu_shots(path: str) -> Path | None:
    """The few-shot examples that lie beside a local MMLU file, if they do."""
    beside = Path(path).expanduser().with_name("mmlu_dev.jsonl")
    return beside if beside.is_file() else None


def _set_shots(entry: TaskEntry, harness: Harness, parts: dict[str, Any]) -> int:
    """The number of few-shot examples: as in the recipe, else the task's. A local file brings none of its own: MMLU
    then takes those beside it or, where the recipe doesn't ask for any, none."""
    shots = harness.few_shot if entry.few_shot is None else entry.few_shot
    if entry.path:
        there = min(len(part.dataset.get("dev", ())) for part in parts.values())
        if entry.few_shot and entry.few_shot > there:
            where = "mmlu_dev.jsonl beside the file" if harness.task == "mmlu" else "the hub's training split alone"
            raise RecipeError(
                f"'{entry.name}' asks for {entry.few_shot} few-shot examples, and there are {there}: they come from "
                f"{where}; lower few_shot or leave it out."
            )
        shots = min(shots, there)
    for part in parts.values():
        if shots and part.get_config("num_fewshot") == 0:
            raise RecipeError(f"'{entry.name}' is defined without few-shot examples; leave few_shot out.")
        part.set_config("num_fewshot", shots)
        part.set_fewshot_seed(seed=_FEW_SHOT_SEED)
        if entry.max_new_tokens and part.OUTPUT_TYPE == "generate_until":
            part.set_config("generation_kwargs", {"max_gen_toks": entry.max_new_tokens}, update=True)
    return shots


def _dry_run(benchmark: Benchmark) -> None:
    """Grades an empty answer to each generative item, so that an item which can't be graded shows before a model is
    asked. Raises DataError."""
    for name, part in benchmark.parts.items():
        for index in benchmark.drawn[name] if part.OUTPUT_TYPE == "generate_until" else ():
            try:
                part.process_results(part.eval_docs[index], [""])
            except Exception as error:
                raise DataError(
                    f"{benchmark.entry.path or benchmark.harness.task}: the item at index {index} can't be graded "
                    f"({type(error).__name__}: {_first_line(error)}); mend its instructions and their arguments."
                ) from error


def open_lm(engine: str, model: ModelConfig, adapter: str | None, backend: Callable[[], Backend]) -> Any:
    """lm-eval's view of a model (an `lm_eval.api.model.LM`) in our layout. For `hf` the model that `backend()` holds,
    adapter and all, so that one load serves every task; for `vllm` an engine of lm-eval's own with `adapter`.

    Raises RecipeError for an engine that gives no log-likelihoods, ModelError where vLLM is missing.
    """
    if engine == "hf":
        return _hf(model, backend())
    if engine != "vllm":
        raise RecipeError(
            f"The backend '{engine}' gives no log-likelihoods, which lm-eval asks for; evaluate knowledge tasks with "
            f"{' or '.join(ENGINES)}."
        )
    if find_spec("vllm") is None:
        raise ModelError("The backend vllm needs vLLM; install it with `pip install vllm`.")
    return _vllm(model, adapter)


def _hf(model: ModelConfig, backend: Any) -> Any:
    import copy

    from lm_eval.models.huggingface import HFLM

    weights, renderer = backend.loaded()

    class ChatHFLM(HFLM):  # type: ignore[misc,unused-ignore]
        """HFLM with our layout, and batches as long as the token budget and the logits allow."""

        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history)

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            whole = self.max_length + 1  # the last token is scored, not read
            self.cut = len({key[0] for key, context, answer in requests if len(context) + len(answer) > whole})
            longest = max(len(context) + len(answer) for _, context, answer in requests)
            self._fit(longest, min(model.batch_tokens, _LOGITS // weights.config.get_text_config().vocab_size))
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            lengths = [len(self.tok_encode(r.args[0])) + r.args[1]["max_gen_toks"] for r in requests]
            self.cut = sum(length > self.max_length for length in lengths)
            self._fit(max(lengths), model.batch_tokens)
            return super().generate_until(requests, *args, **kwargs)

        def _fit(self, longest: int, budget: int) -> None:
            self.batch_size_per_gpu = max(1, budget // min(longest, self.max_length))

    with _quiet():
        # Of the tokenizer a copy, since HFLM sets its padding.
        return ChatHFLM(
            pretrained=weights,
            tokenizer=copy.deepcopy(renderer.tokenizer),
            add_bos_token=False,
            max_length=context_length(weights.config),
        )


def _vllm(model: ModelConfig, adapter: str | None) -> Any:
    from lm_eval.models.vllm_causallms import VLLM

    renderer = load_renderer(model)
    rank = json.loads((Path(adapter) / "adapter_config.json").read_text())["r"] if adapter else 0

    class ChatVLLM(VLLM):  # type: ignore[misc,unused-ignore]
        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history)

    with _quiet():
        return ChatVLLM(
            pretrained=model_source(model),
            revision=model.revision,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
            add_bos_token=False,
            lora_local_path=adapter,
            max_lora_rank=max(16, rank),
        )


def _render(renderer: Renderer, chat: list[dict[str, str]]) -> str:
    """A last assistant message is what the answer starts with, for lm-eval as for `Renderer`."""
    return renderer.text(messages_from_json(chat))


def evaluate(
    benchmark: Benchmark, lm: Any, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Score:
    """Asks `lm` (see `open_lm`) and grades; writes `answers.jsonl` and `verdicts.jsonl` to `folder`, a row for each
    item. Value and standard error are lm-eval's own, and the interval is value ± 1.96 standard errors.

    Raises StageError where the model's context has no room for an answer.
    """
    results = _ask(benchmark, lm, progress)
    answers, verdicts = [], []
    for name, part in benchmark.parts.items():
        for sample in results["samples"][name]:
            answer = _answer(benchmark, part, sample)
            answers.append({"id": content_id(name, sample["doc"]), **answer})
            verdicts.append(_verdict(benchmark, part, sample, answer["text"]))
    write_lines(folder / "answers.jsonl", answers)
    write_lines(folder / "verdicts.jsonl", (_graded(a["id"], v) for a, v in zip(answers, verdicts, strict=True)))
    details = {"few_shot": benchmark.few_shot, "cut_prompts": getattr(lm, "cut", 0)}
    return _score(benchmark, results["results"], verdicts, details)


def _ask(benchmark: Benchmark, lm: Any, progress: Callable[[int, int], None]) -> dict[str, Any]:
    import lm_eval.evaluator

    parts = benchmark.parts.values()
    for part in parts:
        room = part.get_config("generation_kwargs").get("max_gen_toks", 0) if _generates(part) else 0
        if room >= lm.max_length:
            raise StageError(
                f"'{benchmark.entry.name}' asks for answers of up to {room} tokens, and the model's context holds "
                f"{lm.max_length}; set a lower max_new_tokens for this task."
            )
    with _quiet(), _told(lm, benchmark, progress):
        # `samples`: lm-eval takes an empty list for all, which is why `parts` has none without items.
        found: dict[str, Any] = lm_eval.evaluator.evaluate(
            lm,
            {"tasks": benchmark.parts, "groups": benchmark.groups},
            samples=benchmark.drawn,
            bootstrap_iters=1,  # any number but 0: the means that are read here have a standard error in closed form
            system_instruction=benchmark.entry.system,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )
    return found


@contextmanager
def _told(lm: Any, benchmark: Benchmark, progress: Callable[[int, int], None]) -> Iterator[None]:
    """Progress by the hook that lm-eval calls with each answer, meant for its cache."""
    total = sum(
        1 if _generates(part) else len(part.doc_to_choice(part.eval_docs[index]))
        for name, part in benchmark.parts.items()
        for index in benchmark.drawn[name]
    )
    done = 0

    class Hook:
        def add_partial(self, *_: Any) -> None:
            nonlocal done
            done += 1
            progress(done, total)

    before = lm.cache_hook
    lm.set_cache_hook(Hook())
    try:
        progress(0, total)
        yield
    finally:
        lm.set_cache_hook(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval's log, prints and bars kept back, and the random numbers of its graders fixed: IFEval's checks draw some,
    and langdetect does. All as it was afterwards."""
    import numpy as np
    from tqdm import tqdm

    def without_bar(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **{**kwargs, "disable": True})

    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels, start, state = [logger.level for logger in loggers], tqdm.__init__, random.getstate()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    random.seed(0)
    tqdm.__init__ = without_bar
    try:
        with redirect_stdout(io.StringIO()), np.errstate(invalid="ignore"), _langdetect_seeded():
            yield
    finally:
        tqdm.__init__ = start
        random.setstate(state)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _langdetect_seeded() -> Iterator[None]:
    if find_spec("langdetect") is None:
        yield
        return
    from langdetect import DetectorFactory

    before, DetectorFactory.seed = DetectorFactory.seed, 0
    try:
        yield
    finally:
        DetectorFactory.seed = before


def _generates(part: Any) -> bool:
    return bool(part.OUTPUT_TYPE == "generate_until")


def _gold(part: Any, doc: Any) -> int:
    return int(part.doc_to_text(doc) if part.multiple_input else part.doc_to_target(doc))


def _answer(benchmark: Benchmark, part: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """What the model wrote, or the candidate it prefers by the metric, with the log-likelihood of each."""
    if _generates(part):
        return {"text": sample["filtered_resps"][0]}
    choices = [str(choice) for choice in part.doc_to_choice(sample["doc"])]
    sums = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
    means = [value / len(choice) for value, choice in zip(sums, choices, strict=True)]
    ranked = means if benchmark.harness.metric == "acc_norm" else sums
    best = max(range(len(choices)), key=ranked.__getitem__)
    return {"text": choices[best], "choices": choices, "log_likelihoods": sums}


def _verdict(benchmark: Benchmark, part: Any, sample: dict[str, Any], text: str) -> Verdict:
    """An item's metric as a verdict; one between 0 and 1 (mc2) passes from one half on, and keeps its value."""
    value = float(sample[benchmark.harness.metric])
    if _generates(part):
        kinds = zip(sample["doc"]["instruction_id_list"], sample["inst_level_strict_acc"], strict=True)
        broken = [kind for kind, followed in kinds if not followed]
        reason = f"breaks {broken[0]}" if broken else "follows all instructions"
        return Verdict("fail" if broken else "pass", reason)
    right = str(part.doc_to_choice(sample["doc"])[_gold(part, sample["doc"])])
    if math.isnan(value):  # mc2 where every candidate is so unlikely that its probability is 0 in floating point
        return Verdict("unjudged", "probabilities underflow", right, text)
    if benchmark.harness.task == "truthfulqa_mc2":
        if value >= 0.5:
            return Verdict("pass", "true answers likelier", right, text, value)
        return Verdict("fail", "false answers likelier", right, text, value)
    return Verdict("pass", "right choice", right, text) if value else Verdict("fail", "wrong choice", right, text)


def _graded(row_id: str, verdict: Verdict) -> dict[str, Any]:
    bucket = {"pass": "passed", "fail": "failed", "unjudged": "unjudged"}[verdict.outcome]
    return {"id": row_id, "bucket": bucket, "verdict": verdict.to_json()}


def _score(
    benchmark: Benchmark, results: dict[str, Any], verdicts: Sequence[Verdict], details: dict[str, float]
) -> Score:
    """lm-eval's value and standard error. Its own is not there for an item that couldn't be judged, or a subject of one
    item: then the same formulas over the items that could."""
    metric = benchmark.harness.metric
    found = results[benchmark.harness.task]
    value, error = found[f"{metric},none"], found[f"{metric}_stderr,none"]
    judged = [v.passed if v.value is None else v.value for v in verdicts if v.outcome != "unjudged"]
    if len(judged) < len(verdicts):
        value = sum(judged) / len(judged) if judged else None
    if error == "N/A" or math.isnan(error):
        error = stdev(judged) / math.sqrt(len(judged)) if len(judged) > 1 else math.inf
    others = {
        key.removesuffix(",none"): float(number)
        for key, number in found.items()
        if key.endswith(",none") and "_stderr" not in key and key != f"{metric},none"
    }
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    return Score(
        task=benchmark.entry.name,
        metric=benchmark.metric,
        value=None if value is None else float(value),
        low=None if value is None else max(0.0, float(value - Z95 * error)),
        high=None if value is None else min(1.0, float(value + Z95 * error)),
        n=len(verdicts),
        passed=outcomes["pass"],
        failed=outcomes["fail"],
        unjudged=outcomes["unjudged"],
        interval="lm-eval standard error",
        reasons=dict(Counter(v.reason for v in verdicts if not v.passed).most_common()),
        details={**details, **others, **({"stderr": float(error)} if math.isfinite(error) else {})},
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
