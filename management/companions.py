"""The JSON files beside recordings: what each library writes there, and how what people made of it is read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from management.stored import Description, is_audio
from resilience.errors import InvalidPath
from utils.audio.analysis import AudioFacts
from utils.files.paths import relative_parts

logger = logging.getLogger(__name__)

COMPANION_LIMIT = 16 << 20  # bytes; what is larger was not written by us
READ_AT_ONCE = 1 << 20
DEEPEST = 20
FIRST_YEAR, LAST_YEAR = 1980, 2100  # of the times in companions; what else is there is a slip
MOST = 1e9  # of seconds, hertz, channels: what is more was not measured


class Companions(ABC):
    """A library's way with companions: `<file>.json` beside each recording, unless it says otherwise."""

    library: str
    judges = False  # whether the quality of recordings is measured

    def path(self, audio: Path) -> Path:
        """The companion of a recording."""
        return audio.with_name(f"{audio.name}.json")

    def describes(self, companion: str) -> str | None:
        """The audio file that a companion of this name belongs to, or its stem if there are several; None if none."""
        name = companion.removesuffix(".json")
        return name if is_audio(name) else None

    @abstractmethod
    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        """What the companion says of the recording, which it need not say in the way that we write it."""


def recorded_in(content: Mapping[str, Any], filename: str) -> Mapping[str, Any] | None:
    """What a companion says was heard in the file: under `audio`, or in `files` where it has several."""
    audio = content.get("audio")
    listed = _files_of(content) or ([audio] if isinstance(audio, dict) else [])
    return next((file for file in listed if file.get("filename", filename) == filename), None)


def named_in(content: Mapping[str, Any]) -> list[str]:
    """The file names in a companion of several files. It may be anybody's: no name leads elsewhere."""
    names = [file.get("filename") for file in _files_of(content)]
    return [name for name in names if isinstance(name, str) and _is_name(name)]


def _is_name(name: str) -> bool:
    try:
        return len(relative_parts(name)) == 1
    except InvalidPath:
        return False


def _files_of(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    files = content.get("files")
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def record(facts: AudioFacts, hexdigest: str, status: os.stat_result) -> dict[str, Any]:
    """A recording as companions tell of it: enough to know it again, and not to have to listen again."""
    return {
        "size_bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "content_hash": hexdigest,
        "duration_s": facts.duration_s,
        "sample_rate": facts.sample_rate,
        "channels": facts.channels,
        "format": facts.format,
        "loudness_lufs": facts.loudness_lufs,
        "peak_dbfs": facts.peak_dbfs,
    }


def moment(value: Any, otherwise: datetime) -> datetime:
    """The time that a companion gives, in UTC."""
    with suppress(TypeError, ValueError, OverflowError):
        parsed = datetime.fromisoformat(value)
        parsed = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        if FIRST_YEAR <= parsed.year <= LAST_YEAR:
            return parsed
    return otherwise


def texts(value: Any) -> list[str]:
    """The texts of a list, without repetitions; a text with commas is one too, which is how people write it."""
    listed = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return list(dict.fromkeys(text.strip() for text in listed if isinstance(text, str) and text.strip()))


def modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def is_same(path: Path, recorded: Mapping[str, Any], *, by_content: bool = False) -> bool:
    """True if the file is the one that was recorded: by size and time, or else (or at once) by its content."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if recorded.get("size_bytes") != status.st_size:
        return False
    if recorded.get("modified_ns") == status.st_mtime_ns and not by_content:
        return True
    return recorded.get("content_hash") == content_hash(path)


def content_hash(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file, in hex. `check` is called between blocks and may raise to leave."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_AT_ONCE):
            check()
            digest.update(block)
    return digest.hexdigest()


def facts_in(recorded: Mapping[str, Any]) -> AudioFacts | None:
    """What was recorded, if it is all there and of the right kinds: companions are edited by people."""
    duration_s, sample_rate, channels = (_number(recorded, key) for key in ("duration_s", "sample_rate", "channels"))
    kind, hexdigest = recorded.get("format"), recorded.get("content_hash")
    if not duration_s or not sample_rate or not channels or min(duration_s, sample_rate, channels) < 0:
        return None
    if not isinstance(kind, str) or not isinstance(hexdigest, str):
        return None
    levels = _number(recorded, "loudness_lufs"), _number(recorded, "peak_dbfs")
    return AudioFacts(duration_s, int(sample_rate), int(channels), kind, *levels)


def _number(recorded: Mapping[str, Any], key: str) -> float | None:
    value = recorded.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < MOST else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a companion; None for what is not there or is none, which must not break a library."""
    try:
        if path.stat().st_size > COMPANION_LIMIT:
            raise ValueError("it is too large")
        raw = path.read_bytes()
        content = json.loads(raw, parse_constant=_finite, parse_float=_finite)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        if is_deep(content):
            raise ValueError("it is nested too deep")
        if b"\\u" in raw:
            json.dumps(content, ensure_ascii=False).encode()  # halves of characters can be written, but not stored
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("companion not readable name=%a reason=%s", path.name, error)
        return None
    return content


def is_deep(value: Any, most: int = DEEPEST) -> bool:
    """True for JSON that has more in each other than anybody needs, and answers can carry."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most == 0 or any(is_deep(one, most - 1) for one in inner if isinstance(one, (dict, list)))


def _finite(number: str) -> float:
    """JSON has no NaN and no infinity, and neither have our answers. Raises ValueError."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no number")
    return value


def as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode("utf-8", "backslashreplace")
