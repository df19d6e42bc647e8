from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import soundfile

from config.settings import StorageSettings
from management.libraries import Libraries
from management.resources import resources


def test_it_tells_disk_memory_load_and_what_each_library_holds(tmp_path: Path) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.ones(8000), 16_000, format="WAV")
    for name in ("a.wav", "b/c/d.wav"):
        path = libraries.voices.store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    libraries.voices.store.rescan()

    found = resources(libraries.stores, 256_000_000)
    libraries.close()

    size = 2 * len(file.getvalue())
    assert found["libraries"]["voices"] == {"files": 2, "bytes": size, "folders": 2, "not_listed": 0}
    assert found["libraries"]["outputs"] == {"files": 0, "bytes": 0, "folders": 0, "not_listed": 0}
    assert found["disk"]["total_bytes"] == shutil.disk_usage(tmp_path).total
    assert found["disk"]["reserve_bytes"] == 256_000_000
    assert 0 < found["memory"]["server_bytes"] < found["memory"]["total_bytes"] == psutil.virtual_memory().total
    assert found["cpu"]["count"] == os.cpu_count()
    assert 0 <= found["cpu"]["percent"] <= 100


def test_the_memory_of_the_engine_process_counts_apart(tmp_path: Path) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)
    before = resources(libraries.stores, 0)["memory"]["engine_bytes"]
    script = "import sys; held = bytearray(b'x') * 50_000_000; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = resources(libraries.stores, 0)["memory"]["engine_bytes"]
        child.communicate("")
    libraries.close()

    assert during - before > 45_000_000
