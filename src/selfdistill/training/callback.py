"""Measure forgetting while a model trains, and hold it to a budget. For any script with a transformers or TRL trainer:

    trainer = SFTTrainer(...)
    trainer.add_callback(ForgettingCallback(trainer, kl=0.05, probes=0.03, every=50))
    trainer.train()

The seed answers the probes before the first step. At a check, one pass over these answers yields KL(seed ‖ tuned), and
shows which of the tuned model's greedy answers are the same; only the other probes are asked again, if they
are enough to exceed the budget.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.batches import TokenRow, to_row
from ..backends.hf import HFBackend
from ..errors import RecipeError, StageError
from ..measure.scores import grade, values
from ..measure.shift import Sample
from ..measure.shift.kl import divergences, standard_error
from ..models.loading import context_length
from ..models.renderer import Renderer
from ..recipe import ModelConfig, Sampling
from ..recipe.budget import Budget
from ..types import Completion
from .watched_model import WatchedModel, answering
from .watched_probes import probes_of

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback

_log = logging.getLogger(__name__)
_FILE = "forgetting.pt"
_BOUND = 1.645  # standard errors: one side of 95 %
_FLOOR = 0.15


@dataclass(frozen=True)
class Check:
    """What a check found. `kl` is the mean in nats per token and `kl_bound` its upper 95 % bound over the prompts.
    `changed` is the share of probes with another greedy answer. `probes` is the seed's mean score on the probes minus
    the tuned model's; None if they were not asked, because the KL divergence was over the budget already, or because
    too few of the seed's right answers changed to be over the budget."""

    step: int
    kl: float
    kl_bound: float
    changed: float
    probes: float | None = None

    def over(self, budget: Budget) -> str | None:
        """The figure that is over the budget, in words; None if the check is within it."""
        if budget.kl is not None and not self.kl_bound <= budget.kl:  # NaN is over the budget too
            return f"kl {self.kl:.3f} (95 % bound {self.kl_bound:.3f})"
        if budget.probes is not None and self.probes is not None and self.probes > budget.probes:
            return f"probes {self.probes:.3f}"
        return None


class Forgetting:
    """A transformers.TrainerCallback that measures KL(seed ‖ tuned) and the loss on probes every few steps, logs both
    through the trainer, and holds the training to a budget.

    `trainer` is the trainer that gets the callback; with PEFT the seed is the model without its adapters. The other
    arguments are those of `recipe.budget.Budget`, such as `kl`, `probes`, `every` and `action`. If a check is over the
    budget, `stop` ends the training, and `keep` goes on to the last step; in both cases the trainer's weights at the
    end are those of the last check within the budget, which are held in main memory. `checks` lists what was found,
    `kept` is the step of the weights, and `exceeded` says at which step the budget was exceeded, and by what.

    Raises RecipeError (settings that do not fit) and, on a resume without the callback's file, StageError.
    """

    def __init__(
        self, trainer: Any, *, renderer: Renderer | None = None, model: ModelConfig | None = None, **settings: Any
    ) -> None:
        try:
            self.budget = Budget(**settings)
        except ValueError as error:
            raise RecipeError(f"ForgettingCallback: {error}") from error
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise RecipeError(
                "A budget needs the whole model in each process, and FSDP and DeepSpeed distribute it; train with DDP "
                "(train.launch.processes), or leave the budget out."
            )
        if trainer.args.load_best_model_at_end:
            raise RecipeError(
                "load_best_model_at_end would replace the weights that are within the budget; turn it off, or leave "
                "the budget out."
            )
        self._trainer, self._renderer = trainer, renderer or _renderer_of(trainer)
        self._config = model or ModelConfig(path=getattr(trainer.model, "name_or_path", "") or "model")
        self.checks: list[Check] = []
        self.kept, self.exceeded = 0, ""
        self._weights: dict[str, torch.Tensor] = {}

    def summary(self) -> dict[str, Any]:
        """For train.json: `checks`, the step `kept`, and `stopped`: a sentence part, or None if the budget held."""
        stopped = f"budget {self.exceeded}" if self.exceeded else None
        checks = [asdict(check) for check in self.checks]
        return {"stopped": stopped, "action": self.budget.action, "kept": self.kept, "checks": checks}

    # ---- events of the trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = self._saved(Path(args.output_dir), state.global_step) if state.global_step else None
        self._watched = WatchedModel(
            self._trainer.accelerator.unwrap_model(self._trainer.model), self._renderer, self._config
        )
        with answering(self._watched.tuned):
            self._ask_seed(saved)
        if saved is None:
            self._keep(0)
            return
        self.checks = [Check(**check) for check in saved["checks"]]
        self.exceeded = saved["exceeded"]
        self._keep(saved["kept"], saved["weights"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        if not self.budget.checked(step, state.max_steps):
            return
        with answering(self._watched.tuned):
            check = self._check(step)
            named = {f"forgetting/{name}": value for name, value in asdict(check).items() if name != "step"}
            self._trainer.log(
                {name: value for name, value in named.items() if value is not None}
            )  # not in training mode, in which TRL would add the step's own figures
        self.checks.append(check)
        reason = _of_first_process(check.over(self.budget))
        if reason is None:
            self._keep(step)
            return
        self.exceeded = self.exceeded or f"{reason} at step {step}"
        if self.budget.action == "stop":
            self._restore(step)
            control.should_training_stop, control.should_save = True, False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import torch

        if not state.is_world_process_zero:
            return
        own = self.kept == state.global_step  # then the checkpoint itself holds the weights
        torch.save(
            {
                "checks": [asdict(check) for check in self.checks],
                "exceeded": self.exceeded,
                "kept": self.kept,
                "weights": {} if own else self._weights,
                "answers": [answer.to_json() for answer in self._answers.values()],
                "logits": {} if self._watched.has_seed else self._watched.cached,
            },
            Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE,
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.budget.action == "keep" and self.kept != state.global_step and self.exceeded:
            self._restore(state.global_step)

    # ---- weights

    def _trained(self) -> Iterator[tuple[str, Any]]:
        return ((name, each) for name, each in self._watched.tuned.named_parameters() if each.requires_grad)

    def _keep(self, step: int, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        self.kept = step
        self._weights = dict(weights or {name: each.detach().to("cpu", copy=True) for name, each in self._trained()})

    def _restore(self, step: int) -> None:
        import torch

        with torch.no_grad():
            for name, each in self._trained():
                each.copy_(self._weights[name])
        ended = "stopped" if self.budget.action == "stop" else f"ended at step {step}"
        _log.warning(
            "The training %s: budget %s. Its weights are those of step %d%s.", ended, self.exceeded, self.kept,
            "" if self.kept else ", untrained; lower the learning rate, raise the budget or check more often",
        )  # fmt: skip

    @staticmethod
    def _saved(folder: Path, step: int) -> dict[str, Any]:
        import torch

        path = folder / f"checkpoint-{step}" / _FILE
        try:
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise StageError(
                f"{path} is missing, so forgetting can't be measured against the seed; start the training over, or "
                "leave the budget out."
            ) from None
        return found

    # ---- measuring

    def _ask_seed(self, saved: Mapping[str, Any] | None) -> None:
        """The seed's answers to the probes and their scores. Saved answers are taken if there are any."""
        probes, left_out = probes_of(self.budget)
        context = context_length(self._watched.tuned.config)
        self._probes, self._rows, unasked = {}, dict[str, TokenRow](), 0
        for probe in probes:
            prompt, sampling = probe.prompt, Sampling(max_new_tokens=probe.limit)
            row = to_row(prompt, self._renderer, sampling, context)
            if isinstance(row, TokenRow):
                self._probes[probe.item.id], self._rows[row.id] = probe, row
            else:
                unasked += 1
        if not self._rows:
            raise StageError("The model's context has no room for any probe; leave the budget out.")
        if saved is None:
            with self._watched.seed():
                self._answers = self._answer(self._rows)
            if not self._answers:
                raise StageError(
                    f"The seed answered none of the {len(self._rows)} probes; lower train.micro_batch_size or "
                    "model.batch_tokens, or leave the budget out."
                )
        else:
            read = map(Completion.from_json, saved["answers"])
            self._answers, self._watched.cached = {answer.id: answer for answer in read}, saved["logits"]
        self._samples = [Sample(self._probes[key].prompt, answer) for key, answer in self._answers.items()]
        self._scores = self._graded(self._answers)
        if not self._watched.has_seed and saved is None:
            list(divergences(self._watched, self._samples))  # fills the cache
        self._watched.started = True
        score = sum(self._scores.values()) / max(len(self._scores), 1)
        _log.info("%d probes, of which the seed answers %.0f %% right.", len(self._rows), 100 * score)
        if left_out or unasked:
            _log.info("Not asked while training: %s; %d prompts don't fit.", ", ".join(left_out) or "no task", unasked)
        if self.budget.probes is not None and score < _FLOOR:
            _log.warning(
                "The seed answers only %.0f %% of the probes right, so they can't show much forgetting; set "
                "budget.step to easy, or rely on kl.", 100 * score,
            )  # fmt: skip

    def _check(self, step: int) -> Check:
        found = list(divergences(self._watched, self._samples))
        totals, positions = [each.total for each in found], [float(each.positions) for each in found]
        kl = sum(totals) / max(sum(positions), 1)
        bound = kl + _BOUND * (standard_error(totals, positions) or 0.0)
        same = {each.id for each in found if each.follows}
        changed = {key: row for key, row in self._rows.items() if key not in same}
        check = Check(step, kl, bound, len(changed) / len(self._rows))
        if self.budget.probes is None or check.over(self.budget):
            return check
        at_risk = sum(self._scores.get(key, 0.0) for key in changed)
        if at_risk <= self.budget.probes * len(self._scores):
            return check
        answers = {key: answer for key, answer in self._answers.items() if key not in changed}
        scores = self._graded(answers | self._answer(changed))
        shared = scores.keys() & self._scores.keys()
        lost = sum(self._scores[key] - scores[key] for key in shared) / max(len(shared), 1)
        return replace(check, probes=lost)

    def _answer(self, rows: Mapping[str, TokenRow]) -> dict[str, Completion]:
        """The model's greedy answers. A probe whose answer fails is left out, with a warning."""
        if not rows:
            return {}
        backend = HFBackend.on(self._config, self._watched.tuned, self._renderer)
        answers = list(backend.continue_rows(list(rows.values()), Sampling()))
        if failed := [answer.error for answer in answers if answer.finish == "error"]:
            _log.warning(
                "%d of %d asked probes got no answer (%s), and are left out.", len(failed), len(rows), failed[0]
            )
        return {answer.id: answer for answer in answers if answer.finish != "error"}

    def _graded(self, answers: Mapping[str, Completion]) -> dict[str, float]:
        written = {key: answer.to_json() for key, answer in answers.items()}
        graded = (row for probe in self._probes.values() for row in grade(probe.task, [probe.item], written))
        return {key: value for (key, _), value in values(graded).items()}


def _renderer_of(trainer: Any) -> Renderer:
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    stop = getattr(trainer.model.generation_config, "eos_token_id", None)
    return Renderer(tokenizer, stop_ids=stop if isinstance(stop, list) else [] if stop is None else [stop])


def _of_first_process(reason: str | None) -> str | None:
    """What the first process decided: rounding may differ between devices, and all processes must stop together."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return reason
    shared = [reason]
    torch.distributed.broadcast_object_list(shared, 0)
    return shared[0]


if TYPE_CHECKING:

    class ForgettingCallback(Forgetting, TrainerCallback):
        """See `Forgetting`."""


def __getattr__(name: str) -> Any:
    """`ForgettingCallback`, whose base class is imported late."""
    if name != "ForgettingCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transformers import TrainerCallback

    globals()[name] = type(name, (Forgetting, TrainerCallback), {"__doc__": Forgetting.__doc__})
    return globals()[name]
