"""Uploads a run's model, and on request its rewrites, to the Hugging Face hub. An upload that broke is completed by the
same command: what is on the hub already is not sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ExperimentError, HubError, first_line
from ..reports.cards import Shared, on_hub
from ..store.experiment import CARD, Experiment
from ..store.rows import write_text
from .context import Context, Run, make_context
from .evaluate import grade_stage
from .heldout_loss import has_likelihoods, loss_stage, loss_tasks
from .train import train_stage

_KINDS = ("model", "dataset", "space")


@dataclass(frozen=True)
class Upload:
    """Files (name → bytes) of a folder, and the repository that gets them. `card` is the text of its README.md.
    `warnings` are sentences about what others can't use."""

    kind: Literal["model", "dataset"]
    repo: str
    folder: Path
    files: Mapping[str, int]
    card: str
    warnings: tuple[str, ...] = ()


def plan_uploads(experiment: Experiment, arm: str, repo: str, dataset: str | None = None) -> list[Upload]:
    """The uploads of an arm's (or a run's) model, and of the rewrites if `dataset` names a repository for them. Asks
    no server. Raises ExperimentError (no such arm, no model, not evaluated, changed files) and HubError (names)."""
    context = make_context(experiment.recipe, experiment.date, experiment.manifest.get("sources"))
    experiment = experiment.read_only()
    run = _run_named(context, arm)
    _check_finished(experiment, context, run)
    for name in filter(None, (repo, dataset)):
        _check_name(name)
    if dataset == repo:
        raise HubError(f"{repo} is the name of the model; give --dataset another name.")
    verdict = json.loads(experiment.path("verdict.json").read_text(encoding="utf-8"))
    shared = Shared(experiment.directory, context.recipe, verdict, experiment.manifest)
    model = experiment.path("arms", run.name, "model")
    card = shared.model_card(run.name, repo)
    uploads = [Upload("model", repo, model, _files(model, card), card, tuple(_hard_to_load(context, model)))]
    if dataset:
        rewrites = shared.rewrites
        if rewrites is None:
            raise ExperimentError(f"{experiment.directory} holds no rewrites; leave out --dataset.")
        said = "It holds the prompts and the original responses of your data, as well as the rewrites."
        text = shared.dataset_card(dataset)
        sizes = {rewrites.name: rewrites.stat().st_size, CARD: len(text.encode())}
        uploads.append(Upload("dataset", dataset, rewrites.parent, sizes, text, (said,)))
    return uploads


def push(upload: Upload, private: bool = False) -> str:
    """Creates the repository if it is not there, and uploads the files. Returns its address. Raises HubError."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("The hub's libraries are offline (HF_HUB_OFFLINE is set); unset it and push again.")
    if get_token() is None:
        raise HubError("You are not logged in to the hub; run `hf auth login`, or set HF_TOKEN, and push again.")
    api = HfApi()
    with _clear_errors(upload.repo):
        if not api.repo_exists(upload.repo, repo_type=upload.kind):
            for other in _KINDS:
                if other != upload.kind and api.repo_exists(upload.repo, repo_type=other):
                    raise HubError(f"{upload.repo} is a {other} on the hub, not a {upload.kind}; choose another name.")
        url = api.create_repo(upload.repo, repo_type=upload.kind, private=private or None, exist_ok=True)
        if private and not api.repo_info(upload.repo, repo_type=upload.kind).private:
            raise HubError(
                f"{upload.repo} is on the hub already and is public; make it private in its settings, or choose "
                "another name."
            )
        write_text(upload.folder / CARD, upload.card)
        api.upload_folder(
            repo_id=upload.repo,
            repo_type=upload.kind,
            folder_path=upload.folder,
            allow_patterns=list(upload.files),
            commit_message=f"Upload {upload.kind} with selfdistill",
        )
    return str(url)


def _run_named(context: Context, name: str) -> Run:
    """The run of this name, or the first run of the arm."""
    runs = [run for run in context.runs.values() if name in (run.name, run.arm)]
    if not runs:
        raise ExperimentError(f"There is no arm {name}; the recipe has {', '.join(context.recipe.arms)}.")
    run = next((run for run in runs if run.name == name), runs[0])
    if run.is_seed:
        trained = ", ".join(own.arm for own in context.runs.values() if not own.is_seed)
        raise ExperimentError(f"The arm {name} is the untrained model, which is not pushed; name another: {trained}.")
    return run


def _check_finished(experiment: Experiment, context: Context, run: Run) -> None:
    """Raises ExperimentError if the run has no model, a changed model, or no score on a task."""
    training = train_stage(context, run)
    folder = experiment.path("arms", run.name, "model")
    if training is None or not experiment.finished(training) or not folder.is_dir():
        raise ExperimentError(
            f"The arm {run.name} has no model yet; `selfdistill train {experiment.directory} --arm {run.arm}` trains "
            "it."
        )
    experiment.check_files(training)
    graded = {task.name: grade_stage(context, run, task) for task in context.tasks.values()}
    losses = loss_tasks(context) if has_likelihoods(context) else []
    graded |= {f"{task.name} (loss)": loss_stage(context, run, task) for task in losses}
    left = [name for name, stage in graded.items() if stage and not experiment.finished(stage)]
    if left or not experiment.path("verdict.json").is_file():
        what = f"{run.name} has no score on {', '.join(left)}" if left else "there is no verdict"
        raise ExperimentError(
            f"The run is not finished: {what}. `selfdistill evaluate {experiment.directory}` finishes it; then push "
            "again."
        )


def _files(folder: Path, card: str) -> dict[str, int]:
    """The sizes of the folder's files in bytes, without what was put aside."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in found
        if path.suffix not in (".damaged", ".partial")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    return {**sizes, CARD: len(card.encode())}


def _hard_to_load(context: Context, folder: Path) -> Iterator[str]:
    base = context.recipe.model.path
    if (folder / "adapter_config.json").is_file() and not on_hub(base):
        yield (
            f"The adapter needs its base model, which is a local file ({base}): others can't load it, and "
            "adapter_config.json names this path. Set model.path to a name of the hub for a new run, or set "
            "base_model_name_or_path in adapter_config.json on the hub."
        )


def _check_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise HubError(f"{name} can't be the name of a repository ({first_line(error)}); write org/name.") from None
    if "/" not in name:
        raise HubError(f"{name} names no owner; write org/name, such as your-name/{name}.")


@contextmanager
def _clear_errors(repo: str) -> Iterator[None]:
    """Turns errors of the hub and of the network into sentences."""
    from huggingface_hub.errors import HfHubHTTPError

    again = "push again: files that arrived are not sent again"
    try:
        yield
    except HubError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        why = first_line(error)
        if status == 401:
            why = "it does not accept your token; run `hf auth login`, or set HF_TOKEN"
        elif status == 403:
            why = f"your account or token may not write to {repo}; choose another owner, or a token that may write"
        raise HubError(f"The hub refused the upload to {repo} ({why}); then {again}.") from error
    except Exception as error:  # the HTTP library of the hub's client differs between its versions
        raise HubError(
            f"The upload to {repo} broke off ({first_line(error)}); check the network and {again}."
        ) from error
