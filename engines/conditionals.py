"""Prepared voices, kept so that a recording is listened to once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress

from engines.base import Cancellation, Cancelled, Conditionals

LOOK_INTERVAL_S = 0.05  # how often one who waits looks at its own cancellation


class ConditionalsCache:
    """Prepared voices by key, within a number of bytes; the least recently used leave first. Safe from any thread.

    The key names all that the value depends on: the recording's content hash and the engine's own settings.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Conditionals] = OrderedDict()
        self._kept_bytes = 0
        self._under_way: dict[str, Future[Conditionals]] = {}

    def get(self, key: str, prepare: Callable[[], Conditionals], cancellation: Cancellation) -> Conditionals:
        """The voice for `key`, prepared in this thread if no other has it or is at it.

        Threads that ask for a voice while it is prepared wait for it and share its failure; a failure is not kept, so
        the next to ask tries again. If `prepare` is left by `Cancelled`, that is its caller's alone: one of those who
        wait prepares anew. Raises Cancelled within `LOOK_INTERVAL_S` of one's own cancellation while waiting;
        `prepare` looks at it by itself. A voice larger than the whole cache is returned and not kept.
        """
        while True:
            cancellation.check()
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
                others = self._under_way.get(key)
                if others is None:
                    mine: Future[Conditionals] = Future()
                    self._under_way[key] = mine
            if others is None:
                return self._prepare(key, prepare, mine)
            if wait([others], LOOK_INTERVAL_S).done:
                with suppress(Cancelled):
                    return others.result()

    def _prepare(self, key: str, prepare: Callable[[], Conditionals], mine: Future[Conditionals]) -> Conditionals:
        try:
            value = prepare()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self._keep(key, value)
            del self._under_way[key]
        mine.set_result(value)
        return value

    @property
    def size_bytes(self) -> int:
        """What the kept voices take, as they say themselves."""
        with self._lock:
            return self._kept_bytes

    def _keep(self, key: str, value: Conditionals) -> None:
        if value.size_bytes > self._max_bytes:
            return
        self._kept[key] = value
        self._kept_bytes += value.size_bytes
        while self._kept_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size_bytes
