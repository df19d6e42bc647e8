"""Recordings that can be converted: those below `vc_inputs/`, and what the server made itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from management import outputs
from resilience.errors import FileMissing
from utils.files.paths import inside

FOLDER = "vc_inputs"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A recording. `relative` is its path below the data folder, with slashes."""

    relative: str
    path: Path


class Recordings:
    """Finds recordings by name."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        (data_dir / FOLDER).mkdir(parents=True, exist_ok=True)

    def find(self, name: str) -> SourceFile:
        """The recording at a path below `vc_inputs/`, or else below `outputs/`.

        Raises InvalidPath, FileMissing. Call it from a thread.
        """
        for folder in (FOLDER, outputs.FOLDER):
            path = inside(self._data_dir / folder, name)
            if path.is_file():
                return SourceFile(path.relative_to(self._data_dir).as_posix(), path)
        raise FileMissing(f"there is no recording named {name}, neither in {FOLDER}/ nor in {outputs.FOLDER}/")
