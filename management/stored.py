"""What the libraries hold, and how it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.audio.analysis import AudioFacts

# By name; what is inside is found out by reading it.
EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".oga", ".m4a", ".aac", ".mp4", ".webm", ".pcm")
BARE = ".pcm"  # samples and nothing else: only a companion can say what they are


def is_audio(filename: str) -> bool:
    return Path(filename).suffix.lower() in EXTENSIONS and not filename.startswith(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a companion says of a recording. `about` is JSON-ready; `searched` are the texts that a search looks into.

    `name` is empty where nobody gave one.
    """

    created: datetime
    about: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    searched: Sequence[str] = ()
    tags: Sequence[str] = ()
    aliases: Sequence[str] = ()
    generation_type: str | None = None
    usage_count: int = 0
    last_used: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A recording in a library. `relative` is its path below the root, with slashes; `content_hash` SHA-256 in hex.

    `formats` are those of its generation, its own included. `version` and `companion_version` tell what the files on
    disk looked like when this was written down.
    """

    relative: str
    path: Path
    size_bytes: int
    version: str
    companion_version: str
    facts: AudioFacts
    content_hash: str
    description: Description
    formats: Sequence[str] = ()

    @property
    def filename(self) -> str:
        return self.relative.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Below the root, empty for the root itself."""
        return self.relative.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return Path(self.filename).stem

    @property
    def about(self) -> Mapping[str, Any]:
        return self.description.about

    @property
    def created(self) -> datetime:
        return self.description.created

    @property
    def generation_type(self) -> str | None:
        return self.description.generation_type

    @property
    def usage_count(self) -> int:
        return self.description.usage_count

    @property
    def last_used(self) -> datetime | None:
        return self.description.last_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files: all that meet every criterion that is given. A folder means what lies below it, too."""

    folder: str | None = None
    search: str | None = None
    filenames: Sequence[str] = ()
    tag: str | None = None
    generation_type: str | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "filenames", tuple(self.filenames))  # lists cannot be remembered, nor compared


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the files that were selected, and how many there are in all."""

    files: list[StoredFile]
    total: int


@dataclass(frozen=True, slots=True)
class Folder:
    """`path` is empty for the root. The count is of the files directly in it, `subfolders` are names."""

    path: str
    count: int
    subfolders: list[str]
