"""The outputs library: generated files below `outputs/`, each generation with one JSON companion."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from config.settings import StorageSettings
from resilience.errors import FileMissing, InvalidPath
from utils.audio.formats import FORMATS, AudioFormat
from utils.audio.waveform import Waveform
from utils.files.atomic import remove_strays, replacing, require_free_space, write_atomically
from utils.files.naming import GenerationNames
from utils.files.paths import inside, relative_parts

logger = logging.getLogger(__name__)

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

    def remove_strays(self) -> None:
        """Delete what a crash left half written. Walks the whole library: call it from a thread."""
        if count := remove_strays(self._root):
            logger.info("strays removed count=%d", count)

    def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)

    def folder(self, name: str | None) -> Path:
        """The folder of a project, which need not exist; None is the library itself. Raises InvalidPath."""
        folder = inside(self._root, name) if name else self._root
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise InvalidPath(f"{there.name} is a file, so {name} cannot be a folder")
        return folder

    def check_room(self, needed_bytes: int = 0) -> None:
        """Raise StorageFull if the disk is too full to save anything, or to save so many bytes."""
        self._root.mkdir(parents=True, exist_ok=True)  # whoever emptied the library may have taken the folder along
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

        `check` is called between the steps, and may raise to leave the work with nothing written.
        Raises InvalidPath for a folder that leaves the library, StorageFull when there is no room.
        """
        self.check_room(len(waveform.samples) * BYTES_PER_SAMPLE * len(formats))
        check()
        target = self.folder(folder)
        target.mkdir(parents=True, exist_ok=True)
        stem = self._names.stem(generation_type, name_parameters)
        paths = {name: target / f"{stem}.{name}" for name in formats}
        companion_path = target / f"{stem}.json"
        try:
            with ExitStack() as unfinished:
                files = {name: unfinished.enter_context(replacing(path)) for name, path in paths.items()}
                sizes = self._write_formats(waveform, files, mp3_bitrate_kbps)
                check()
                listed = [{"filename": path.name, "size_bytes": sizes[name]} for name, path in paths.items()]
                described = {**companion, "files": listed}
                write_atomically(companion_path, json.dumps(described, ensure_ascii=False, indent=2).encode())
        except BaseException:
            for path in (companion_path, *paths.values()):
                path.unlink(missing_ok=True)
            raise
        prefix = "/".join(relative_parts(folder)) + "/" if folder else ""
        return [OutputFile(FORMATS[name], path, prefix + path.name, sizes[name]) for name, path in paths.items()]

    def _write_formats(
        self, waveform: Waveform, files: Mapping[str, BinaryIO], mp3_bitrate_kbps: int
    ) -> dict[str, int]:
        """Write every format at once, each in a thread; the sizes in bytes."""
        from utils.audio.encode import write_audio

        encodings = [
            self._encoders.submit(write_audio, waveform, file, name, mp3_bitrate_kbps) for name, file in files.items()
        ]
        wait(encodings)
        for encoding in encodings:
            encoding.result()
        return {name: file.seek(0, os.SEEK_END) for name, file in files.items()}

    def find(self, relative: str) -> OutputFile:
        """The file at a path below `outputs/`. Raises InvalidPath, FileMissing. Call it from a thread."""
        path = inside(self._root, relative)
        audio_format = FORMATS.get(path.suffix.lower().removeprefix("."))
        if audio_format is None or not path.is_file():
            raise FileMissing(f"there is no output file named {relative}")
        return OutputFile(audio_format, path, relative, path.stat().st_size)
