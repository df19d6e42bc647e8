"""The outputs library: generated files below `outputs/`, each generation with one JSON companion."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from config.settings import StorageSettings
from resilience.errors import FileMissing
from utils.audio.formats import FORMATS, AudioFormat
from utils.audio.waveform import Waveform
from utils.files.atomic import require_free_space, write_atomically
from utils.files.naming import GenerationNames
from utils.files.paths import inside, relative_parts

FOLDER = "outputs"
BYTES_PER_SAMPLE = 4  # of the largest format, for the space to reserve


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A generated file. `relative` is its path below `outputs/`, with slashes."""

    format: AudioFormat
    path: Path
    relative: str
    size_bytes: int

    @property
    def url(self) -> str:
        return f"/{FOLDER}/{quote(self.relative)}"


class Outputs:
    """Writes generations and finds their files again."""

    def __init__(self, settings: StorageSettings, data_dir: Path) -> None:
        self._reserve_bytes = settings.min_free_mb * 1_000_000
        self._root = data_dir / FOLDER
        self._root.mkdir(parents=True, exist_ok=True)
        self._names = GenerationNames()
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")

    @property
    def root(self) -> Path:
        return self._root

    def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)

    def folder(self, name: str | None) -> Path:
        """The folder of a project, which need not exist; None is the library itself. Raises InvalidPath."""
        return inside(self._root, name) if name else self._root

    def check_room(self, needed_bytes: int = 0) -> None:
        """Raise StorageFull if the disk is too full to save anything, or to save so many bytes."""
        require_free_space(self._root, needed_bytes, self._reserve_bytes)

    def save(
        self,
        waveform: Waveform,
        *,
        generation_type: str,
        name_parameters: Sequence[str],
        folder: str | None,
        formats: Sequence[str],
        mp3_bitrate_kbps: int,
        companion: Mapping[str, Any],
        check: Callable[[], None] = lambda: None,
    ) -> list[OutputFile]:
        """Write one rendering in every format, its companion first; all of them or none. Call it from a thread.

        `check` is called before each file is written, and may raise to leave the work with nothing written.
        Raises InvalidPath for a folder that leaves the library, StorageFull when there is no room.
        """
        self.check_room(len(waveform.samples) * BYTES_PER_SAMPLE * len(formats))
        from utils.audio.encode import encode

        stem = self._names.stem(generation_type, name_parameters)
        encodings = {
            name: self._encoders.submit(encode, waveform, name, mp3_bitrate_kbps) for name in dict.fromkeys(formats)
        }
        contents = {name: encoding.result() for name, encoding in encodings.items()}
        check()
        target = self.folder(folder)
        target.mkdir(parents=True, exist_ok=True)
        prefix = "/".join(relative_parts(folder)) + "/" if folder else ""
        files = [
            OutputFile(FORMATS[name], target / f"{stem}.{name}", f"{prefix}{stem}.{name}", len(content))
            for name, content in contents.items()
        ]
        described = {
            **companion,
            "files": [{"filename": file.path.name, "size_bytes": file.size_bytes} for file in files],
        }
        written = [target / f"{stem}.json"]
        try:
            write_atomically(written[0], json.dumps(described, ensure_ascii=False, indent=2).encode())
            for file in files:
                check()
                written.append(file.path)
                write_atomically(file.path, contents[file.format.name])
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return files

    def find(self, relative: str) -> OutputFile:
        """The file at a path below `outputs/`. Raises InvalidPath, FileMissing. Call it from a thread."""
        path = inside(self._root, relative)
        audio_format = FORMATS.get(path.suffix.lower().removeprefix("."))
        if audio_format is None or not path.is_file():
            raise FileMissing(f"there is no output file named {relative}")
        return OutputFile(audio_format, path, relative, path.stat().st_size)
