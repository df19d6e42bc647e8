"""Sees what people do to the files of the libraries by hand, and has the stores look there again."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from management.reading import Closed
from management.store import AudioStore

logger = logging.getLogger(__name__)

QUIET_MS = 200  # changes are looked at after so long without another
LONGEST_BATCH_MS = 1600
GROWING_S = 1.0  # a file that was written so lately may be a copy that goes on
PATIENCE_MS = 500  # without changes, until it is seen whether it is time for something else
POLLED_AT_MOST = 0.05  # share of the time that goes into looking through everything where nothing reports changes
SOONEST_S = 3.0
AFTER_A_FAILURE_S = 10.0
POLLED_FOR_S = 60.0


class Watcher:
    """A thread that reads the libraries once, then what the system reports as changed, and all again at times.

    The system reports nothing on many network folders, and nothing to those who watch too much: where it says so, the
    libraries are looked through again and again, as often as a twentieth of the time allows.
    """

    def __init__(self, stores: Sequence[AudioStore], rescan_s: float, renew_index: Callable[[], None]) -> None:
        self._stores = stores
        self._renew_index = renew_index
        self._rescan_s = rescan_s
        self._stopped = threading.Event()
        self.has_looked = False  # at everything, once
        self._thread = threading.Thread(target=self._run, name="library-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for store in self._stores:
            store.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except Closed:
                return
            except sqlite3.OperationalError as error:  # a full disk, or another process at it
                logger.warning("the index could not be written reason=%s", error)
                self._stopped.wait(AFTER_A_FAILURE_S)
            except sqlite3.DatabaseError as error:
                logger.error("the index is damaged, and made anew reason=%s", error)
                self._renew_index()
            except (OSError, RuntimeError) as error:  # watchfiles' own are RuntimeErrors
                logger.warning("changes made by hand are found by looking through the folders reason=%s", error)
                with suppress(Closed, sqlite3.Error):
                    self._poll()
            except Exception:  # a loop that must survive: without it no change by hand would ever be seen
                logger.exception("looking for changes made by hand failed")
                self._stopped.wait(AFTER_A_FAILURE_S)

    def _watch(self) -> None:
        """Returns when a library has become another folder, which nobody watches yet."""
        from watchfiles import watch

        roots = self._roots()
        with ExitStack() as held:
            for store in self._stores:
                _hold(store.root, held)
            self._see_changes(watch, roots)

    def _see_changes(self, watch: Callable[..., Iterator[set[tuple[Any, str]]]], roots: list[tuple[int, int]]) -> None:
        batches = watch(
            *(store.root for store in self._stores),
            watch_filter=lambda _, path: not Path(path).name.startswith("."),
            debounce=LONGEST_BATCH_MS,
            step=QUIET_MS,
            rust_timeout=PATIENCE_MS,
            yield_on_timeout=True,
            stop_event=self._stopped,
            raise_interrupt=False,
        )
        look_at = 0.0
        changed: set[Path] = set()
        for batch in batches:
            if time.monotonic() >= look_at:  # at first, too: what changes from now on is reported
                self._look_at_everything()
                look_at = time.monotonic() + self._rescan_s
            changed |= {Path(path) for _, path in batch}
            growing = {path for path in changed if _is_growing(path)}
            for path in sorted(changed - growing):
                for store in self._stores:
                    if path != store.root and path.is_relative_to(store.root):
                        store.refresh(path)
            changed = growing
            if self._roots() != roots:
                return

    def _roots(self) -> list[tuple[int, int]]:
        """Which folders the libraries are; one that was removed is made again."""
        for store in self._stores:
            store.root.mkdir(parents=True, exist_ok=True)
        return [(status.st_dev, status.st_ino) for status in (store.root.stat() for store in self._stores)]

    def _poll(self) -> None:
        """Returns when it is time to try again whether the system reports changes."""
        until = time.monotonic() + min(self._rescan_s, POLLED_FOR_S)
        while not self._stopped.is_set() and time.monotonic() < until:
            began_at = time.monotonic()
            self._look_at_everything()
            self._stopped.wait(max(SOONEST_S, (time.monotonic() - began_at) / POLLED_AT_MOST))

    def _look_at_everything(self) -> None:
        for store in self._stores:
            store.rescan()
        self.has_looked = True


def _hold(folder: Path, held: ExitStack) -> None:
    """Keep the folder open: while it is, no other can be given its number. Windows can do neither."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        held.callback(os.close, descriptor)


def _is_growing(path: Path) -> bool:
    try:
        return path.is_file() and abs(time.time() - path.stat().st_mtime) < GROWING_S
    except OSError:
        return False
