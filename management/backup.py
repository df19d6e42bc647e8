"""The voice library as one zip: made while it is sent, and read back as a whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Literal, cast

from management.archive import MAX_ENTRIES, Archive, Member, restorable
from management.companions import as_json
from management.store import AudioStore, Staged
from management.stored import Selection, StoredFile
from management.voices import ID, Voices
from resilience.errors import (
    FileMissing,
    InvalidArchive,
    InvalidAudio,
    InvalidPath,
    InvalidRequest,
    NameTaken,
    UnsupportedAudio,
)
from utils.files.atomic import sync_folder, temporary_name
from utils.files.paths import inside, relative_parts
from utils.text.fold import fold

logger = logging.getLogger(__name__)

PIECE_BYTES = 256 << 10
ZIP64_FROM = 1 << 30  # bytes; below it every tool can read the entry
EARLIEST, LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # that a zip can tell
FIRST_NUMBER = 2  # of a voice that is restored beside another of its name

Mode = Literal["skip", "overwrite", "rename"]


# Backup


class _Pipe:
    """A file that cannot be rewound, whose content is taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, content: bytes | bytearray | memoryview) -> int:
        self._pieces.append(bytes(content))
        self._size += len(content)
        return len(content)

    def flush(self) -> None:
        pass

    def taken(self, at_least: int) -> Iterator[bytes]:
        """All that was written since the last time, as one piece, if it is worth the while."""
        if self._size >= max(at_least, 1):
            piece = b"".join(self._pieces)
            self._pieces, self._size = [], 0
            yield piece


def stream_backup(voices: Voices, folder: str | None = None) -> Iterator[bytes]:
    """A zip of all voices (or of those below `folder`), each with its companion, in pieces of some 256 kB.

    Recordings are packed as they are: they hardly get smaller. One that goes meanwhile is left out. The zip is made
    while it is taken, so no more of it is in memory than a piece and its list of contents. Names that only some
    systems can tell apart get a number: every backup can be restored everywhere. Raises InvalidPath, FileMissing for a
    folder that is not there, InvalidRequest for more voices than can be restored at once.
    """
    below = "/".join(relative_parts(folder)) if folder else None
    if below and not any(known.path == below for known in voices.store.folders()):
        raise FileMissing(f"there is no folder named {folder} in {voices.store.library}/")
    count = voices.store.page(Selection(folder=below), sort_by="name", descending=False, page=1, page_size=1).total
    if count > MAX_ENTRIES // 2:
        raise InvalidRequest(
            f"{count:,} voices are more than one backup holds ({MAX_ENTRIES // 2:,}): back up folder by folder",
            field="folder",
            where="query",
        )
    return _zipped(voices, below)


def _zipped(voices: Voices, below: str | None) -> Iterator[bytes]:
    store, pipe = voices.store, _Pipe()
    taken: set[str] = set()
    with zipfile.ZipFile(cast("IO[bytes]", pipe), "w") as archive:
        for path in _empty_folders(store, below):
            archive.writestr(_entry(f"{path}/", stat.S_IFDIR | 0o755), b"")
            yield from pipe.taken(PIECE_BYTES)
        for listed in store.shelf.select(Selection(folder=below)):
            try:
                file, audio = store.open(listed.relative)
            except FileMissing:
                logger.info("gone before it was backed up library=%s", store.library)
                continue
            except InvalidPath:  # a name that somebody gave it by hand, and that no library would take
                logger.warning("not backed up for its name library=%s path=%a", store.library, listed.relative)
                continue
            with audio:
                name = _unlike(file.relative, taken)
                about = as_json({"created_date": file.created.isoformat(), **restorable(voices.companion(file))})
                companion = store.companion_path(Path(name)).as_posix()
                archive.writestr(_entry(companion, stat.S_IFREG | 0o644, file.created), about)
                yield from _packed(archive, pipe, file, name, audio)
    yield from pipe.taken(0)


def _unlike(relative: str, taken: set[str]) -> str:
    """The name, composed, and with a number where another in `taken` differs from it in case or spelling alone."""
    path = PurePosixPath(unicodedata.normalize("NFC", relative))
    candidate, number = path, FIRST_NUMBER
    while candidate.as_posix().casefold() in taken:
        candidate, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    taken.add(candidate.as_posix().casefold())
    return candidate.as_posix()


def _packed(archive: zipfile.ZipFile, pipe: _Pipe, file: StoredFile, name: str, audio: BinaryIO) -> Iterator[bytes]:
    entry = _entry(name, stat.S_IFREG | 0o644, file.created)
    left = file.size_bytes  # a file that grows meanwhile is another one, which the next backup has
    with archive.open(entry, "w", force_zip64=left >= ZIP64_FROM) as packed:
        while left and (piece := audio.read(min(left, PIECE_BYTES))):
            packed.write(piece)
            left -= len(piece)
            yield from pipe.taken(PIECE_BYTES)


def _empty_folders(store: AudioStore, below: str | None) -> Iterator[str]:
    for folder in store.folders():
        is_wanted = below is None or folder.path == below or folder.path.startswith(f"{below}/")
        if folder.path and is_wanted and not folder.count and not folder.subfolders:
            with suppress(InvalidPath):  # a name that somebody gave it by hand
                relative_parts(folder.path)
                yield folder.path


def _entry(name: str, mode: int, moment: datetime | None = None) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, min(max(moment.timetuple()[:6], EARLIEST), LATEST) if moment else EARLIEST)
    entry.create_system = 3  # whose modes these are: Unix
    entry.external_attr = mode << 16
    return entry


# Restore


@dataclass(slots=True)
class Restored:
    """What came of an archive, by paths below `voices/`. `renamed`: path in the archive → path now."""

    restored: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def restore(voices: Voices, file: BinaryIO, mode: Mode, max_bytes: int) -> Restored:
    """Put the voices of a backup into the library: all of them, or on any fault none.

    Where there is a voice of that name already, `skip` leaves it, `overwrite` puts the other in its place, `rename`
    gives the other a number, unless the library has that very recording. Everything in the archive is checked and
    decoded before the first file gets its name.

    Raises InvalidArchive, InvalidPath, FileTooLarge, StorageFull.
    """
    archive = Archive(file, max_bytes)
    voices.store.check_room(archive.contents.unpacked_bytes)
    return _Restoration(voices, archive, mode).run(max_bytes)


class _Restoration:
    """One archive on its way into the library."""

    def __init__(self, voices: Voices, archive: Archive, mode: Mode) -> None:
        self._voices = voices
        self._store = voices.store
        self._archive = archive
        self._mode = mode
        self._done = Restored(warnings=archive.contents.warnings)
        self._reserved = {member.relative for member in archive.contents.members}
        self._aliases: dict[str, str] = {}  # folded alias → the voice of this archive that has it

    def run(self, max_bytes: int) -> Restored:
        with ExitStack() as unplaced:
            staged = [(member, self._staged(member, unplaced, max_bytes)) for member in self._archive.contents.members]
            with _Undo(self._store) as undo:
                for folder in self._archive.contents.folders:
                    undo.make_folder(inside(self._store.root, folder))
                for member, one in staged:
                    self._place(member, one, undo)
        self._store.shelf.note_folders(sorted(_with_those_above(self._archive.contents.folders)))
        return self._done

    def _staged(self, member: Member, unplaced: ExitStack, max_bytes: int) -> Staged:
        try:
            with self._archive.audio(member) as audio:
                staged = unplaced.enter_context(self._store.stage(audio, max_bytes, of_any_format=True))
        except InvalidArchive:
            raise
        except (InvalidAudio, UnsupportedAudio) as error:
            raise InvalidArchive(f"{member.relative!a} in the archive cannot be kept: {error.message}") from error
        staged.file.close()  # an archive may hold more files than a process may have open
        return staged

    def _place(self, member: Member, staged: Staged, undo: _Undo) -> None:
        while True:
            target = self._target(member.relative, staged.content_hash)
            if target is None:
                self._done.skipped.append(member.relative)
                return
            path = inside(self._store.root, target)
            with staged.path.open("r+b") as staged.file:
                content = self._content(member, target, staged)
                undo.keep(path)
                try:
                    self._store.place({target: staged}, content, overwrite=self._mode == "overwrite")
                    break
                except NameTaken:  # somebody was faster: look again
                    undo.forget(path)
        self._done.restored.append(target)
        if target != member.relative:
            self._done.renamed[member.relative] = target

    def _target(self, relative: str, content_hash: str) -> str | None:
        """Where a recording goes; None if it stays out."""
        if self._mode == "overwrite" or not self._store.locate(relative).exists():
            return relative
        if self._mode == "skip":
            return None
        path, number, candidate = Path(relative), FIRST_NUMBER, relative
        while self._store.locate(candidate).exists() or (number > FIRST_NUMBER and candidate in self._reserved):
            with suppress(FileMissing):
                if self._store.get(candidate).content_hash == content_hash:
                    return None
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()
            number += 1
        return candidate

    def _content(self, member: Member, target: str, staged: Staged) -> dict[str, Any]:
        """The companion, without the aliases that would make two voices answer to one name."""
        said = self._archive.companion(member)
        kept = []
        for alias in dict.fromkeys(said.pop("aliases", ())):
            if holder := self._holder(alias, target):
                self._done.warnings.append(f"{target}: left out the alias {alias!a}, which means {holder}")
            else:
                kept.append(alias)
                self._aliases[fold(alias)] = target
        if isinstance(identity := said.get(ID), str):
            if self._holder(identity, target):
                del said[ID]  # which belongs to one voice alone
            else:
                self._aliases[fold(identity)] = target
        aliases: Mapping[str, Any] = {"aliases": kept} if kept else {}
        return {**said, **aliases, "audio": staged.record(), "quality": said.get("quality") or staged.quality}

    def _holder(self, alias: str, target: str) -> str | None:
        """The voice besides `target` that will go by this name when all is restored."""
        if (of_archive := self._aliases.get(fold(alias), target)) != target:
            return of_archive
        is_going = self._reserved if self._mode == "overwrite" else ()
        for file in (*self._store.shelf.called(alias), *self._store.shelf.named(alias)):
            if file.relative != target and file.relative not in is_going and file.path.is_file():
                return file.relative
        return None


def _with_those_above(folders: Iterable[str]) -> set[str]:
    parts = [folder.split("/") for folder in folders]
    return {"/".join(names[:count]) for names in parts for count in range(1, len(names) + 1)}


class _Undo:
    """Remembers what the library was like, and makes it so again when it is left by an exception."""

    def __init__(self, store: AudioStore) -> None:
        self._store = store
        self._folders: list[Path] = []
        self._replaced: dict[Path, Path | None] = {}  # each path, and under which name what was there is kept

    def __enter__(self) -> _Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
        for kept in self._replaced.values():
            if kept:
                kept.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Make it, and what is missing above it. Raises InvalidPath if a file is in the way."""
        try:
            for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
                with suppress(FileExistsError):  # somebody was faster
                    path.mkdir()
                    self._folders.append(path)
        except NotADirectoryError as error:
            raise InvalidPath(f"a part of {folder.name!a} is a file, so it can be no folder") from error
        if not folder.is_dir():
            raise InvalidPath(f"{folder.name!a} is a file, so it can be no folder")

    def keep(self, path: Path) -> None:
        """Before a recording and its companion are written: keep what is there, in case all has to be undone."""
        self.make_folder(path.parent)
        for old in (path, self._store.companion_path(path)):
            if old.is_dir():
                raise InvalidPath(f"{old.name!a} is a folder")
            self._replaced[old] = _kept(old)

    def forget(self, path: Path) -> None:
        """The recording and its companion were not written after all."""
        for old in (path, self._store.companion_path(path)):
            if kept := self._replaced.pop(old, None):
                kept.unlink(missing_ok=True)

    def _undo(self) -> None:
        for path, kept in reversed(self._replaced.items()):
            try:
                if kept:
                    kept.replace(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError:  # the others can be saved all the same
                logger.exception("not undone path=%a kept=%a", path, kept)
                self._replaced[path] = None  # what is kept stays
        for folder in reversed(self._folders):
            with suppress(OSError):  # somebody else has put something there meanwhile
                folder.rmdir()
        for folder in {path.parent for path in self._replaced if path.parent.exists()}:
            sync_folder(folder)
        for path in self._replaced:
            self._store.refresh(path)
        for folder in reversed(self._folders):
            self._store.refresh(folder)
        logger.info("restoration undone files=%d", len(self._replaced))


def _kept(path: Path) -> Path | None:
    """A second name of the file, or a copy where there can be none; None if it is not there."""
    if not path.exists():
        return None
    kept = temporary_name(path.parent)
    try:
        os.link(path, kept)
    except OSError:
        try:
            shutil.copy2(path, kept)
        except BaseException:
            kept.unlink(missing_ok=True)
            raise
    return kept
