"""What the machine and the process look like from inside, for `/health`."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any


def warm_up() -> None:
    """Import what a first look would have to wait for."""
    import psutil  # noqa: F401


def system_info() -> dict[str, Any]:
    import psutil

    return {
        "platform": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "memory_total_bytes": psutil.virtual_memory().total,
    }


def resource_status(data_dir: Path) -> dict[str, Any]:
    """Bytes in use and left. Touches the disk: call it from a thread."""
    import psutil

    disk = shutil.disk_usage(next(path for path in (data_dir, *data_dir.parents) if path.exists()))
    memory = psutil.virtual_memory()
    return {
        "process_memory_bytes": psutil.Process().memory_info().rss,
        "memory_available_bytes": memory.available,
        "disk_free_bytes": disk.free,
        "disk_total_bytes": disk.total,
    }
