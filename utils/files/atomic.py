"""Writing files so that a crash or a full disk leaves the old state or the new one, never half of it."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from resilience.errors import StorageFull

TEMPORARY_PREFIX = ".tmp-"
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of `path` once it is whole and on disk; until then a temporary one.

    Left by an exception, it takes no place and nothing is left behind. Raises StorageFull when the disk or the quota
    is full.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise StorageFull("the disk is full; nothing was saved") from error
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def remove_strays(root: Path, older_than_s: float = 3600) -> int:
    """Delete temporary files that a crash left below `root`; the count. Young ones may be another's work."""
    now = time.time()
    strays = [path for path in root.rglob(f"{TEMPORARY_PREFIX}*") if now - path.stat().st_mtime > older_than_s]
    for stray in strays:
        stray.unlink(missing_ok=True)
    return len(strays)


def require_free_space(folder: Path, needed_bytes: int, reserve_bytes: int) -> None:
    """Raise StorageFull unless the disk keeps `reserve_bytes` free after `needed_bytes` more."""
    if shutil.disk_usage(folder).free < needed_bytes + reserve_bytes:
        raise StorageFull("too little disk space is left to save this; please free some")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable. Windows cannot open a folder and does not need to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
