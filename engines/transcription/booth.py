"""Where big listeners listen: a thread of their own, so that whoever waits can leave, with one model in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from engines.base import Cancellation, Cancelled
from engines.transcription.base import Check

IDLE_S = 15 * 60.0
_LOOK_S = 0.05  # how often those who wait look whether they still want to


@dataclass(frozen=True, slots=True)
class _Job:
    owner: object
    load: Callable[[], Any]
    hear: Callable[[Any, Check], list[str]]
    left: Cancellation = field(default_factory=Cancellation)
    heard: Future[list[str]] = field(default_factory=Future)


class Booth:
    """One thread and room for one model: the one that listened last stays loaded until another has to, or for
    `idle_s` without work. Its thread starts with the first work and ends with the process."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._owner: object = None
        self._model: Any = None

    def listen(
        self, owner: object, load: Callable[[], Any], hear: Callable[[Any, Check], list[str]], check: Check
    ) -> list[str]:
        """What `hear` returns for the model of `owner`, which `load` makes if it is not in memory.

        `check` is called here, 20 times a second; if it raises, this does at once. The check that `hear` is given
        raises Cancelled from then on.
        """
        check()
        job = _Job(owner, load, hear)
        self._open()
        self._jobs.put(job)
        try:
            while not wait([job.heard], _LOOK_S).done:
                check()
        finally:
            job.left.cancel()
        return job.heard.result()

    @property
    def owner(self) -> object:
        """Whose model is in memory, None if there is none."""
        return self._owner

    def _open(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="listen")
                self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                self._do(self._jobs.get(timeout=self._idle_s))
            except Empty:
                self._clear()

    def _do(self, job: _Job) -> None:
        try:
            job.left.check()
            if self._owner is not job.owner:
                self._clear()  # before the next one is loaded: there may be no room for two
                self._model, self._owner = job.load(), job.owner
            job.heard.set_result(job.hear(self._model, job.left.check))
        except Cancelled as left:
            job.heard.set_exception(left)
        except Exception as error:  # noqa: BLE001 - the outermost frame of the thread: it is raised where the work came from
            self._clear()
            job.heard.set_exception(error)

    def _clear(self) -> None:
        self._owner = self._model = None
