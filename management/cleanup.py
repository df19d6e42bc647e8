"""Housekeeping: what is broken, left over or too much goes from the libraries, each file with its reason in the log."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from config.settings import CleanupSettings
from management.companions import read_json
from management.store import AudioStore
from management.stored import BARE, is_audio
from resilience.errors import FileMissing, InvalidAudio, InvalidPath, ServiceOverloaded, UnusableAudio
from utils.files.atomic import strays

logger = logging.getLogger(__name__)

YOUNG_S = 60.0
LISTED = 1000  # removals that a report names
RETRY_AFTER_S = 10
ASKED_EVERY_S = 0.5
NOT_JUDGED = (BARE, ".mp4", ".webm")  # nobody can tell bare samples from noise; films may have no sound
MEGABYTE = 1_000_000
MOST_OF_A_HEAD = 4096  # bytes before the samples

Reason = Literal["empty", "not decodable", "temporary", "companion of nothing", "over the limit"]
Trigger = Literal["start", "schedule", "request"]


class HasStores(Protocol):
    @property
    def stores(self) -> Iterable[AudioStore]: ...
    @property
    def is_read(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Removal:
    """`path` is below the root of the library."""

    library: str
    path: str
    reason: Reason
    bytes: int


@dataclass(slots=True)
class Report:
    """What one clean-up removed, or would remove. The list has the first of them, the counts have all."""

    trigger: Trigger
    dry_run: bool
    started_at: datetime
    finished_at: datetime | None = None
    took_s: float = 0.0
    removed: list[Removal] = field(default_factory=list)
    removed_count: int = 0
    freed_bytes: int = 0

    def add(self, removal: Removal) -> None:
        self.removed_count += 1
        self.freed_bytes += removal.bytes
        if len(self.removed) < LISTED:
            self.removed.append(removal)


@dataclass(frozen=True, slots=True)
class Status:
    """`next_run_at` is None where no schedule runs."""

    is_running: bool
    last_run: Report | None
    next_run_at: datetime | None


class Cleanup:
    """Cleans the libraries when it is asked to, at the start, and every few hours: one clean-up at a time.

    `now` tells the time that files are compared with, in seconds of the epoch.
    """

    def __init__(self, libraries: HasStores, settings: CleanupSettings, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._libraries = libraries
        self._now = now
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._schedule: asyncio.Task[None] | None = None
        self._last: Report | None = None
        self._next_run_at: datetime | None = None

    def status(self) -> Status:
        return Status(self._running.locked(), self._last, self._next_run_at)

    def start(self) -> None:
        """Begin the schedule, with a clean-up now if the settings say so. Call it on the event loop."""
        self._schedule = asyncio.create_task(self._keep_clean())

    async def close(self) -> None:
        """End the schedule, and wait until a clean-up that runs has left its libraries alone."""
        self._stopping.set()
        if self._schedule:
            self._schedule.cancel()
            await asyncio.gather(self._schedule, return_exceptions=True)
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        with self._running:
            pass

    async def _keep_clean(self) -> None:
        if self.settings.at_start:
            while not self._libraries.is_read:  # noqa: ASYNC110 - a thread knows; before it does, nothing is broken
                await asyncio.sleep(ASKED_EVERY_S)
            await self._run_alone("start")
        while self.settings.interval_h:
            pause = timedelta(hours=self.settings.interval_h)
            self._next_run_at = datetime.now(UTC) + pause
            await asyncio.sleep(pause.total_seconds())
            await self._run_alone("schedule")

    async def _run_alone(self, trigger: Trigger) -> None:
        try:
            await asyncio.to_thread(self.run, trigger=trigger)
        except ServiceOverloaded:
            logger.info("clean-up left out trigger=%s reason=one is running", trigger)
        except Exception:
            logger.exception("clean-up failed trigger=%s", trigger)

    def run(self, *, dry_run: bool = False, trigger: Trigger = "request") -> Report:
        """Clean up, or with `dry_run` tell what would be removed. Call it from a thread.

        Raises ServiceOverloaded while another one runs.
        """
        if self._stopping.is_set():
            raise ServiceOverloaded("the server is stopping", retry_after_s=RETRY_AFTER_S)
        if not self._running.acquire(blocking=False):
            raise ServiceOverloaded("a clean-up is running already", retry_after_s=RETRY_AFTER_S)
        try:
            report = self._clean(dry_run, trigger)
            if not dry_run:
                self._last = report
            return report
        finally:
            self._running.release()

    def _clean(self, dry_run: bool, trigger: Trigger) -> Report:
        report = Report(trigger, dry_run, datetime.now(UTC))
        began = time.monotonic()
        for store in self._libraries.stores:
            for found in self._rubbish(store, at_start=trigger == "start"):
                if self._stopping.is_set():
                    break
                if dry_run or _removed(store, found):
                    report.add(found)
        report.took_s = time.monotonic() - began
        report.finished_at = datetime.now(UTC)
        logger.info(
            "clean-up trigger=%s dry_run=%s removed=%d bytes=%d took_s=%.3f",
            *(trigger, dry_run, report.removed_count, report.freed_bytes, report.took_s),
        )
        return report

    def _rubbish(self, store: AudioStore, *, at_start: bool) -> Iterator[Removal]:
        for path in strays(store.root):
            yield from self._old_enough(store, path, "temporary")
        if at_start and store.library == "outputs":  # where no companion holds what a person wrote
            for path in _lonely_companions(store):
                yield from self._old_enough(store, path, "companion of nothing")
        if self.settings.broken_files:
            for relative, _ in store.broken():
                path = store.root / relative
                if reason := _fault(path):
                    yield from self._old_enough(store, path, reason)
        yield from self._too_much(store)

    def _too_much(self, store: AudioStore) -> Iterator[Removal]:
        limits = {"outputs": self.settings.max_outputs_mb, "vc_inputs": self.settings.max_vc_inputs_mb}
        limit = limits.get(store.library, 0) * MEGABYTE
        surplus = store.totals()[1] - limit
        if not limit or surplus <= 0:
            return
        for file in store.oldest():
            if surplus <= 0:
                break
            for removal in self._old_enough(store, file.path, "over the limit"):
                surplus -= removal.bytes
                yield removal

    def _old_enough(self, store: AudioStore, path: Path, reason: Reason) -> Iterator[Removal]:
        """The removal, unless somebody may be at the file."""
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                return
            is_young = self._now() - status.st_mtime < YOUNG_S and reason != "temporary"
            if not is_young and not store.is_in_use(path):
                yield Removal(store.library, path.relative_to(store.root).as_posix(), reason, status.st_size)


def _removed(store: AudioStore, found: Removal) -> bool:
    """Remove it, and say so. False if it went by itself, or would not go."""
    path = store.root / found.path
    try:
        if is_audio(path.name):
            _remove_recording(store, path, found.path)
        else:
            path.unlink()
    except (FileMissing, FileNotFoundError):
        return False
    except OSError as error:
        logger.warning("not removed library=%s reason=%s path=%a", found.library, error.strerror, found.path)
        return False
    logger.info(
        "removed library=%s reason=%s bytes=%d path=%a",
        *(found.library, found.reason.replace(" ", "-"), found.bytes, found.path),
    )
    return True


def _remove_recording(store: AudioStore, path: Path, relative: str) -> None:
    try:
        store.delete(relative)
    except InvalidPath:  # a name that somebody gave it by hand, and that no client may use
        path.unlink()
        store.refresh(path)


def _fault(path: Path) -> Reason | None:
    """Why nobody could ever hear anything in a file; None if somebody could, or if it cannot even be read.

    What is too long, too short or too unusual for us is somebody's recording all the same. A head without samples is
    empty, but not a large file in which we find none: there we may be wrong.
    """
    from utils.audio.decode import blocks, open_recording

    try:
        if not path.stat().st_size:
            return "empty"
        if path.suffix.lower() in NOT_JUDGED:
            return None
        with open_recording(path) as opened:
            is_silent = next(blocks(opened, lambda: None, 1), None) is None
            return "empty" if is_silent and path.stat().st_size <= MOST_OF_A_HEAD else None
    except UnusableAudio:
        return None
    except InvalidAudio:
        return "not decodable"
    except OSError:  # of the disk, which says nothing of the file
        return None


def _lonely_companions(store: AudioStore) -> Iterator[Path]:
    """Companions of our making whose recordings are gone."""
    for folder, _, names in os.walk(store.root):
        recordings = {name for name in names if is_audio(name)}
        stems = {Path(name).stem for name in recordings}
        for name in names:
            described = name.removesuffix(".json")
            if name != described and not name.startswith(".") and described not in recordings | stems:
                path = Path(folder, name)
                if _is_ours(path, recordings):
                    yield path


def _is_ours(path: Path, recordings: set[str]) -> bool:
    """True for JSON as a library writes it, that tells of no recording beside it."""
    if path.is_symlink():
        return False
    content = read_json(path) or {}
    audio, files = content.get("audio"), content.get("files")
    if isinstance(audio, dict) and "content_hash" in audio:
        return is_audio(path.name.removesuffix(".json"))
    if not isinstance(files, list) or not files or "created_date" not in content:
        return False
    return all(isinstance(file, dict) and "filename" in file for file in files) and not any(
        file["filename"] in recordings for file in files
    )
