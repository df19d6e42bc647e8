"""Writing files so that a crash or a full disk leaves the old state or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path

from resilience.errors import StorageFull

TEMPORARY_PREFIX = ".tmp-"
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a temporary file beside it, on disk before it gets its name.

    Raises StorageFull when the disk or the quota is full; nothing is left behind then.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno in NO_SPACE:
            raise StorageFull("the disk is full; nothing was saved") from error
        raise


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
