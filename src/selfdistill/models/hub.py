"""Whether the Hugging Face hub can be reached. Its libraries try each file again for half a minute; here the hub is
asked once, and if it does not answer, its libraries read their caches only."""

from __future__ import annotations

import logging
import os
import sys
import time
from threading import Thread

from ..errors import first_line

_log = logging.getLogger(__name__)
_TIMEOUT = 5  # seconds
_AGAIN = 300  # seconds after which a hub that did not answer is asked again
_answers: dict[str, tuple[bool, float]] = {}  # of each endpoint: whether it answered, and when


def ask_hub() -> None:
    """Call it before each use of the hub. If the hub does not answer, its libraries are offline for five minutes, and a
    warning is logged. Does nothing if the user set HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    endpoint = constants.ENDPOINT
    answered, when = _answers.get(endpoint, (False, 0.0))
    if answered or (when and time.monotonic() - when < _AGAIN):
        return
    if when:
        _set_offline(False)
    elif constants.HF_HUB_OFFLINE:
        return
    problem = _problem(endpoint)
    _answers[endpoint] = problem is None, time.monotonic()
    if problem is not None:
        _set_offline(True)
        _log.warning("%s can't be reached (%s), so only what was downloaded before is used.", endpoint, problem)


def _problem(endpoint: str) -> str | None:
    """Why the hub does not answer; None if it does. A thread waits for it: looking up a name knows no timeout."""
    from huggingface_hub import get_session

    found: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(endpoint, timeout=_TIMEOUT).status_code
            found.append(f"status {status}" if status >= 500 else None)
        except Exception as error:  # the HTTP library of the hub's client differs between its versions
            found.append(first_line(error))

    thread = Thread(target=ask, daemon=True, name="hub")
    thread.start()
    thread.join(_TIMEOUT)
    return found[0] if found else f"no answer in {_TIMEOUT} s"


def _set_offline(offline: bool) -> None:
    """Turns the offline mode of the hub's libraries on or off, here and in processes that are started from here."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    else:
        os.environ.pop("HF_HUB_OFFLINE", None)
