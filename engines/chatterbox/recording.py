"""Work on an NVIDIA device recorded as a CUDA graph: launched at once instead of operation by operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import torch

WARM_UPS = 2  # after which the libraries have made what they make on first use

# While one thread records, torch lets no other replay; and some of its settings are those of the whole process. A
# variant is loaded in another thread than the one that speaks.
exclusive = threading.RLock()


class Recording:
    """Work that was recorded. To repeat it reads and writes the tensors that the work did."""

    def __init__(self, work: Callable[[], object], device: torch.device, pool: Any = None) -> None:
        """The work is done some times meanwhile. What it raises passes through.

        `pool`, of torch.cuda.graph_pool_handle(), is memory that several recordings share for what they need while
        they run, one after the other.
        """
        self._graph = torch.cuda.CUDAGraph()
        with exclusive:
            here, aside = torch.cuda.current_stream(device), _aside(device)
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    work()
                aside.synchronize()
                self._capture(work, pool)
            here.wait_stream(aside)

    def _capture(self, work: Callable[[], object], pool: Any) -> None:
        # torch.cuda.graph would empty the allocator's cache first, which costs the requests under way dearly.
        self._graph.capture_begin(*([] if pool is None else [pool]), capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with suppress(RuntimeError):  # which a capture that has failed raises too
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    def repeat(self) -> None:
        with exclusive:
            self._graph.replay()


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """Where everything is recorded: memory that was taken on one stream is of no use on another."""
    return torch.cuda.Stream(device)
