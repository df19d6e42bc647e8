"""Bytes from the hub into a file: resumed where a connection broke, counted, given up when nothing comes any more.

`hf_hub_download` is not used for this. Since huggingface_hub 1.0 it starts over in each call, it counts in steps of
10 MiB, and with hf_xet neither a wait nor a cancellation can be bounded (upstream's own loader switches Xet off when it
fails).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from engines.base import LoadProgress
from resilience.errors import ModelUnavailable

TRY_AGAIN_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
RANGE_NOT_SATISFIABLE = 416
WAIT_SLICE_S = 0.2  # a cancelled download leaves its pause after this long
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on without a byte, and how long to pause after a failure: twice as long after each in a row."""

    stall_s: float = 60.0
    pause_s: float = 1.0
    longest_pause_s: float = 15.0
    longest_silence_s: float = 10.0  # before a connection is taken for broken and opened anew


class Trials:
    """The failures in a row of one piece of work, which ends when nothing has come for `stall_s` seconds."""

    def __init__(self, doing: str, patience: Patience, check: Callable[[], None]) -> None:
        self._doing = doing
        self._patience = patience
        self._check = check
        self.came()

    def came(self) -> None:
        """Something did come: start counting anew."""
        self._last = time.monotonic()
        self._pause_s = self._patience.pause_s

    def failed(self, error: Exception | None) -> None:
        """Pause before the next try, or raise ModelUnavailable if it has been too long."""
        if time.monotonic() - self._last >= self._patience.stall_s:
            raise ModelUnavailable(
                f"{self._doing} stopped: nothing came from the hub for {self._patience.stall_s:g} s"
            ) from error
        until = time.monotonic() + self._pause_s
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, WAIT_SLICE_S))
        self._pause_s = min(2 * self._pause_s, self._patience.longest_pause_s)


class Meter:
    """Counts the bytes of several files as one whole and reports at most once a second. What it reports never falls."""

    def __init__(self, bytes_total: int, report: Callable[[LoadProgress], None]) -> None:
        self._total = bytes_total
        self._report = report
        self._finished = 0
        self._best = 0
        self._doing = ""
        self._next_report = 0.0
        self._history: deque[tuple[float, int]] = deque(maxlen=10)  # of the last seconds: (when, bytes received)
        self._received = 0

    def begin(self, name: str) -> None:
        self._doing = f"fetching {name}"

    def at(self, bytes_of_file: int, received: int = 0) -> None:
        """The current file is there up to `bytes_of_file`, of which the last `received` came just now."""
        self._received += received
        self._best = max(self._best, self._finished + bytes_of_file)
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + TICK_S
            self._history.append((now, self._received))
            self._tell()

    def end(self, bytes_of_file: int) -> None:
        self._finished += bytes_of_file
        self._best = max(self._best, self._finished)
        if self._finished >= self._total:
            self._tell()

    def _tell(self) -> None:
        self._report(LoadProgress(self._doing, self._best, self._total, self._eta_s()))

    def _eta_s(self) -> float | None:
        if len(self._history) < 2:
            return None
        (since, before), (now, received) = self._history[0], self._history[-1]
        rate = (received - before) / (now - since)
        return None if rate <= 0 else (self._total - self._best) / rate


def is_passing(error: Exception) -> bool:
    """True for a failure that may be gone in a second: a broken connection, a hub that is busy."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRY_AGAIN_STATUSES
    return isinstance(error, httpx.TransportError)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What fetching several files has in common. `check` is called for every block and in every pause; it may raise."""

    meter: Meter
    check: Callable[[], None]
    connect_timeout_s: float
    patience: Patience

    def receive(self, name: str, url: str, size: int, path: Path) -> None:
        """Fetch what `path` still lacks of the `size` bytes at `url`; what is there is kept whatever happens.

        Raises ModelUnavailable when nothing comes any more, HfHubHTTPError for an answer that will not change, OSError
        if the file cannot be written.
        """
        trials = Trials(f"fetching {name}", self.patience, self.check)
        while (there := path.stat().st_size if path.exists() else 0) != size:
            error: Exception | None = None
            try:
                self._append(url, min(there, size), path, trials)
            except (HfHubHTTPError, httpx.TransportError) as failure:
                if not is_passing(failure):
                    raise
                error = failure
            if not path.exists() or path.stat().st_size != size:
                trials.failed(error)

    def _append(self, url: str, there: int, path: Path, trials: Trials) -> None:
        """One connection: write what comes behind the first `there` bytes, or all of it if the hub sends all."""
        silence_s = min(self.patience.longest_silence_s, self.patience.stall_s)
        timeout = httpx.Timeout(silence_s, connect=self.connect_timeout_s)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
        # The hub's own address each time, not the one it redirects to: that is signed and expires within the hour.
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code == RANGE_NOT_SATISFIABLE:
                path.unlink(missing_ok=True)  # it is another file than the hub's: start over
                return
            hf_raise_for_status(response)
            is_rest = response.status_code == httpx.codes.PARTIAL_CONTENT
            position = there if is_rest else 0
            with path.open("ab" if is_rest else "wb") as file:
                for block in response.iter_bytes():
                    self.check()
                    file.write(block)
                    trials.came()
                    position += len(block)
                    self.meter.at(position, len(block))
