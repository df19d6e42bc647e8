"""The outputs library: generated files below `outputs/`, each generation with one JSON companion."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from management.companions import Companions, content_hash, modified, moment, texts
from management.index import Index
from management.store import AudioStore, Limits, Staged
from management.stored import BARE, EXTENSIONS, Description, StoredFile, is_audio
from resilience.errors import FileMissing, InvalidAudio, InvalidPath, NameTaken
from utils.audio.analysis import AudioFacts, FactsMeter, facts_of
from utils.audio.chapters import Chapter
from utils.audio.formats import FORMATS, AudioFormat, Bitrates
from utils.audio.waveform import Extent, Waveform
from utils.files.naming import GenerationNames
from utils.files.paths import relative_parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utils.audio.measures import Measures

LIBRARY = "outputs"
TYPES = ("tts", "vc", "concat")
ORIGINAL = "_original"  # ends the name of what a generation was before its silences were shortened
BLOCKS_PER_LOOK = 64  # at the disk, whether it is full
BLOCKS_PER_SYNC = 1024  # or gigabytes would be left for the end, where nobody could leave


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
        self._index = index
        self._names = GenerationNames()
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")

    def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)

    @property
    def longest_s(self) -> float:
        """Of a recording, as `utils.audio.decode.bound_of` counts it."""
        return self.store.longest_s

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
        from utils.audio.encode import most_bytes, write_audio

        stem = self._names.stem(generation_type, name_parameters)
        sounds = [(f"{stem}.{name}", name, waveform) for name in formats]
        if original:
            sounds.append((f"{stem}{ORIGINAL}.wav", "wav", original))
        self.check_room(
            sum(most_bytes(name, Extent(len(sound.samples), sound.sample_rate), bitrates) for _, name, sound in sounds)
        )
        check()
        with self.store.unfinished(self.folder(folder), len(sounds)) as files:
            encodings = [
                self._encoders.submit(write_audio, sound, file, format_name, bitrates, check)
                for (_, format_name, sound), (file, _) in zip(sounds, files, strict=True)
            ]
            facts = {id(sound): facts_of(sound, "") for sound in (waveform, original) if sound}
            wait(encodings)
            for encoding in encodings:
                encoding.result()
            written = [
                _Written(name, FORMATS[format_name], *file, facts[id(sound)])
                for (name, format_name, sound), file in zip(sounds, files, strict=True)
            ]
            return self._place(folder, written, companion, overwrite=False, check=check)

    def save_stream(
        self,
        blocks: Iterable[NDArray[np.float32]],
        extent: Extent,
        *,
        stem: str,
        folder: str | None,
        formats: Sequence[str],
        bitrates: Bitrates,
        chapters: Sequence[Chapter],
        companion: Callable[[], Mapping[str, Any]],
        overwrite: bool,
        check: Callable[[], None],
    ) -> list[OutputFile]:
        """Write what comes in blocks of shape (n, channels) in every format at once; all of the files or none.

        As `save`, in the memory of a block. `companion` is asked when all has come. With `overwrite` the generation of
        that name, if there is one, goes with all its formats. Raises NameTaken besides.
        """
        from utils.audio.encode import encoding, most_bytes

        self.check_room(sum(most_bytes(name, extent, bitrates) for name in formats))
        with self.store.unfinished(self.folder(folder), len(formats)) as files:
            meter = FactsMeter(extent.sample_rate, extent.channels)
            with ExitStack() as encodings:
                adds = [
                    encodings.enter_context(encoding(file, name, extent, bitrates, chapters))
                    for name, (file, _) in zip(formats, files, strict=True)
                ]
                for index, block in enumerate(blocks):
                    if index % BLOCKS_PER_LOOK == 0:
                        self.check_room()
                    if index % BLOCKS_PER_SYNC == BLOCKS_PER_SYNC - 1:
                        _sync(files)
                    meter.add(block)
                    for add in adds:
                        add(block if extent.channels > 1 else block[:, 0])
            facts = meter.facts("")
            check()
            written = [
                _Written(f"{stem}.{name}", FORMATS[name], *file, facts)
                for name, file in zip(formats, files, strict=True)
            ]

            def refuse() -> None:
                check()
                self.refuse_taken(folder, stem, overwrite=overwrite)

            before = self._generation(folder, stem)
            placed = self._place(folder, written, companion(), overwrite=overwrite, check=refuse)
        for file in before:
            if file.relative not in {one.relative for one in placed}:
                self.store.delete(file.relative)
        return placed

    def stem(self, generation_type: str, parameters: Sequence[str]) -> str:
        """A name that no other generation has; without extension."""
        return self._names.stem(generation_type, parameters)

    def refuse_taken(self, folder: str | None, stem: str, *, overwrite: bool) -> None:
        """Raise NameTaken if a generation of this name is there, or one that differs in case alone; InvalidPath for
        what can be no name.
        """
        if len(relative_parts(stem)) > 1:
            raise InvalidPath(f"{stem!a} is not a file name: name the folder apart")
        target = self.folder(folder)
        if not overwrite and any((target / f"{stem}{suffix}").exists() for suffix in (*EXTENSIONS, ".json")):
            raise NameTaken(f"{stem} is there already; overwrite=true replaces it")
        for other in self.store.shelf.stemmed(stem):
            is_twin = other.stem != stem and other.stem.casefold() == stem.casefold()
            if is_twin and other.path.parent == target and other.path.exists():
                raise NameTaken(f"{other.relative} is there already, which differs from {stem} in case alone")

    def measured(self, path: Path, content_hash: str, check: Callable[[], None] = lambda: None) -> Measures:
        """What is to be known of a clip before it is joined, from the index or, once, from listening to it.

        Raises InvalidAudio, FileMissing.
        """
        from utils.audio.measures import Measures, measure

        if known := self._index.measures(content_hash):
            return Measures.of_json(known)
        before = _state(path)
        measures = measure(path, self.store.longest_s, check)
        if _state(path) == before:
            self._index.note_measures(content_hash, measures.as_json())
        return measures

    def measured_extent(self, path: Path, check: Callable[[], None] = lambda: None) -> Extent:
        """How much audio a file holds of which nothing but decoding it tells. Raises InvalidAudio, FileMissing."""
        from utils.audio.measures import measure_extent

        return measure_extent(path, self.store.longest_s, check)

    def find(self, name: str) -> StoredFile:
        """The file at a path below outputs/. Raises InvalidPath, FileMissing, InvalidAudio for what is there but is no
        audio that can be read.
        """
        path = self.store.locate(name)
        if path.is_file() and (not is_audio(path.name) or path.suffix.lower() == BARE):
            raise InvalidAudio(f"{name} is no audio that can be read by itself")
        return self.store.get(name)

    def _generation(self, folder: str | None, stem: str) -> list[StoredFile]:
        return self.store.shelf.of_generation(self._prefix(folder).removesuffix("/"), stem)

    def _prefix(self, folder: str | None) -> str:
        """What comes before the names of files in a folder, in their paths below the root."""
        return f"{self.folder(folder).relative_to(self.store.root).as_posix()}/".removeprefix("./")

    def _place(
        self,
        folder: str | None,
        written: Sequence[_Written],
        companion: Mapping[str, Any],
        *,
        overwrite: bool,
        check: Callable[[], None],
    ) -> list[OutputFile]:
        """Give the files of one generation their names, with a companion that tells of them."""
        prefix = self._prefix(folder)
        staged = {f"{prefix}{file.name}": file.staged(check) for file in written}
        listed = [{"filename": file.name, **one.record()} for file, one in zip(written, staged.values(), strict=True)]
        placed = self.store.place(staged, {**companion, "files": listed}, overwrite=overwrite, check=check)
        return [
            OutputFile(file.format, one.path, one.relative, one.size_bytes)
            for file, one in zip(written, placed, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is whole, but has no name yet."""

    name: str
    format: AudioFormat
    file: BinaryIO
    path: Path
    facts: AudioFacts

    def staged(self, check: Callable[[], None]) -> Staged:
        """Brought to disk already: gigabytes take seconds, in which whoever places them would hold up all others."""
        self.file.flush()
        os.fsync(self.file.fileno())
        facts = replace(self.facts, format=self.format.name)
        return Staged(self.file, self.path, facts, content_hash(self.path, check), None)


def _sync(files: Sequence[tuple[BinaryIO, Path]]) -> None:
    for file, _ in files:
        file.flush()
        os.fsync(file.fileno())


def _state(path: Path) -> tuple[int, int]:
    """What changes if somebody writes to a file. Raises FileMissing."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileMissing("the file was removed while it was being read") from error
    return status.st_mtime_ns, status.st_size
