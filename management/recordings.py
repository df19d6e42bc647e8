"""Recordings that can be converted: those below `vc_inputs/`, and what the server made itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from management.store import AudioStore
from resilience.errors import FileMissing


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A recording. `relative` is its path below the data folder, with slashes."""

    relative: str
    path: Path


class Recordings:
    """Finds recordings by name, in one library after the other."""

    def __init__(self, *stores: AudioStore) -> None:
        self._stores = stores

    def find(self, name: str) -> SourceFile:
        """The recording at a path below the first library that has it.

        Raises InvalidPath, FileMissing. Call it from a thread.
        """
        for store in self._stores:
            if store.has(name):
                path = store.locate(name)
                return SourceFile(f"{store.library}/{path.relative_to(store.root).as_posix()}", path)
        folders = ", ".join(f"{store.library}/" for store in self._stores)
        raise FileMissing(f"there is no recording named {name} in any of {folders}")
