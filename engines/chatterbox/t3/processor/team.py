"""The threads that compute a step together."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from engines.chatterbox.t3.processor.compiled import forget, kept_for_us_alone

logger = logging.getLogger(__name__)

Job = Callable[..., None]  # (worker, workers, sync, *arguments): returns when all its workers are done
DAMAGED = (EOFError, OSError, pickle.PickleError, AttributeError, ImportError, IndexError, ValueError)


class Team:
    """`size` threads, the caller's among them. One job at a time; who comes meanwhile waits.

    A job raises nothing once it is compiled, and must not: the others would wait for the one that has left.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sync = np.zeros(16, np.int64)
        self._lock = threading.Lock()
        self._compiled: set[tuple[Any, ...]] = set()
        self._desks: list[queue.SimpleQueue[tuple[Job, tuple[Any, ...]]]] = []
        for worker in range(1, size):
            desk: queue.SimpleQueue[tuple[Job, tuple[Any, ...]]] = queue.SimpleQueue()
            self._desks.append(desk)
            threading.Thread(target=self._work, args=(worker, desk), daemon=True, name=f"team-{worker}").start()

    def run(self, job: Job, *arguments: Any) -> None:
        """Have the job done. The first time, with arguments of such types, the caller does it alone."""
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        types = (job, *((array.dtype, array.ndim) for array in arrays))
        with self._lock:
            if types not in self._compiled:
                self._compile(job, arguments)
                self._compiled.add(types)
                return
            for desk in self._desks:
                desk.put((job, arguments))
            job(0, self.size, self._sync, *arguments)

    def _compile(self, job: Job, arguments: tuple[Any, ...]) -> None:
        with kept_for_us_alone():
            try:
                job(0, 1, self._sync, *arguments)
            except DAMAGED as error:
                logger.warning("compiled code is damaged and made anew reason=%s", type(error).__name__)
                forget()
                job(0, 1, self._sync, *arguments)

    def _work(self, worker: int, desk: queue.SimpleQueue[tuple[Job, tuple[Any, ...]]]) -> None:
        while True:
            job, arguments = desk.get()
            job(worker, self.size, self._sync, *arguments)
            del job, arguments  # among them is the cache of keys and values, which may be let go before the next job


@cache
def team() -> Team:
    """That of this process: as many threads as torch takes."""
    return Team(torch.get_num_threads())
