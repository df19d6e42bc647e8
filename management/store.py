"""Audio files and their JSON companions below one root: put, found, listed, changed, moved, removed.

The files are the truth, which people copy and edit with their own tools; the index is what was read of them. Whatever
is written first goes to a hidden file in the same folder, is synced, and then takes its name:

- `.tmp-…`: audio or a companion that is being written. Nothing at the next start.
- `.new-<companion>`: a companion whose audio is about to take its name. It holds the hash of what it describes, so the
  next start can tell whether the audio got there: then the companion follows, else it goes.
- `.old-<companion>`: a companion whose audio is about to go, or to move. If that is still there at the next start, the
  companion gets its name back, else it goes too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from management.companions import Companions, as_json, read_json, record
from management.index import Index
from management.reading import LEAVING_PREFIX, PENDING_PREFIX, Reading
from management.shelf import Shelf
from management.stored import Folder, Page, Selection, StoredFile, is_audio
from resilience.errors import FileMissing, FileTooLarge, InvalidAudio, InvalidPath, NameTaken, UnsupportedAudio
from utils.audio.analysis import AudioFacts
from utils.files.atomic import publish, require_free_space, temporary, write_atomically
from utils.files.paths import inside, lies_in, relative_parts

logger = logging.getLogger(__name__)

COPIED_AT_ONCE = 1 << 20
KEPT_FORMATS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac")  # that an upload may be in, by content


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes that stay free on the disk, seconds of audio that a file may have."""

    reserve_bytes: int
    longest_s: float


@dataclass(slots=True)
class Staged:
    """Audio in a hidden file of its library, listened to, which may be placed. Its quality, where that is judged."""

    file: BinaryIO
    path: Path
    facts: AudioFacts
    content_hash: str
    quality: Mapping[str, Any] | None

    def record(self) -> dict[str, Any]:
        """What its companion says of it. Its time is that of the last write, which a rename does not change."""
        self.file.flush()
        status = os.fstat(self.file.fileno())
        return record(self.facts, self.content_hash, status)


class AudioStore:
    """One library. Everything here blocks: call it from a thread."""

    def __init__(self, index: Index, root: Path, companions: Companions, limits: Limits) -> None:
        self._root = root
        self._root.mkdir(parents=True, exist_ok=True)
        self._companions = companions
        self._limits = limits
        self._lock = threading.RLock()  # whoever gives files their names, takes them away, or writes a companion
        self._uses: Counter[Path] = Counter()
        self._uses_lock = threading.Lock()  # its own: who asks may be the event loop, and the other one waits for disks
        self.shelf = Shelf(index, companions.library, root)
        self._reading = Reading(root, self.shelf, companions, limits.longest_s, self._lock)
        self.refresh, self.rescan, self.recover = self._reading.refresh, self._reading.rescan, self._reading.recover
        self.close = self._reading.close

    @property
    def root(self) -> Path:
        return self._root

    @property
    def library(self) -> str:
        return self._companions.library

    @property
    def longest_s(self) -> float:
        return self._limits.longest_s

    # What is there

    def page(self, selection: Selection, *, sort_by: str, descending: bool, page: int, page_size: int) -> Page:
        """One page of a listing, from the index alone."""
        return self.shelf.page(selection, sort_by=sort_by, descending=descending, page=page, page_size=page_size)

    def folders(self) -> list[Folder]:
        return self.shelf.folders()

    def totals(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        return self.shelf.totals()

    def oldest(self) -> Iterator[StoredFile]:
        return self.shelf.oldest()

    def broken(self) -> list[tuple[str, str]]:
        """Audio by name that is empty or cannot be decoded: its path, and why."""
        return [(path, reason) for path, (_, reason) in self.shelf.broken().items()]

    def get(self, relative: str) -> StoredFile:
        """The file at a path below the root, as it is on the disk now.

        Raises InvalidPath, FileMissing, and InvalidAudio for a file in which nothing can be heard.
        """
        path = self.locate(relative)
        found = self._reading.known(path)
        if found is None and is_audio(path.name):
            self.refresh(path)
            found = self.shelf.get(self._reading.relative(path))
        if found is None:
            _, fault = self.shelf.broken().get(self._reading.relative(path), ("", ""))
            if fault:
                raise InvalidAudio(f"{relative}: {fault}")
            raise FileMissing(f"there is no file named {relative} in {self.library}/")
        return self.shelf.with_formats([found])[0]

    def open(self, relative: str) -> tuple[StoredFile, BinaryIO]:
        """The file, opened: whoever removes it does not disturb the reader. The caller closes it.

        Raises InvalidPath, FileMissing.
        """
        try:
            found = self.get(relative)
            return found, found.path.open("rb")
        except (FileNotFoundError, InvalidAudio) as error:
            raise FileMissing(f"there is no file named {relative} in {self.library}/") from error

    def locate(self, relative: str) -> Path:
        """The one path of a name: in the spelling of the disk (macOS writes accents decomposed), links followed.

        Nothing need be there. Raises InvalidPath.
        """
        path = inside(self._root, relative)
        decomposed = self._root / unicodedata.normalize("NFD", path.relative_to(self._root).as_posix())
        there = decomposed if not path.exists() and decomposed.exists() else path
        return self._root / there.resolve().relative_to(self._root.resolve())

    def has(self, relative: str) -> bool:
        """Raises InvalidPath."""
        path = self.locate(relative)
        return is_audio(path.name) and path.is_file()

    def companion(self, file: StoredFile) -> dict[str, Any]:
        """What the file's companion says, empty if there is none."""
        return read_json(self._companions.path(file.path)) or {}

    def is_companion_readable(self, file: StoredFile) -> bool:
        """False if somebody wrote a fault into it."""
        path = self._companions.path(file.path)
        return not path.exists() or read_json(path) is not None

    def full_companion(self, file: StoredFile) -> dict[str, Any]:
        """What the file's companion says or would say, with all that was heard in the file."""
        content = self.companion(file) or {"created_date": file.created.isoformat()}
        content["audio"] = record(file.facts, file.content_hash, file.path.stat())
        if quality := file.about.get("quality"):
            content["quality"] = quality
        return content

    def companion_path(self, path: Path) -> Path:
        return self._companions.path(path)

    @contextmanager
    def in_use(self, path: Path) -> Iterator[None]:
        """Housekeeping leaves the file alone meanwhile."""
        with self._uses_lock:
            self._uses[path] += 1
        try:
            yield
        finally:
            with self._uses_lock:
                self._uses[path] -= 1
                if not self._uses[path]:
                    del self._uses[path]

    def is_in_use(self, path: Path) -> bool:
        return path in self._uses

    # Putting

    def folder(self, name: str | None) -> Path:
        """A folder below the root, which need not exist; None is the root itself. Raises InvalidPath."""
        folder = self.locate(name) if name else self._root
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise InvalidPath(f"{there.name} is a file, so {name} cannot be a folder")
        return folder

    def check_room(self, needed_bytes: int = 0) -> None:
        """Raise StorageFull if the disk is too full to save anything, or to save so many bytes."""
        self._root.mkdir(parents=True, exist_ok=True)  # whoever emptied the library may have taken the folder along
        require_free_space(self._root, needed_bytes, self._limits.reserve_bytes)

    @contextmanager
    def unfinished(self, folder: Path, count: int) -> Iterator[list[tuple[BinaryIO, Path]]]:
        """So many hidden files in a folder, which is made if it is not there.

        Left by an exception, both are gone. Raises StorageFull.
        """
        with ExitStack() as left:
            with self._lock:  # or another who leaves takes the folder along before there is a file in it
                left.enter_context(self._made(folder))
                files = [left.enter_context(temporary(folder)) for _ in range(count)]
            yield files

    @contextmanager
    def borrow(self, source: BinaryIO, max_bytes: int) -> Iterator[tuple[Path, str]]:
        """What was sent, as a hidden file of the library with its SHA-256 in hex, for as long as it is needed.

        Nobody has listened to it. Raises FileTooLarge, StorageFull.
        """
        self.check_room()
        with temporary(self._root) as (file, path):
            yield path, _copied(source, file, max_bytes, self._limits.reserve_bytes, self._root)

    @contextmanager
    def stage(self, source: BinaryIO, max_bytes: int, *, of_any_format: bool = False) -> Iterator[Staged]:
        """The upload in a hidden file of the library, decoded once; gone afterwards if it was not placed.

        `of_any_format`: whatever can be heard, not only what uploads may be. Raises FileTooLarge, InvalidAudio,
        UnsupportedAudio, StorageFull.
        """
        from utils.audio.analysis import listen

        self.check_room()
        with temporary(self._root) as (file, path):
            content_hash = _copied(source, file, max_bytes, self._limits.reserve_bytes, self._root)
            heard = listen(file, self._limits.longest_s, self._reading.check, judge=self._companions.judges)
            if heard.facts.format not in KEPT_FORMATS and not of_any_format:
                raise UnsupportedAudio(
                    f"the file is {heard.facts.format}; {', '.join(KEPT_FORMATS)} can be kept in {self.library}/"
                )
            yield Staged(file, path, heard.facts, content_hash, heard.quality)

    def place(
        self,
        staged: Mapping[str, Staged],
        content: Mapping[str, Any],
        *,
        overwrite: bool,
        check: Callable[[], None] = lambda: None,
    ) -> list[StoredFile]:
        """Give the staged files their paths below the root, and all of them the one companion, which goes first.

        `check` is called before anything is given its name, with the store locked. Raises NameTaken, InvalidPath,
        StorageFull.
        """
        paths = [(self.locate(relative), one) for relative, one in staged.items()]
        companion = self._companions.path(paths[0][0])
        self.folder(self._reading.relative(companion.parent) or None)
        with self._lock, self._made(companion.parent):
            for path, _ in paths:
                self._refuse_if_taken(path, overwrite)
            check()
            pending = companion.with_name(PENDING_PREFIX + companion.name)
            write_atomically(pending, as_json(content))
            placed: list[Path] = []
            try:
                for path, one in paths:
                    publish(one.file, one.path, path)
                    placed.append(path)
                pending.replace(companion)
            except BaseException:
                pending.unlink(missing_ok=True)
                for path in placed if len(paths) > 1 else ():
                    path.unlink(missing_ok=True)
                raise
            files = [
                self._reading.described(path, one.facts, one.content_hash, one.quality, read_json(companion))
                for path, one in paths
            ]
            self._note(files)
        return files

    def _note(self, files: Sequence[StoredFile]) -> None:
        """Tell the index. If it cannot be told the files are there all the same, and are read again."""
        try:
            self._reading.note_folder(files[0].path.parent)
            self.shelf.write(files)
        except sqlite3.Error as error:
            logger.error("the index could not be written library=%s reason=%s", self.library, error)

    def put(
        self,
        source: BinaryIO,
        filename: str,
        *,
        folder: str | None,
        overwrite: bool,
        content: Callable[[Staged], Mapping[str, Any]],
        max_bytes: int,
        check: Callable[[str], None] = lambda _: None,
    ) -> StoredFile:
        """Take an uploaded file in; `content` makes its companion. It keeps its bytes, and its name if that is one
        of audio, else gets the extension of what it is. `check` is asked of its path, before and after it is listened
        to, and may raise.

        Raises InvalidPath, NameTaken, InvalidAudio, UnsupportedAudio, FileTooLarge, StorageFull.
        """
        if len(relative_parts(filename)) > 1:
            raise InvalidPath(f"{filename!a} is not a file name: name the folder apart")
        target = f"{'/'.join(relative_parts(folder))}/{filename}" if folder else filename
        self.folder(folder)
        if is_audio(filename):
            self._refuse_if_taken(self.locate(target), overwrite)
        check(self._reading.relative(self.locate(target)))
        with self.stage(source, max_bytes) as staged:
            if not is_audio(filename):
                target = f"{target}.{staged.facts.format}"
            path = self.locate(target)
            self._refuse_twins(path)
            return self.place(
                {target: staged},
                content(staged),
                overwrite=overwrite,
                check=partial(check, self._reading.relative(path)),
            )[0]

    # Changing

    def change(
        self,
        file: StoredFile,
        change: Callable[[dict[str, Any]], Mapping[str, Any]],
        *,
        folder: str | None = None,
        moves: bool = False,
    ) -> StoredFile:
        """Write what `change` makes of the file's companion, and move both to `folder` (None: the root) if it `moves`.

        Raises FileMissing, NameTaken, InvalidPath.
        """
        with self._lock:
            file = self.get(file.relative)
            content = dict(change(self.full_companion(file)))
            target = self.folder(folder) / file.filename if moves else file.path
            self._set_aside_what_nobody_can_read(file.path)
            if target == file.path:
                write_atomically(self._companions.path(file.path), as_json(content))
            else:
                self._move(file.path, target, content)
            moved = self._reading.described(target, file.facts, file.content_hash, content.get("quality"), content)
            if moved.relative != file.relative:
                self.shelf.forget([file.relative])
            self._note([moved])
            return moved

    def _move(self, path: Path, target: Path, content: Mapping[str, Any]) -> None:
        self._refuse_if_taken(target, overwrite=False, hint="")
        self._refuse_twins(target)
        companion = self._companions.path(target)
        pending = companion.with_name(PENDING_PREFIX + companion.name)
        with self._made(target.parent):
            write_atomically(pending, as_json(content))
            with self._leaving(self._companions.path(path)):
                try:
                    path.rename(target)
                except BaseException:
                    pending.unlink(missing_ok=True)
                    raise
                pending.replace(companion)

    @contextmanager
    def _leaving(self, companion: Path) -> Iterator[None]:
        """The companion goes if its recording does meanwhile, and stays if that fails; a crash changes nothing."""
        leaving = companion.with_name(LEAVING_PREFIX + companion.name)
        with suppress(FileNotFoundError):
            companion.replace(leaving)
        try:
            yield
        except BaseException:
            with suppress(FileNotFoundError):
                leaving.replace(companion)
            raise
        leaving.unlink(missing_ok=True)

    def _set_aside_what_nobody_can_read(self, path: Path) -> None:
        """A companion that somebody wrote a fault into holds his words all the same."""
        companion = self._companions.path(path)
        if companion.exists() and read_json(companion) is None:
            names = (f"{companion.name}.broken{number}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
            aside = next(path for path in map(companion.with_name, names) if not path.exists())
            companion.replace(aside)
            logger.warning("companion set aside library=%s name=%a", self.library, aside.name)

    # Removing

    def delete(self, relative: str) -> list[str]:
        """Remove one file; its companion goes along when nothing else needs it. Raises InvalidPath, FileMissing."""
        path = self.locate(relative)
        if not (is_audio(path.name) and path.is_file()):
            raise FileMissing(f"there is no file named {relative} in {self.library}/")
        return self._remove([self._reading.relative(path)])

    def delete_matching(self, selection: Selection, *, with_folder: bool) -> list[str]:
        """Remove all that meet the selection; their paths. With its folder, if it names one and nothing is left there.

        Raises InvalidPath.
        """
        folder = self.folder(selection.folder) if selection.folder else None
        paths = [file.relative for file in self.shelf.select(selection)]
        if folder is None or not with_folder or selection != Selection(folder=selection.folder):
            return self._remove(paths)
        below = f"{self._reading.relative(folder)}/"
        removed = self._remove([*paths, *(path for path, _ in self.broken() if path.startswith(below))])
        self._remove_folder(folder)
        return removed

    def _remove(self, paths: Sequence[str]) -> list[str]:
        removed = []
        for relative in paths:
            path = self._root / relative
            with self._lock:
                if lies_in(self._root, path) and path.exists():
                    companion = self._companions.path(path)
                    others = [other for other in self._reading.described_by(companion) if other != path]
                    with nullcontext() if any(other.exists() for other in others) else self._leaving(companion):
                        path.unlink(missing_ok=True)
                    removed.append(relative)
                self.shelf.forget([relative])
        return removed

    def _remove_folder(self, folder: Path) -> None:
        """The folder and its sub-folders, as far as nobody keeps anything in them."""
        self._remove_empty(Path(inner) for inner, _, _ in os.walk(folder, topdown=False))

    @contextmanager
    def _made(self, folder: Path) -> Iterator[None]:
        """The folder is there. Left by an exception, whatever was made for it goes, unless somebody keeps something in
        it: whoever holds the store's lock until it does is safe."""
        with self._lock:
            missing = [path for path in (folder, *folder.parents) if self._root in path.parents and not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            self._remove_empty(missing)
            raise

    def _remove_empty(self, folders: Iterable[Path]) -> None:
        """Those of the folders in which nobody keeps anything; inner ones come first."""
        for folder in folders:
            with self._lock, suppress(OSError):
                folder.rmdir()
                self.shelf.forget_folder(self._reading.relative(folder))

    def _refuse_twins(self, path: Path) -> None:
        """What differs in case alone is one file on many systems, and could not be restored there."""
        relative = self._reading.relative(path)
        for other in self.shelf.stemmed(path.stem):
            if other.relative != relative and other.relative.casefold() == relative.casefold() and other.path.exists():
                raise NameTaken(f"{other.relative} is there already, which differs from {path.name} in case alone")

    def _refuse_if_taken(self, path: Path, overwrite: bool, hint: str = "; overwrite=true replaces it") -> None:
        if path.is_dir():
            raise InvalidPath(f"{path.name} is a folder")
        if path.exists() and not overwrite:
            raise NameTaken(f"{self._reading.relative(path)} is there already{hint}")


def _copied(source: BinaryIO, file: BinaryIO, max_bytes: int, reserve_bytes: int, folder: Path) -> str:
    """Copy block by block; the SHA-256 of what was copied, in hex. Raises FileTooLarge, StorageFull."""
    digest = hashlib.sha256()
    source.seek(0)
    while block := source.read(COPIED_AT_ONCE):
        digest.update(block)
        if file.tell() + len(block) > max_bytes:
            raise FileTooLarge(f"the file has more than {max_bytes // 1_000_000} MB")
        require_free_space(folder, len(block), reserve_bytes)
        file.write(block)
    file.flush()
    return digest.hexdigest()
