"""Errors that a user can cause. Each message says what is wrong and what to do next; the command prints it and exits
with code 2. An interruption ends in the same way, with code 130."""


class SelfDistillError(Exception):
    """Base of all errors that the user can fix. `cli` prints them without a traceback."""


class RecipeError(SelfDistillError):
    """The recipe can't be used: an unknown key, a wrong type, a value out of range."""


class DataError(SelfDistillError):
    """The data is missing or empty, or some of its rows can't be read."""


class ModelError(SelfDistillError):
    """The model can't be loaded or is not a chat model."""


class RenderError(SelfDistillError):
    """The chat template refuses a conversation, or a response can't be trained without loss of its text."""


class ExperimentError(SelfDistillError):
    """The experiment's directory can't be used: it is locked, damaged, not writable, or has other settings."""


class StageError(SelfDistillError):
    """A stage stopped because the user has to decide something, for example about too few accepted rewrites."""


class HubError(SelfDistillError):
    """The Hugging Face hub can't be reached, or refuses an upload."""


class InterruptedRunError(SelfDistillError):
    """The user pressed Ctrl-C. This is not an error: the command prints the text as it is, and exits with 130. `kept`
    is a sentence on what is saved, `following` what to do next."""

    def __init__(self, kept: str, following: str) -> None:
        super().__init__(f"Stopped. {kept} {following}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none, for use within a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
