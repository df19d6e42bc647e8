"""The threads that compute a step together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

Job = Callable[..., None]  # (worker, workers, sync, *arguments): returns when all its workers are done


class Team:
    """`size` threads, the caller's among them. One job at a time; who comes meanwhile waits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._sync = np.zeros(16, np.int64)
        self._lock = threading.Lock()
        self._desks: list[queue.SimpleQueue[tuple[Job, tuple[Any, ...]]]] = []
        for worker in range(1, size):
            desk: queue.SimpleQueue[tuple[Job, tuple[Any, ...]]] = queue.SimpleQueue()
            self._desks.append(desk)
            threading.Thread(target=self._work, args=(worker, desk), daemon=True, name=f"team-{worker}").start()

    def run(self, job: Job, *arguments: Any) -> None:
        with self._lock:
            for desk in self._desks:
                desk.put((job, arguments))
            job(0, self.size, self._sync, *arguments)

    def _work(self, worker: int, desk: queue.SimpleQueue[tuple[Job, tuple[Any, ...]]]) -> None:
        while True:
            job, arguments = desk.get()
            job(worker, self.size, self._sync, *arguments)


@contextmanager
def torch_alone() -> Iterator[None]:
    """torch computes in this thread alone: its others would wait for more on the cores that the team wants."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def team() -> Team:
    """That of this process: as many threads as torch takes."""
    return Team(torch.get_num_threads())
