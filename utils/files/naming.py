"""Names of generated files: `{type}_{date}_{time}_{microseconds}_{parameters}`, ASCII, each once."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

LONGEST_WORD = 60
NO_WORD = "x"


class GenerationNames:
    """Gives every generation its own microsecond, even to those that begin within one."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def stem(self, generation_type: str, parameters: Sequence[str]) -> str:
        """A file name without extension, such as `tts_2026-11-22_201530_004211_temp0.75_seed42`. Times are UTC."""
        with self._lock:
            self._last = max(self._now(), self._last + timedelta(microseconds=1))
            moment = self._last
        return "_".join((generation_type, moment.strftime("%Y-%m-%d_%H%M%S_%f"), *parameters))


def word(text: str) -> str:
    """A text as it stands in a file name: ASCII letters, digits, `.`, `_` and hyphens; `NO_WORD` if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain)[:LONGEST_WORD].strip("-._") or NO_WORD


def number(value: float) -> str:
    """A number as it stands in a file name: 0.75, 1, 1.2."""
    return f"{value:g}"
