"""What the server uses of its machine, and what its libraries hold."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from management.store import AudioStore
from monitoring.health import resource_status, system_info

CPU_MEASURED_S = 0.1


def resources(stores: Iterable[AudioStore], reserve_bytes: int) -> dict[str, Any]:
    """Bytes of disk and memory, load of the processor, size of each library. Takes 0.1 s: call it from a thread."""
    stores = list(stores)
    machine, used = system_info(), resource_status(stores[0].root)
    return {
        "disk": {
            "total_bytes": used["disk_total_bytes"],
            "free_bytes": used["disk_free_bytes"],
            "reserve_bytes": reserve_bytes,
        },
        "memory": {
            "total_bytes": machine["memory_total_bytes"],
            "available_bytes": used["memory_available_bytes"],
            "server_bytes": used["process_memory_bytes"],
            "engine_bytes": _children_bytes(),
        },
        "cpu": _cpu(machine["cpu_count"]),
        "libraries": {store.library: _holdings(store) for store in stores},
    }


def _holdings(store: AudioStore) -> dict[str, int]:
    """The folders are those below the root; what is not listed is audio by name that cannot be used."""
    files, size = store.totals()
    return {
        "files": files,
        "bytes": size,
        "folders": sum(1 for folder in store.folders() if folder.path),
        "not_listed": len(store.broken()),
    }


def _children_bytes() -> int:
    """Memory of the engine process, and of whatever it has started."""
    import psutil

    total = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            total += child.memory_info().rss
    return total


def _cpu(count: int | None) -> dict[str, Any]:
    import psutil

    load_1m, load_5m, load_15m = psutil.getloadavg()
    return {
        "count": count,
        "percent": psutil.cpu_percent(CPU_MEASURED_S),
        "load_1m": round(load_1m, 2),
        "load_5m": round(load_5m, 2),
        "load_15m": round(load_15m, 2),
    }
