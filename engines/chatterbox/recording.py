"""Work on an NVIDIA device recorded as a CUDA graph: launched at once instead of operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WARM_UPS = 2  # after which the libraries have made what they make on first use


def record(work: Callable[[], object], device: torch.device, pool: Any = None) -> torch.cuda.CUDAGraph:
    """The work as a graph, which reads and writes the tensors that the work did; it is done some times meanwhile.

    Other threads may use the device, but not the tensors. `pool`, of torch.cuda.graph_pool_handle(), is memory that
    several graphs share for what they need while they run, one after the other.
    """
    here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    graph = torch.cuda.CUDAGraph()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work()
        aside.synchronize()
        # torch.cuda.graph would empty the allocator's cache first, which costs the requests under way dearly.
        graph.capture_begin(*([] if pool is None else [pool]), capture_error_mode="thread_local")
        work()
        graph.capture_end()
    here.wait_stream(aside)
    return graph
