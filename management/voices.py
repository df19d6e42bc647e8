"""The voice library: recordings below `voices/` whose voices can be spoken with."""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resilience.errors import VoiceNotFound
from utils.files.paths import inside

FOLDER = "voices"
EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".opus")


@dataclass(frozen=True, slots=True)
class Voice:
    """A recording in the library. `relative` is its path below `voices/`; `content_hash` is SHA-256 in hex."""

    relative: str
    path: Path
    content_hash: str


class Voices:
    """Finds recordings by name."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / FOLDER
        self._root.mkdir(parents=True, exist_ok=True)
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Voice:
        """The voice at a path below `voices/`; its extension may be left out. Call it from a thread.

        Raises InvalidPath, and VoiceNotFound with close matches in its `detail`.
        """
        path = inside(self._root, name)
        spellings = (spelling for extension in EXTENSIONS for spelling in (extension, extension.upper()))
        candidates = [path, *(path.with_name(path.name + spelling) for spelling in spellings)]
        for candidate in candidates:
            if candidate.suffix.lower() in EXTENSIONS and candidate.is_file():
                return Voice(candidate.relative_to(self._root).as_posix(), candidate, self._content_hash(candidate))
        close = self.close_matches(name)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise VoiceNotFound(f"there is no voice named {name}{hint}", detail={"voice": name, "close_matches": close})

    def close_matches(self, name: str) -> list[str]:
        known = [path.relative_to(self._root).as_posix() for path in self._recordings()]
        by_stem = {Path(relative).with_suffix("").as_posix().lower(): relative for relative in known}
        wanted = Path(name).with_suffix("").as_posix().lower()
        return [by_stem[stem] for stem in difflib.get_close_matches(wanted, by_stem, n=3)]

    def _recordings(self) -> Iterator[Path]:
        return (path for path in sorted(self._root.rglob("*")) if path.suffix.lower() in EXTENSIONS)

    def _content_hash(self, path: Path) -> str:
        """SHA-256 of the file, read again only when its size or time of change is another."""
        status = path.stat()
        version = (status.st_size, status.st_mtime_ns)
        with self._lock:
            known = self._hashes.get(path)
        if known and known[0] == version:
            return known[1]
        with path.open("rb") as file:
            content_hash = hashlib.file_digest(file, "sha256").hexdigest()
        with self._lock:
            self._hashes[path] = (version, content_hash)
        return content_hash
