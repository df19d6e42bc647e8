"""Writing files so that a crash or a full disk leaves the old state or the new one, never half of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from resilience.errors import StorageFull

TEMPORARY_PREFIX = ".tmp-"
OURS = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}(\d{{1,10}})-([0-9a-f]{{8}})[0-9a-f]{{24}}")
THIS_PROCESS = uuid.uuid4().hex[:8]  # in a container the next server has the same number as this one
CLOCK_TOLERANCE_S = 2.0  # of the moment a process began, which systems know to the second
FORGOTTEN_AFTER_S = 86_400.0
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


def temporary_name(folder: Path) -> Path:
    """A name in `folder` that nothing has, and that tells the next start whether its file was given up."""
    return folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{THIS_PROCESS}{uuid.uuid4().hex[:24]}"


@contextmanager
def temporary(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty new file in `folder`, open for writing and reading, until `publish` gives it its name.

    What was not published is gone at the end. Raises StorageFull when the disk or the quota is full.
    """
    path = temporary_name(folder)
    try:
        with full_disk_told(), path.open("x+b") as file:
            yield file, path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def publish(file: BinaryIO, temporary_path: Path, path: Path) -> None:
    """Bring what was written to disk, close it, and let it take the place of `path`, which may exist.

    Raises StorageFull when the disk or the quota is full.
    """
    with full_disk_told():
        file.flush()
        os.fsync(file.fileno())
        file.close()  # Windows renames no open file
        temporary_path.replace(path)
        sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of `path` once it is whole and on disk; until then a temporary one.

    Left by an exception, it takes no place and nothing is left behind. Raises StorageFull when the disk or the quota
    is full.
    """
    with temporary(path.parent) as (file, temporary_path):
        yield file
        publish(file, temporary_path, path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def strays(root: Path, older_than_s: float = FORGOTTEN_AFTER_S) -> Iterator[Path]:
    """Temporary files below `root` that nobody will finish.

    Their process is gone, or another has its number by now. Of one whose writer cannot be told, or seems to live, it
    is assumed when it was not written for `older_than_s`; never of one that this process writes.
    """
    began_at = cache(_began_at)
    for folder, _, names in os.walk(root):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # published or given up meanwhile
                    if _is_stray(name, path.lstat().st_mtime, older_than_s, began_at):
                        yield path


def remove_strays(root: Path, older_than_s: float = FORGOTTEN_AFTER_S) -> int:
    """Delete the temporary files that a crash left below `root`, whatever their age; the count."""
    count = 0
    for path in strays(root, older_than_s):
        path.unlink(missing_ok=True)
        count += 1
    return count


def require_free_space(folder: Path, needed_bytes: int, reserve_bytes: int) -> None:
    """Raise StorageFull unless the disk keeps `reserve_bytes` free after `needed_bytes` more."""
    if shutil.disk_usage(folder).free < needed_bytes + reserve_bytes:
        raise StorageFull("too little disk space is left to save this; please free some")


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in it durable. Windows cannot open a folder and does not need to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_stray(name: str, written_at: float, older_than_s: float, began_at: Callable[[int], float | None]) -> bool:
    ours = OURS.fullmatch(name)
    if ours and int(ours[1]) == os.getpid():
        return ours[2] != THIS_PROCESS
    if time.time() - written_at > older_than_s:
        return True
    if not ours:
        return False
    writer_began_at = began_at(int(ours[1]))
    return writer_began_at is None or writer_began_at > written_at + CLOCK_TOLERANCE_S


def _began_at(pid: int) -> float | None:
    """When the process of that number began, in seconds of the epoch; None if there is none, 0 if it is a secret."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return 0.0


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Raise StorageFull where the system says that the disk or the quota is full."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StorageFull("the disk is full; nothing was saved") from error
        raise
