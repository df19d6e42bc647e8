"""What is on the disk of a library, read into its index: at the start, when it is asked for, when it has changed."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from management.companions import Companions, content_hash, facts_in, is_same, named_in, read_json, recorded_in
from management.shelf import Shelf
from management.stored import BARE, StoredFile, is_audio
from resilience.errors import InvalidAudio, SpeechError
from utils.audio.analysis import AudioFacts
from utils.files.atomic import remove_strays
from utils.files.paths import relative_parts

logger = logging.getLogger(__name__)

PENDING_PREFIX = ".new-"  # a companion whose recordings are about to take their names
LEAVING_PREFIX = ".old-"  # a companion whose recording is about to go
REPORT_EVERY_S = 10.0
WRITTEN_AT_ONCE = 200


class Closed(Exception):
    """The libraries are being closed: nobody needs to know any more what is on the disk."""


class Reading:
    """Keeps the index of one library true. `lock` is held by whoever gives its files their names or takes them away."""

    def __init__(
        self, root: Path, shelf: Shelf, companions: Companions, longest_s: float, lock: threading.RLock
    ) -> None:
        self._root = root
        self._shelf = shelf
        self._companions = companions
        self._longest_s = longest_s
        self._lock = lock
        self._is_closed = threading.Event()

    def close(self) -> None:
        """End what goes on: `refresh` and `rescan` raise Closed from now on."""
        self._is_closed.set()

    def refresh(self, path: Path) -> None:
        """Look at one path again: a file, a companion or a folder that may have come, changed or gone."""
        if any(_is_passed_over(part) for part in path.relative_to(self._root).parts):
            return
        if path.is_dir() and self._is_its_own(path):
            self.rescan(path)
        elif is_audio(path.name):
            self._refresh_file(path)
        elif path.suffix == ".json":
            for described in self.described_by(path):
                self._refresh_file(described)
        elif not self._is_its_own(path) or not path.exists():
            self._shelf.forget_folder(self.relative(path))

    def rescan(self, folder: Path | None = None) -> None:
        """Look at everything below the folder again, or at the whole library. Listings go on meanwhile."""
        progress = _Progress(self._companions.library)
        top = folder or self._root
        found = set()
        for path, files, companions in _walked(top):
            found.add(self.relative(path))
            self._rescan_folder(path, files, companions, progress)
        self._shelf.note_folders(sorted(found))
        prefix = self.relative(top)
        for known in self._shelf.folders():
            below = not prefix or known.path == prefix or known.path.startswith(f"{prefix}/")
            if below and known.path not in found and not self._is_its_own(self._root / known.path):
                self._shelf.forget_folder(known.path)
        progress.done()

    def recover(self) -> None:
        """Finish or undo what a crash interrupted, and remove what it left. Walks the whole library."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                with self._lock:  # it may be another's work of this moment
                    if name.startswith(PENDING_PREFIX):
                        self._finish_arrival(Path(folder, name))
                    elif name.startswith(LEAVING_PREFIX):
                        self._finish_departure(Path(folder, name))
        if count := remove_strays(self._root):
            logger.info("strays removed library=%s count=%d", self._companions.library, count)

    def _finish_departure(self, leaving: Path) -> None:
        companion = leaving.with_name(leaving.name.removeprefix(LEAVING_PREFIX))
        content = read_json(leaving) or {}
        if any(path.exists() for path in self._named_in(content, companion)) and not companion.exists():
            leaving.replace(companion)
        else:
            leaving.unlink(missing_ok=True)
        logger.info("finished what a crash interrupted library=%s", self._companions.library)

    def _finish_arrival(self, pending: Path) -> None:
        companion = pending.with_name(pending.name.removeprefix(PENDING_PREFIX))
        if not pending.exists():
            return
        content = read_json(pending) or {}
        described = [(path, recorded_in(content, path.name)) for path in self._named_in(content, companion)]
        arrived = [path for path, recorded in described if recorded and is_same(path, recorded)]
        if described and len(arrived) == len(described):
            pending.replace(companion)
            logger.info("finished what a crash interrupted library=%s", self._companions.library)
            return
        pending.unlink()
        for path in arrived:
            path.unlink()
        logger.info("undid what a crash interrupted library=%s", self._companions.library)

    def _named_in(self, content: Mapping[str, Any], companion: Path) -> list[Path]:
        """The files that a companion tells of, or the one that its own name tells of."""
        name = self._companions.describes(companion.name)
        return [companion.with_name(one) for one in named_in(content) or ([name] if name else []) if is_audio(one)]

    def _rescan_folder(
        self, folder: Path, files: Mapping[str, str], companions: Mapping[str, str], progress: _Progress
    ) -> None:
        known = self._shelf.versions(self.relative(folder))
        broken = {Path(path).name: version for path, (version, _) in self._shelf.broken(self.relative(folder)).items()}
        changed = []
        for name, version in files.items():
            path = folder / name
            companion_version = companions.get(self._companions.path(path).name, "")
            if known.get(name) != (version, companion_version) and broken.get(name) != version:
                changed.append(path)
        gone = [folder / name for name in [*known, *broken] if name not in files]
        for start in range(0, len(changed), WRITTEN_AT_ONCE):
            batch = changed[start : start + WRITTEN_AT_ONCE]
            self._write([file for file in map(self._looked_at, batch) if file])
            progress.count(len(batch))
        for path in gone:
            self._refresh_file(path)

    def _refresh_file(self, path: Path) -> None:
        if file := self._looked_at(path):
            self._write([file])

    def _write(self, files: Sequence[StoredFile]) -> None:
        """Note the files, but for those that somebody changed since they were looked at: he has noted them himself."""
        with self._lock:
            still = [file for file in files if self._versions(file.path) == (file.version, file.companion_version)]
            for folder in {file.path.parent for file in still}:
                self.note_folder(folder)
            self._shelf.write(still)

    def _looked_at(self, path: Path) -> StoredFile | None:
        """The file, if the index is to know something new of it. That it is gone, or broken, is noted at once."""
        relative = self.relative(path)
        while True:
            self.check()
            version = ""
            try:
                with self._lock:  # whoever is placing it has the lock until the index knows it
                    version = _version(path)
                    if not version or not self._is_its_own(path):
                        self._shelf.forget([relative])
                        return None
                    if self.known(path) is not None:
                        return None
                    if (noted := self._shelf.broken_at(relative)) and noted[0] == version:
                        return None
                relative_parts(relative)
                return self._read(path)
            except FileNotFoundError:
                continue  # it went while it was read: the next look finds nothing
            except (SpeechError, OSError, ValueError, OverflowError) as error:  # of one file, which is none of the rest
                reason = error.message if isinstance(error, SpeechError) else "it cannot be read"
                with self._lock:
                    if version and _version(path) != version:
                        continue  # it was written meanwhile
                    logger.info("not listed library=%s path=%a reason=%s", self._companions.library, relative, error)
                    self._shelf.note_broken(relative, version, reason)
                return None

    def _read(self, path: Path) -> StoredFile:
        """The file as it is on disk, listened to unless its companion or the index know it. Raises InvalidAudio."""
        from utils.audio.analysis import listen

        versions = self._versions(path)
        content = read_json(self._companions.path(path))
        known = self._shelf.get(self.relative(path))
        if known and known.version == versions[0]:
            return self.described(path, known.facts, known.content_hash, _quality(known.about), content, versions)
        recorded = content and recorded_in(content, path.name)
        if recorded and (facts := facts_in(recorded)) and is_same(path, recorded, by_content=known is not None):
            quality = _quality(content or {})
            if quality or not self._companions.judges:
                return self.described(path, facts, str(recorded["content_hash"]), quality, content, versions)
        if not path.stat().st_size:
            raise InvalidAudio("the file is empty")
        if path.suffix.lower() == BARE:
            raise InvalidAudio("bare samples, and nothing says at which rate")
        heard = listen(path, self._longest_s, self.check, judge=self._companions.judges)
        return self.described(path, heard.facts, content_hash(path), heard.quality, content, versions)

    def check(self) -> None:
        """Raise Closed once nobody needs to know any more."""
        if self._is_closed.is_set():
            raise Closed

    def _is_its_own(self, path: Path) -> bool:
        """True if no link leads to the path: what has another name already is not listed a second time."""
        try:
            return path.resolve() == self._root.resolve() / path.relative_to(self._root) and path.exists()
        except (OSError, RuntimeError):
            return False

    def known(self, path: Path) -> StoredFile | None:
        """What the index says of the file, if that is still so."""
        known = self._shelf.get(self.relative(path))
        return known if known and (known.version, known.companion_version) == self._versions(path) else None

    def _versions(self, path: Path) -> tuple[str, str]:
        """Of a recording and its companion."""
        return _version(path), _version(self._companions.path(path))

    def described(
        self,
        path: Path,
        facts: AudioFacts,
        hexdigest: str,
        quality: Mapping[str, Any] | None,
        content: Mapping[str, Any] | None,
        versions: tuple[str, str] | None = None,
    ) -> StoredFile:
        """What the index is to know. `versions` are those of recording and companion before they were read."""
        version, companion_version = versions or self._versions(path)
        said = self._companions.read(content or {}, path)
        return StoredFile(
            relative=self.relative(path),
            path=path,
            size_bytes=path.stat().st_size,
            version=version,
            companion_version=companion_version,
            facts=facts,
            content_hash=hexdigest,
            description=replace(said, about={**said.about, "quality": quality}) if quality else said,
        )

    def described_by(self, companion: Path) -> list[Path]:
        """The files that a companion may belong to, whether they are there or not."""
        name = self._companions.describes(companion.name)
        if name is None:
            return []
        if is_audio(name):
            return [companion.with_name(name)]
        folder = "" if companion.parent == self._root else self.relative(companion.parent)
        known = {file.path for file in self._shelf.of_generation(folder, name)}
        content = read_json(companion) or {}
        return sorted(known | set(self._named_in(content, companion)))

    def note_folder(self, folder: Path) -> None:
        parts = folder.relative_to(self._root).parts
        self._shelf.note_folders(["/".join(parts[:count]) for count in range(1, len(parts) + 1)])

    def relative(self, path: Path) -> str:
        """Below the root, with slashes; empty for the root itself."""
        relative = path.relative_to(self._root).as_posix()
        return "" if relative == "." else relative


class _Progress:
    """Says in the log how far a long look has got."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._count = 0
        self._said_at = time.monotonic()

    def count(self, more: int) -> None:
        self._count += more
        if time.monotonic() - self._said_at > REPORT_EVERY_S:
            self._said_at = time.monotonic()
            logger.info("reading library=%s files=%d", self._library, self._count)

    def done(self) -> None:
        if self._count:
            logger.info("read library=%s files=%d", self._library, self._count)


def _walked(top: Path) -> Iterator[tuple[Path, dict[str, str], dict[str, str]]]:
    """Every folder below `top` with the versions of its audio files and of its companions. Links are not followed."""
    folders = [top]
    while folders:
        folder = folders.pop()
        files: dict[str, str] = {}
        companions: dict[str, str] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_passed_over(entry.name) or entry.is_symlink():
                        continue
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                    elif is_audio(entry.name) or entry.name.endswith(".json"):
                        found = files if is_audio(entry.name) else companions
                        with suppress(FileNotFoundError):  # it went meanwhile
                            found[entry.name] = _version_of(
                                Path(entry.path).stat()
                            )  # the entry's own lacks parts on Windows
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("folder not readable name=%a reason=%s", folder.name, error)
            continue
        yield folder, files, companions


def _is_passed_over(name: str) -> bool:
    """True for hidden names, and for those in an encoding that cannot be told."""
    return name.startswith(".") or (not name.isascii() and any("\ud800" <= part <= "\udfff" for part in name))


def _quality(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    quality = said.get("quality")
    return quality if isinstance(quality, dict) else None


def _version(path: Path) -> str:
    """What tells a file from the one that was there before; empty if there is none."""
    try:
        return _version_of(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
