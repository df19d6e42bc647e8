"""Short recordings to fill libraries with, and what tests of the libraries share."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from config.settings import StorageSettings
from management.libraries import Libraries
from management.store import AudioStore
from management.stored import Page, Selection

PATIENCE_S = 10.0
MAX_BYTES = 10_000_000


def tone(hz: float = 440, duration_s: float = 0.3, container: str = "WAV", sample_rate: int = 8000) -> bytes:
    """A tone of 16-bit samples; one of another pitch has as many bytes, and others."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hz * time_s), sample_rate, format=container)
    return file.getvalue()


def opened(data_dir: Path) -> Libraries:
    return Libraries(StorageSettings(min_free_mb=0), data_dir)


def drop(path: Path, content: bytes) -> Path:
    """What a person copies into a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(store: AudioStore, sort_by: str = "name", descending: bool = False, **criteria: Any) -> Page:
    return store.page(Selection(**criteria), sort_by=sort_by, descending=descending, page=1, page_size=100)


def listed(store: AudioStore, **criteria: Any) -> list[str]:
    return [file.relative for file in found(store, **criteria).files]


def on_disk(root: Path) -> list[str]:
    """Every file below the folder, hidden ones too."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What the calls return, or the exceptions that they raise; all begin at the same moment, each in a thread."""
    line = threading.Barrier(count)

    def run(number: int) -> Any:
        line.wait()
        return call(number)

    with ThreadPoolExecutor(count) as threads:
        calls = [threads.submit(run, number) for number in range(count)]
    return [call.exception() or call.result() for call in calls]


def comes_true(claim: Callable[[], bool], within_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True
