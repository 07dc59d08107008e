"""Errors that a user can cause. Each message is one sentence and the next step; the command shows it and exits 2."""


class SelfDistillError(Exception):
    """Base of every error that is the user's to mend. `cli` prints it without a traceback."""


class RecipeError(SelfDistillError):
    """The recipe is not usable: an unknown key, a wrong type, a value out of range."""


class DataError(SelfDistillError):
    """The data is missing, empty, or holds rows that can't be read."""


class ModelError(SelfDistillError):
    """The model can't be loaded or is no chat model."""


class RenderError(SelfDistillError):
    """The chat template refuses a conversation, or a response can't be trained without loss of its text."""


class ExperimentError(SelfDistillError):
    """The experiment's directory can't be used: locked, made with other settings, damaged, not writable."""


class StageError(SelfDistillError):
    """A stage stopped for a reason that the user decides about, for example too few accepted rewrites."""


class InterruptedRunError(SelfDistillError):
    """The user pressed Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("Stopped: what was done is kept, and the same command goes on from there.")
