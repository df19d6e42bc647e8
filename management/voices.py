"""The voice library: recordings below `voices/` whose voices can be spoken with."""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        self._hashes: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Voice | None:
        """The voice at a path below `voices/`, whose extension may be left out; None if there is none.

        Raises InvalidPath. Call it from a thread.
        """
        spellings = ("", *(spelling for extension in EXTENSIONS for spelling in (extension, extension.upper())))
        for candidate in (inside(self._root, name + spelling) for spelling in spellings):
            if candidate.suffix.lower() in EXTENSIONS and candidate.is_file():
                return Voice(candidate.relative_to(self._root).as_posix(), candidate, self._content_hash(candidate))
        return None

    def close_matches(self, name: str, others: Sequence[str] = ()) -> list[str]:
        """Names of voices that look like `name`, in the library and among `others`."""
        known = [*others, *(path.relative_to(self._root).as_posix() for path in self._recordings())]
        by_stem = {Path(voice).with_suffix("").as_posix().lower(): voice for voice in known}
        wanted = Path(name).with_suffix("").as_posix().lower()
        return [by_stem[stem] for stem in difflib.get_close_matches(wanted, by_stem, n=3)]

    def _recordings(self) -> Iterator[Path]:
        return (path for path in sorted(self._root.rglob("*")) if path.suffix.lower() in EXTENSIONS)

    def _content_hash(self, path: Path) -> str:
        """SHA-256 of the file, read again whenever it may be another: replaced, changed, or its times set back."""
        status = path.stat()
        version = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        with self._lock:
            known = self._hashes.get(path)
        if known and known[0] == version:
            return known[1]
        with path.open("rb") as file:
            content_hash = hashlib.file_digest(file, "sha256").hexdigest()
        with self._lock:
            self._hashes[path] = (version, content_hash)
        return content_hash
