"""The outputs library: generated files below `outputs/`, each generation with one JSON companion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from management.companions import Companions, content_hash, modified, moment, texts
from management.index import Index
from management.store import AudioStore, Limits, Staged
from management.stored import Description
from utils.audio.analysis import AudioFacts, facts_of
from utils.audio.formats import FORMATS, AudioFormat, Bitrates
from utils.audio.waveform import Waveform
from utils.files.atomic import temporary
from utils.files.naming import GenerationNames

LIBRARY = "outputs"
TYPES = ("tts", "vc", "concat")
ORIGINAL = "_original"  # ends the name of what a generation was before its silences were shortened
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
        return url_of(self.relative)


def url_of(relative: str) -> str:
    """Where the server offers the file at a path below `outputs/`."""
    return f"/{LIBRARY}/{quote(relative)}"


class GenerationCompanions(Companions):
    """`tts_….json` beside all the formats of a generation."""

    library = LIBRARY

    def path(self, audio: Path) -> Path:
        return audio.with_name(f"{audio.stem.removesuffix(ORIGINAL)}.json")

    def describes(self, companion: str) -> str | None:
        return companion.removesuffix(".json")

    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        kind = content.get("type", path.name.partition("_")[0])
        parameters, text = content.get("request"), content.get("text")
        sources = texts(content.get("source_files"))
        return Description(
            created=moment(content.get("created_date"), modified(path)),
            about={"parameters": parameters if isinstance(parameters, dict) else {}, "source_files": sources},
            searched=[*([text] if isinstance(text, str) else []), *sources],
            generation_type=kind if kind in TYPES else None,
        )


class Outputs:
    """Writes generations and finds their files again. Everything here blocks: call it from a thread."""

    def __init__(self, index: Index, data_dir: Path, limits: Limits) -> None:
        self.store = AudioStore(index, data_dir / LIBRARY, GenerationCompanions(), limits)
        self._names = GenerationNames()
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")

    def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)

    def folder(self, name: str | None) -> Path:
        """The folder of a project, which need not exist; None is the library itself. Raises InvalidPath."""
        return self.store.folder(name)

    def check_room(self, needed_bytes: int = 0) -> None:
        """Raise StorageFull if the disk is too full to save anything, or to save so many bytes."""
        self.store.check_room(needed_bytes)

    def save(
        self,
        waveform: Waveform,
        *,
        original: Waveform | None = None,
        generation_type: str,
        name_parameters: Sequence[str],
        folder: str | None,
        formats: Sequence[str],
        bitrates: Bitrates,
        companion: Mapping[str, Any],
        check: Callable[[], None] = lambda: None,
    ) -> list[OutputFile]:
        """Write one rendering in every format with its companion; all of them or none.

        `original` is what it was made of, kept as WAV beside it if there is one. `check` is called between the steps,
        and may raise to leave the work with nothing written. Raises InvalidPath for a folder that leaves the library,
        StorageFull when there is no room.
        """
        from utils.audio.encode import write_audio

        stem = self._names.stem(generation_type, name_parameters)
        renderings = [(f"{stem}.{name}", name, waveform) for name in formats]
        if original:
            renderings.append((f"{stem}{ORIGINAL}.wav", "wav", original))
        self.check_room(sum(len(sound.samples) * BYTES_PER_SAMPLE for _, _, sound in renderings))
        check()
        target = self.folder(folder)
        target.mkdir(parents=True, exist_ok=True)
        prefix = f"{target.relative_to(self.store.root).as_posix()}/".removeprefix("./")
        with ExitStack() as unfinished:
            files = [unfinished.enter_context(temporary(target)) for _ in renderings]
            encodings = [
                self._encoders.submit(write_audio, sound, file, format_name, bitrates, check)
                for (_, format_name, sound), (file, _) in zip(renderings, files, strict=True)
            ]
            facts = {id(sound): facts_of(sound, "") for sound in (waveform, original) if sound}
            wait(encodings)
            for encoding in encodings:
                encoding.result()
            staged = {
                name: _staged(*file, replace(facts[id(sound)], format=format_name))
                for (name, format_name, sound), file in zip(renderings, files, strict=True)
            }
            listed = [{"filename": name, **one.record()} for name, one in staged.items()]
            placed = self.store.place(
                {prefix + name: one for name, one in staged.items()},
                {**companion, "files": listed},
                overwrite=False,
                check=check,
            )
        return [
            OutputFile(FORMATS[format_name], file.path, file.relative, file.size_bytes)
            for (_, format_name, _), file in zip(renderings, placed, strict=True)
        ]


def _staged(file: BinaryIO, path: Path, facts: AudioFacts) -> Staged:
    file.flush()
    return Staged(file, path, facts, content_hash(path), None)
