"""Where Chatterbox's weights are, or why they cannot be had, found out within a bounded time."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from importlib.util import find_spec
from urllib.parse import urlsplit

REPOSITORY = "ResembleAI/chatterbox"
MARKER_FILE = "t3_cfg.safetensors"  # the largest of the files: a cache without it is of no use


def why_unavailable(hub_timeout_s: float) -> str | None:
    """A sentence on why Chatterbox cannot speak here, or None if its weights are here or can be fetched.

    Looks at what is installed, then at the hub's cache, then whether the hub answers, which takes `hub_timeout_s`
    seconds at most. (`huggingface_hub` itself tries for 23 s before it gives up.)
    """
    if find_spec("chatterbox") is None or find_spec("huggingface_hub") is None:
        return "the package chatterbox-tts is not installed"
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(REPOSITORY, MARKER_FILE), str):
        return None
    if constants.HF_HUB_OFFLINE:
        return "its weights are not in the Hugging Face cache, and HF_HUB_OFFLINE forbids fetching them"
    if not _answers(constants.ENDPOINT, hub_timeout_s):
        return f"its weights are not in the Hugging Face cache, and the hub did not answer within {hub_timeout_s:g} s"
    return None


def _answers(endpoint: str, timeout_s: float) -> bool:
    """True if a connection can be opened in time. The look-up of the name, which has no time limit, counts too."""
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    answer: Future[None] = Future()

    def connect() -> None:
        try:
            socket.create_connection((address.hostname, port), timeout=timeout_s).close()
            answer.set_result(None)
        except OSError as error:
            answer.set_exception(error)

    threading.Thread(target=connect, daemon=True, name="hub-probe").start()
    try:
        answer.result(timeout_s)
    except (OSError, TimeoutError):
        return False
    return True
